"""How much answers depend on the media: what changes when one is taken away or exchanged.

Pure functions over the records of two conditions, paired by sample. No model is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from r1omni.metrics.resampling import Interval, Record, groups_of, mean_interval
from r1omni.types import UsageError


@dataclass(frozen=True)
class Dependence:
    """A condition against the full input, over the same samples.

    Attributes:
        n: samples.
        changed: share of samples whose answer is another than with the full input. An answer that
            cannot be read is one of its own.
        changed_interval: its 95% bootstrap interval; None for fewer than two units.
        num_scored: samples whose answer with the full input is among the scored emotions, under
            both.
        score_change: over these, the mean of how the score of the full-input answer changes, score
            under the condition minus score with the full input; None for no such sample.
        score_change_interval: its 95% bootstrap interval.
    """

    n: int
    changed: float
    changed_interval: Interval | None
    num_scored: int
    score_change: float | None
    score_change_interval: Interval | None

    def to_dict(self) -> dict[str, Any]:
        """As what JSON knows."""
        return asdict(self)


def dependence(
    full: Sequence[Record],
    changed: Sequence[Record],
    *,
    prefix: str = "",
    condition: str = "another condition",
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> Dependence:
    """Compare the answers under a condition with those to the full input.

    Args:
        full: labelled records of `predictions/<set>.full.jsonl`.
        changed: records of the same set under another condition, in any order.
        prefix: "" for the answers in `prediction` and `scores`, "direct_" for the direct ones.
        condition: of `changed`, for messages.
        num_bootstrap: resamples; 0 for no intervals.
        seed: of the resampling.

    Raises:
        UsageError: no record, or a sample that is not in both.
    """
    others = {record["sample_id"]: record for record in changed}
    if not full or others.keys() != {record["sample_id"] for record in full}:
        raise UsageError(
            f"full and {condition} of a set have answers to other samples ({len(full)} and "
            f"{len(others)}), not of the same ids, so they cannot be compared; score the two files "
            "one by one"
        )
    pairs = [(record, others[record["sample_id"]]) for record in full]
    answer, scores = f"{prefix}prediction", f"{prefix}scores"
    groups = groups_of(full)
    differs = np.array([float(one[answer] != other[answer]) for one, other in pairs])
    scored = [
        index
        for index, (one, other) in enumerate(pairs)
        if all(one[answer] in record.get(scores, ()) for record in (one, other))
    ]
    changes = np.array(
        [
            other[scores][one[answer]] - one[scores][one[answer]]
            for one, other in (pairs[index] for index in scored)
        ]
    )
    options = num_bootstrap, seed
    scored_groups = None if groups is None else [groups[index] for index in scored]
    return Dependence(
        n=len(pairs),
        changed=float(differs.mean()),
        changed_interval=mean_interval(differs, groups, *options),
        num_scored=len(scored),
        score_change=float(changes.mean()) if scored else None,
        score_change_interval=mean_interval(changes, scored_groups, *options) if scored else None,
    )


def dependences(conditions: Mapping[str, Sequence[Record]]) -> dict[str, dict[str, Dependence]]:
    """`dependence` of every condition but "full", by condition, then for "answer" and "direct".

    Empty without records of the full input. "answer" is what the model wrote, "direct" the direct
    answers; each is there where both conditions have such answers.

    Args:
        conditions: records by condition; those without a label, and of clips that could not be
            decoded, are left out.
    """
    known = {
        c: [r for r in rows if r["label"] is not None and not r.get("unreadable")]
        for c, rows in conditions.items()
    }
    full = known.pop("full", [])
    found: dict[str, dict[str, Dependence]] = {}
    for condition, rows in known.items():
        if not full or not rows:
            continue
        both = (*full, *rows)
        found[condition] = {}
        if not any(r.get("answer_mode") == "direct" for r in both):
            found[condition]["answer"] = dependence(full, rows, condition=condition)
        if all("direct_prediction" in r for r in both):
            found[condition]["direct"] = dependence(
                full, rows, prefix="direct_", condition=condition
            )
    return found
