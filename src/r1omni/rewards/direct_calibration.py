"""What a reasoned answer is worth beside the answer without reasoning: slow judged by fast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from r1omni.rewards.accuracy import label_set_in_force
from r1omni.rewards.registry import register
from r1omni.text.answers import Answer, read_answers
from r1omni.text.emotions import LabelSet
from r1omni.types import UsageError


@register("direct_calibration", needs_labels=True)
def direct_calibration(
    completions: list[str],
    labels: list[str | None],
    *,
    direct_confidence: list[Mapping[str, float] | None],
    label_set: list[str | None] | None = None,
    ended: list[bool] | None = None,
    **columns: list[Any],
) -> list[float | None]:
    """1 for a right answer; for a wrong one what the direct answer leaves open, at most 1/2.

    With p the shares of the emotions when the policy answers at once, after an empty reasoning, the
    label y and the reasoned answer a,

        1 if a = y, else min(p(a), p(y))

    A mistake costs most where the direct answer is sure: of the label, so that reasoning talked the
    policy out of what it had seen (p(a) is small), or of the mistake itself, which reasoning should
    have found (p(y) is small). It costs least, 1/2, where the direct answer is torn between the
    two. A mistake that nothing in the direct answer speaks for earns nothing. That reasoned answers
    are calibrated by direct ones is the idea of MER-R1 (arXiv 2606.27652); the formula is our own.

    Where p is right about the odds, the likeliest class is still the best answer: with q = p the
    expected reward of a is q(a) + sum over y other than a of q(y) min(q(a), q(y)), which grows with
    q(a). No p makes a mistake worth more than half a right answer.

    What does not work is to pay the difference between right and p(y): it is the same p(y) for all
    completions of a group, so that comparing them takes it away. For the same reason it does not
    pay a policy to move p. 0 for a malformed completion and for an answer outside the label set;
    None without a label.

    Args:
        completions: completions of the policy.
        labels: class names; None for a clip without one.
        direct_confidence: for each completion the share of each emotion in the direct answer.
        label_set: for each completion, a name in `LABEL_SETS` whose merged emotions count as
            one, or None.
        ended: for each completion whether an end token closed it; None takes all as ended.
        columns: ignored.

    Raises:
        UsageError: an unknown label set, a label outside the taxonomy, or no confidence for a clip
            with a label.
    """
    names = [None] * len(completions) if label_set is None else label_set
    return [
        None if label is None else _worth(answer, label, shares, label_set_in_force(name))
        for answer, label, shares, name in zip(
            read_answers(completions, ended), labels, direct_confidence, names, strict=True
        )
    ]


def _worth(
    answer: Answer, label: str, shares: Mapping[str, float] | None, labels: LabelSet
) -> float:
    wanted = labels.counted(label)
    if wanted is None:
        raise UsageError(f"label {label!r} names no class of the taxonomy")
    if shares is None:
        raise UsageError(
            "direct_confidence is None for a clip with a label; score with the policy, as training "
            "does (training/advantages.py), or give the shares of its direct answer"
        )
    named = labels.counted(answer.word)
    if named is None or not answer.format_ok:
        return 0.0
    if named == wanted:
        return 1.0
    return min(_share(shares, named, labels.merges), _share(shares, wanted, labels.merges))


def _share(shares: Mapping[str, float], emotion: str, merges: Mapping[str, str]) -> float:
    """The share of an emotion, with those that count as it."""
    return sum(share for other, share in shares.items() if merges.get(other, other) == emotion)
