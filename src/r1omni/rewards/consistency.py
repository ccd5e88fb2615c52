"""Whether the reasoning supports the answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from r1omni.options import at_least, check_number
from r1omni.rewards.accuracy import merged_emotions
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


def _agreement(
    answer: Answer, name: str | None, max_concluded: int, max_named: int
) -> float | None:
    merges = merged_emotions(name)
    if not answer.format_ok:
        return 0.0
    if not named_emotions(answer.reasoning).concluded:
        return None
    found = verdict(answer.reasoning, answer.emotion, merges, max_concluded, max_named)
    return float(found == "supported")
