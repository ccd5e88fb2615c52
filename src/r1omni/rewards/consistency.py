"""Whether the reasoning supports the answer, and whether a right answer is supported."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from r1omni.options import at_least, check_number
from r1omni.rewards.accuracy import accuracy, label_set_in_force
from r1omni.rewards.registry import register
from r1omni.text.answers import Answer, read_answers
from r1omni.text.reasoning import MAX_CONCLUDED, MAX_NAMED, named_emotions, verdict


def _check(options: Mapping[str, Any], columns: Collection[str]) -> None:
    for name in ("max_concluded", "max_named"):
        check_number(name, options.get(name, 1), at_least(1), int)


@register("consistency", check=_check)
def consistency(
    completions: list[str],
    labels: list[str | None],
    *,
    label_set: list[str | None] | None = None,
    ended: list[bool] | None = None,
    max_concluded: int = MAX_CONCLUDED,
    max_named: int = MAX_NAMED,
    **columns: list[Any],
) -> list[float | None]:
    """1 where the answer is an emotion that the reasoning concludes with, else 0.

    The conclusion is what the last sentence that claims an emotion claims, or the last that says
    that it concludes; "not happy" and "no sign of anger" claim nothing. It is read as evaluation
    reads it (`verdict` in `text/reasoning.py`). Not the majority of the words decides: a reasoning
    may weigh other emotions first, and a majority is bought by repeating a word. Emotions are
    compared after aliases.

    0 also for a malformed completion, and for a reasoning that would support any answer: one
    that claims more than `max_named` emotions in all or concludes with more than
    `max_concluded`. None for a well-formed completion whose reasoning claims no emotion: there
    is nothing to agree with. In a sum of rewards that is worth as little as 0, so it does not
    pay to keep silent. Whether the answer is right is no matter here; use it beside `accuracy`,
    with a smaller weight. Reasonings in other languages than English claim nothing.

    Args:
        completions: completions of the policy.
        labels: ignored.
        label_set: for each completion, a name in `LABEL_SETS` whose merged emotions count as
            one, or None.
        ended: for each completion whether an end token closed it; None takes all as ended.
        max_concluded: option; most emotions of a conclusion.
        max_named: option; most emotions of a reasoning.
        columns: ignored.

    Raises:
        UsageError: an unknown label set.
    """
    names = [None] * len(completions) if label_set is None else label_set
    return [
        _agreement(answer, name, max_concluded, max_named)
        for answer, name in zip(read_answers(completions, ended), names, strict=True)
    ]


@register("supported_accuracy", needs_labels=True, check=_check)
def supported_accuracy(
    completions: list[str],
    labels: list[str | None],
    *,
    label_set: list[str | None] | None = None,
    ended: list[bool] | None = None,
    max_concluded: int = MAX_CONCLUDED,
    max_named: int = MAX_NAMED,
    **columns: list[Any],
) -> list[float | None]:
    """1 where the answer is the label and the reasoning concludes with it, else 0.

    It is what evaluation calls right for the right reason: the product of `accuracy` and
    `consistency`, where silence counts as 0. A right answer that the reasoning does not support
    earns nothing, so that an answer can only get better by way of the reasoning; and a reasoning
    earns nothing by agreeing with a mistake, as it does from `consistency`. Our own; use it in
    place of `accuracy`.

    Args:
        completions: completions of the policy.
        labels: class names; None for a clip without one, which earns None.
        label_set: as for `accuracy`.
        ended: as for `accuracy`.
        max_concluded: option; as for `consistency`.
        max_named: option; as for `consistency`.
        columns: ignored.

    Raises:
        UsageError: an unknown label set, or a label outside the taxonomy.
    """
    right = accuracy(completions, labels, label_set=label_set, ended=ended)
    supported = consistency(
        completions, labels, label_set=label_set, ended=ended,
        max_concluded=max_concluded, max_named=max_named,
    )  # fmt: skip
    return [
        None if one is None else one * (other or 0.0)
        for one, other in zip(right, supported, strict=True)
    ]


def _agreement(
    answer: Answer, name: str | None, max_concluded: int, max_named: int
) -> float | None:
    labels = label_set_in_force(name)
    if not answer.format_ok:
        return 0.0
    if not named_emotions(answer.reasoning, labels.aliases).concluded:
        return None
    emotion = labels.counted(answer.word)
    found = verdict(answer.reasoning, emotion, labels, max_concluded, max_named)
    return float(found == "supported")
