"""What a judge thinks of the explanations in predictions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from r1omni.judging import Case, Judge, JudgeConfig, Judgement
from r1omni.metrics.open_vocabulary import answered_word
from r1omni.metrics.predictions import Answers
from r1omni.metrics.resampling import groups_of, mean_interval

# As other figures of a set are resampled.
_NUM_BOOTSTRAP = 1000


def judge_predictions(answers: Sequence[Answers], config: JudgeConfig) -> dict[str, Any]:
    """Have a judge grade every well-formed reasoning, and add its grade to the record.

    Of a system that writes no completions, a reasoning that it gives is well-formed.

    Records get `judge_score`, 0 to 1 or None, and `judge_failed` where it failed to give one.

    Args:
        answers: whose records are changed.
        config: the judge.

    Returns:
        what `results.json` holds of it: `judge`, set -> condition -> figures, and
        `judge_settings`.

    Raises:
        RunStopped: the budget is spent, or too many judgements fail; what was judged is kept.
        UsageError: settings that cannot be used.
    """
    judge = Judge(config)
    found: dict[str, dict[str, Any]] = {}
    for one in answers:
        judged = asyncio.run(_judge_file(judge, one.records))
        found.setdefault(one.name, {})[one.condition] = judged
    return {"judge": found, "judge_settings": config.as_dict()}


async def _judge_file(judge: Judge, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    formed = [record for record in records if _is_formed(record)]
    judgements = await judge.judge([_case(record) for record in formed])
    for record, judgement in zip(formed, judgements, strict=True):
        record["judge_score"] = judgement.score
        if judgement.failed:
            record["judge_failed"] = judgement.failed
    for record in records:
        if not _is_formed(record):
            record["judge_score"] = 0.0  # as the reward has it; the judge is not asked
    return _figures(records, judgements)


def _is_formed(record: Mapping[str, Any]) -> bool:
    return bool(record["reasoning"] if record["text"] is None else record["format_ok"])


def _case(record: Mapping[str, Any]) -> Case:
    return Case(
        record["reasoning"], answered_word(record), record.get("modality"), record["label"],
        record.get("open_labels"), record.get("reference"),
    )  # fmt: skip


def _figures(
    records: Sequence[Mapping[str, Any]], judgements: Sequence[Judgement]
) -> dict[str, Any]:
    """Counts of a file, and the mean grade with its 95% bootstrap interval.

    `n` answers are `judged`, `malformed` (graded 0, unasked), `failed` (no grade), or
    `not_applicable`: they lack what the template shows. The mean is over the first two.
    """
    graded = [record for record in records if record["judge_score"] is not None]
    scores = np.array([record["judge_score"] for record in graded], dtype=np.float64)
    failed = sum(bool(judgement.failed) for judgement in judgements)
    return {
        "n": len(records),
        "judged": sum(judgement.score is not None for judgement in judgements),
        "malformed": len(records) - len(judgements),
        "failed": failed,
        "not_applicable": len(records) - len(graded) - failed,
        "mean": float(scores.mean()) if len(scores) else None,
        "interval": mean_interval(scores, groups_of(graded), _NUM_BOOTSTRAP, 0)
        if len(scores)
        else None,
    }
