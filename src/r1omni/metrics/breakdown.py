"""How well emotions are recognised in parts of a test set: by what is known of speaker and take.

Ages, skin tones and the like are in no data set that is read here, so there are no parts by them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import isfinite
from typing import Any

from r1omni.metrics.recognition import evaluate_recognition
from r1omni.metrics.resampling import Interval, Record, groups_of
from r1omni.text.emotions import LABEL_SETS
from r1omni.types import INTENSITIES, SEXES

# Fields of a record with a fixed set of values.
FIELDS: Mapping[str, tuple[str, ...]] = {"sex": SEXES, "intensity": INTENSITIES}
# Numbers of a record -> their unit, and where one part ends and the next begins.
BINS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "duration_s": ("s", (2, 5, 10)),
    "loudness_db": ("dB", (-40, -30, -20)),
    "face_px": ("px", (48, 96, 192)),
}
SPEAKER = "speaker"
# A part with less says too little: 30 clips leave a share of one half open by 18 points either way,
# and of few speakers the bootstrap is too sure.
MIN_CLIPS, MIN_SPEAKERS = 30, 5


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
        too_small: why the part says too little, or None.
    """

    n: int
    num_groups: int | None
    war: float
    uar: float
    war_interval: Interval | None
    uar_interval: Interval | None
    too_small: str | None = None


def breakdown(
    records: Sequence[Record], labels: tuple[str, ...], num_bootstrap: int = 1000, seed: int = 0
) -> dict[str, dict[str, Part]]:
    """Recognition by field, then by value; a field that no record knows is left out.

    Args:
        records: of `predictions/<set>.<condition>.jsonl`, labelled. Those that do not know a field
            are in none of its parts.
        labels: classes of the label set.
        num_bootstrap: resamples; 0 for no intervals. Speakers are resampled, and the clips of a
            single speaker for the part that is that speaker.
        seed: of the resampling.
    """
    found: dict[str, dict[str, Part]] = {}
    for field, value, members in _parts(records):
        groups = None if field == SPEAKER else groups_of(members)
        found.setdefault(field, {})[value] = _part(members, groups, labels, num_bootstrap, seed)
    return found


def _parts(records: Sequence[Record]) -> Iterator[tuple[str, str, list[Record]]]:
    """Field, value and clips of every part that has some; values in their own order."""
    for field, values in FIELDS.items():
        yield from _by_value(field, values, [record.get(field) for record in records], records)
    for field, key in ((SPEAKER, "group"), ("language", "language")):
        known = [record.get(key) for record in records]
        yield from _by_value(field, sorted({v for v in known if v is not None}), known, records)
    for field, (unit, edges) in BINS.items():
        names = (
            f"under {edges[0]} {unit}",
            *(f"{a} to {b} {unit}" for a, b in pairwise(edges)),
            f"{edges[-1]} {unit} or more",
        )
        numbers = [record.get(field) for record in records]
        placed = [None if n is None else names[bisect_right(edges, n)] for n in numbers]
        yield from _by_value(field, names, placed, records)


def _by_value(
    field: str, values: Sequence[str], placed: Sequence[str | None], records: Sequence[Record]
) -> Iterator[tuple[str, str, list[Record]]]:
    for value in values:
        members = [record for record, own in zip(records, placed, strict=True) if own == value]
        if members:
            yield field, value, members


def _part(
    records: Sequence[Record],
    groups: Sequence[str] | None,
    labels: tuple[str, ...],
    num_bootstrap: int,
    seed: int,
) -> Part:
    predictions = [record["prediction"] for record in records]
    result = evaluate_recognition(
        predictions,
        [record["label"] for record in records],
        labels,
        # Neither is told here; the whole set's figures have them.
        format_ok=None,
        answered=[prediction is not None for prediction in predictions],
        groups=groups,
        num_bootstrap=num_bootstrap,
        seed=seed,
    )
    num_groups = None if groups is None else len(set(groups))
    return Part(
        n=result.n,
        num_groups=num_groups,
        war=result.war,
        uar=result.uar,
        war_interval=result.war_interval,
        uar_interval=result.uar_interval,
        too_small=_too_small(result.n, num_groups),
    )


def _too_small(n: int, num_groups: int | None) -> str | None:
    if n < MIN_CLIPS:
        return f"{n} clip{'s' * (n != 1)}, fewer than {MIN_CLIPS}"
    if num_groups is not None and num_groups < MIN_SPEAKERS:
        return f"{num_groups} speaker{'s' * (num_groups != 1)}, fewer than {MIN_SPEAKERS}"
    return None


def smallest_part(parts: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> tuple[str, str, int]:
    """Field, value and clips of the smallest part, as `breakdowns` has parts; the first of equal.

    Single speakers are left out where anything else divides the set: one of them always would be.
    """
    divided = [field for field in parts if field != SPEAKER] or list(parts)
    sizes = [(part["n"], field, value) for field in divided for value, part in parts[field].items()]
    n, field, value = min(sizes, key=lambda size: size[0])
    return field, value, n


def wrong_part_fields(record: Record) -> list[str]:
    """The fields of a record that say of speaker and take what they cannot say."""
    wrong = [key for key, values in FIELDS.items() if record.get(key) not in (None, *values)]
    if not isinstance(record.get("language"), str | None) or record.get("language") == "":
        wrong.append("language")
    for key in BINS:
        value = record.get(key)
        if value is None:
            continue
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not isfinite(value) or (key != "loudness_db" and value < 0):
            wrong.append(key)
    return wrong


def breakdowns(
    records: Mapping[str, Mapping[str, Sequence[Record]]], label_sets: Mapping[str, str]
) -> dict[str, Any]:
    """`breakdown` of every set and condition, as `results.json` has it; {} where nothing is known.

    Args:
        records: by test set, then by condition; those without a label are left out.
        label_sets: name of the label set of each test set.
    """
    found: dict[str, dict[str, Any]] = {}
    smallest: dict[str, dict[str, Any]] = {}
    for name, conditions in records.items():
        labels = LABEL_SETS[label_sets[name]].labels
        for condition, rows in conditions.items():
            fields = breakdown([row for row in rows if row["label"] is not None], labels)
            if fields:
                plain = {
                    field: {value: asdict(part) for value, part in parts.items()}
                    for field, parts in fields.items()
                }
                found.setdefault(name, {})[condition] = plain
                told = dict(zip(("field", "value", "n"), smallest_part(plain), strict=True))
                smallest.setdefault(name, {})[condition] = told
    return {"breakdown": found, "smallest_part": smallest} if found else {}
