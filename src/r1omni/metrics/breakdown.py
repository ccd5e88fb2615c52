"""How well emotions are recognised in parts of a test set: by what is known of speaker and take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from r1omni.metrics.recognition import evaluate_recognition
from r1omni.metrics.resampling import Interval, Record, groups_of
from r1omni.text.emotions import LABEL_SETS
from r1omni.types import INTENSITIES, SEXES

# Fields of a record -> the values that divide a set.
FIELDS: Mapping[str, tuple[str, ...]] = {"sex": SEXES, "intensity": INTENSITIES}


@dataclass(frozen=True)
class Part:
    """Recognition among the clips of one value. Shares lie between 0 and 1.

    Attributes:
        n: clips.
        num_groups: units of resampling (speakers), or None where clips are resampled.
        war: weighted average recall.
        uar: unweighted average recall, over the classes that this part has.
        war_interval: 95% bootstrap interval; None for fewer than two units.
        uar_interval: the same for `uar`.
    """

    n: int
    num_groups: int | None
    war: float
    uar: float
    war_interval: Interval | None
    uar_interval: Interval | None


def breakdown(
    records: Sequence[Record], labels: tuple[str, ...], num_bootstrap: int = 1000, seed: int = 0
) -> dict[str, dict[str, Part]]:
    """Recognition by field, then by value; a field that no record knows is left out.

    Args:
        records: of `predictions/<set>.<condition>.jsonl`, labelled. Those that do not know a field
            are in none of its parts.
        labels: classes of the label set.
        num_bootstrap: resamples; 0 for no intervals.
        seed: of the resampling.
    """
    found: dict[str, dict[str, Part]] = {}
    for field, values in FIELDS.items():
        for value in values:
            members = [record for record in records if record.get(field) == value]
            if members:
                part = _part(members, labels, num_bootstrap, seed)
                found.setdefault(field, {})[value] = part
    return found


def _part(
    records: Sequence[Record], labels: tuple[str, ...], num_bootstrap: int, seed: int
) -> Part:
    groups = groups_of(records)
    predictions = [record["prediction"] for record in records]
    result = evaluate_recognition(
        predictions,
        [record["label"] for record in records],
        labels,
        # Neither is told here; the whole set's figures have them.
        format_ok=[False] * len(records),
        answered=[prediction is not None for prediction in predictions],
        groups=groups,
        num_bootstrap=num_bootstrap,
        seed=seed,
    )
    return Part(
        n=result.n,
        num_groups=None if groups is None else len(set(groups)),
        war=result.war,
        uar=result.uar,
        war_interval=result.war_interval,
        uar_interval=result.uar_interval,
    )


def breakdowns(
    records: Mapping[str, Mapping[str, Sequence[Record]]], label_sets: Mapping[str, str]
) -> dict[str, Any]:
    """`breakdown` of every set and condition, as `results.json` has it; {} where nothing is known.

    Args:
        records: by test set, then by condition; those without a label are left out.
        label_sets: name of the label set of each test set.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, conditions in records.items():
        labels = LABEL_SETS[label_sets[name]].labels
        for condition, rows in conditions.items():
            fields = breakdown([row for row in rows if row["label"] is not None], labels)
            if fields:
                found.setdefault(name, {})[condition] = {
                    field: {value: asdict(part) for value, part in parts.items()}
                    for field, parts in fields.items()
                }
    return {"breakdown": found} if found else {}
