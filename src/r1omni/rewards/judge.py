"""What another model thinks of the reasoning; the one reward that is no pure function."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from r1omni.judging import Case, judge_of
from r1omni.judging.config import judge_config
from r1omni.rewards.registry import register
from r1omni.text.answers import read_answers


def _check(options: Mapping[str, Any], columns: Collection[str]) -> None:
    judge_config(options["judge"], "judge").key()


@register("judge", check=_check)
async def judge(
    completions: list[str],
    labels: list[str | None],
    *,
    judge: dict[str, Any],
    modality: list[str | None] | None = None,
    open_labels: list[str | list[str] | None] | None = None,
    references: list[str | None] | None = None,
    ended: list[bool] | None = None,
    **columns: list[Any],
) -> list[float | None]:
    """The grade of a judge, from 0 to 1 over its `score_range` (docs/judge.md).

    0 for a malformed completion, which the judge is not asked about. None where the template shows
    what the sample does not have, and where the judge failed, which it counts and, beyond
    `max_failed_ratio`, stops the run for. Grades are kept on disk by content, so the same question
    has the same answer, also in a run that is resumed.

    Args:
        completions: completions of the policy.
        labels: class names, for templates that show the label.
        judge: option; the settings of the judge, keys of `JudgeConfig`.
        modality, open_labels, references: for templates that show them.
        ended: for each completion whether an end token closed it; None takes all as ended.
        columns: ignored.

    Raises:
        UsageError: settings that cannot be used.
        RunStopped: the budget is spent, or too many judgements fail.
    """
    nothing: list[None] = [None] * len(completions)
    media, words, seen = modality or nothing, open_labels or nothing, references or nothing
    cases = {
        index: Case(
            answer.reasoning, answer.word, media[index], labels[index],
            _words(words[index]), seen[index],
        )
        for index, answer in enumerate(read_answers(completions, ended))
        if answer.format_ok
    }  # fmt: skip
    found = await judge_of(judge).judge(list(cases.values()))
    scores = dict(zip(cases, (one.score for one in found), strict=True))
    return [scores[index] if index in cases else 0.0 for index in range(len(completions))]


def _words(words: str | Sequence[str] | None) -> Sequence[str] | None:
    return [words] if isinstance(words, str) else words
