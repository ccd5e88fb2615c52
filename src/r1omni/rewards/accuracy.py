"""Whether the answer names the clip's emotion (R1-Omni, arXiv 2503.05379, section 2.3)."""

from __future__ import annotations

from typing import Any

from r1omni.rewards.registry import register
from r1omni.text.answers import Answer, read_answers
from r1omni.text.emotions import LABEL_SETS, LabelSet
from r1omni.types import UsageError


@register("accuracy", needs_labels=True)
def accuracy(
    completions: list[str],
    labels: list[str | None],
    *,
    label_set: list[str | None] | None = None,
    ended: list[bool] | None = None,
    **columns: list[Any],
) -> list[float | None]:
    """1 where a well-formed completion's answer is the label, else 0; None without a label.

    Answer and label are compared after aliases ("joy" is "happy") and after the merges of the
    label set in force (calm counted as neutral), as in evaluation. Unlike the published code, an
    answer outside well-formed tags, of a completion that was cut, or one word among others, earns
    nothing: see `parse_completion` and `LabelSet`.

    Args:
        completions: completions of the policy.
        labels: class names; None for a clip without one.
        label_set: for each completion, a name in `LABEL_SETS` whose merged emotions count as
            one, or None.
        ended: for each completion whether an end token closed it; None takes all as ended.
        columns: ignored.

    Raises:
        UsageError: an unknown label set, or a label outside the taxonomy.
    """
    names = [None] * len(completions) if label_set is None else label_set
    return [
        None if label is None else _matches(answer, label, label_set_in_force(name))
        for answer, label, name in zip(read_answers(completions, ended), labels, names, strict=True)
    ]


def label_set_in_force(name: str | None) -> LabelSet:
    """The label set of a name; the taxonomy, which merges nothing, where there is no name.

    Raises:
        UsageError: an unknown label set.
    """
    if name is not None and name not in LABEL_SETS:
        raise UsageError(f"label set {name!r} is unknown; use one of {', '.join(LABEL_SETS)}")
    return LABEL_SETS[name or "all"]


def _matches(answer: Answer, label: str, labels: LabelSet) -> float:
    expected = labels.counted(label)
    if expected is None:
        raise UsageError(f"label {label!r} names no class of the taxonomy")
    return float(answer.format_ok and labels.counted(answer.word) == expected)
