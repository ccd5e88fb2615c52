"""Whether the answer names the clip's emotion (R1-Omni, arXiv 2503.05379, section 2.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from r1omni.rewards.registry import register
from r1omni.text.answers import Answer, read_answers
from r1omni.text.emotions import LABEL_SETS, canonical
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
    nothing: see `parse_completion` and `canonical`.

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
        None if label is None else _matches(answer, label, merged_emotions(name))
        for answer, label, name in zip(read_answers(completions, ended), labels, names, strict=True)
    ]


def merged_emotions(label_set: str | None) -> Mapping[str, str]:
    """Emotion -> the one that it counts as; nothing where no label set is in force.

    Raises:
        UsageError: an unknown label set.
    """
    if label_set is None:
        return {}
    if label_set not in LABEL_SETS:
        raise UsageError(f"label set {label_set!r} is unknown; use one of {', '.join(LABEL_SETS)}")
    return LABEL_SETS[label_set].merges


def _matches(answer: Answer, label: str, merges: Mapping[str, str]) -> float:
    expected = canonical(label)
    if expected is None:
        raise UsageError(f"label {label!r} names no class of the taxonomy")
    named = answer.emotion
    if named is None or not answer.format_ok:
        return 0.0
    return float(merges.get(named, named) == merges.get(expected, expected))
