"""Whether the answer names the clip's emotion (R1-Omni, arXiv 2503.05379, section 2.3)."""

from __future__ import annotations

from typing import Any

from r1omni.rewards.registry import register
from r1omni.text.emotions import LABEL_SETS, LabelSet, canonical
from r1omni.text.tags import parse_completion
from r1omni.types import UsageError


@register("accuracy")
def accuracy(
    completions: list[str],
    labels: list[str | None],
    *,
    label_set: list[str | None] | None = None,
    **columns: list[Any],
) -> list[float | None]:
    """1 where a well-formed completion's answer is the label, else 0; None without a label.

    Answer and label are compared after aliases ("joy" is "happy"), through the label set in
    force where one is given. Unlike the published code, an answer outside well-formed tags, or
    one word among others, earns nothing: see `parse_completion` and `canonical`.

    Args:
        completions: completions of the policy.
        labels: class names; None for a clip without one.
        label_set: for each completion, a name in `LABEL_SETS` or None for the whole taxonomy.
        columns: ignored.

    Raises:
        UsageError: an unknown label set, or a label outside its label set.
    """
    names = [None] * len(completions) if label_set is None else label_set
    return [
        None if label is None else _matches(text, label, _label_set(name))
        for text, label, name in zip(completions, labels, names, strict=True)
    ]


def _label_set(name: str | None) -> LabelSet | None:
    if name is None:
        return None
    if name not in LABEL_SETS:
        raise UsageError(f"label set {name!r} is unknown; use one of {', '.join(LABEL_SETS)}")
    return LABEL_SETS[name]


def _matches(text: str, label: str, label_set: LabelSet | None) -> float:
    read = canonical if label_set is None else label_set.parse
    expected = read(label)
    if expected is None:
        where = "the taxonomy" if label_set is None else f"label set {label_set.name!r}"
        raise UsageError(f"label {label!r} names no class of {where}")
    parsed = parse_completion(text)
    return float(parsed.format_ok and read(parsed.answer) == expected)
