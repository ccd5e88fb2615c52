"""Records written by hand, for tests of what is made from them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from r1omni.recordings.records import Record, Recording
from r1omni.recordings.segments import segments, summary


def record(
    start_s: float,
    end_s: float,
    label: str | None = "happy",
    score: float = 0.9,
    other: str = "sad",
    **fields: object,
) -> Record:
    """A record that gives its label `score`, and `other` the rest; without a label no scores."""
    scores = {} if label is None else {label: score, other: 1 - score}
    return Record(
        path=str(fields.pop("path", "clip.mp4")),
        start_s=start_s,
        end_s=end_s,
        label=label,
        scores=scores,
        **fields,  # type: ignore[arg-type]
    )


def recording(path: str, records: Sequence[Record], is_complete: bool = True) -> Recording:
    records = [
        replace(one, is_last=is_complete and place == len(records))
        for place, one in enumerate(records, start=1)
    ]
    found = segments(records)
    return Recording(path, tuple(records), found, summary(path, records, found))


def random_records(seed: int) -> list[Record]:
    """Spans that touch, overlap, repeat, enclose each other or leave gaps, of some speakers."""
    rng = random.Random(seed)
    labels = ["happy", "sad", "angry", None]
    made = []
    for _ in range(rng.randint(1, 25)):
        start_s = rng.choice([rng.uniform(0, 20), float(rng.randint(0, 20))])
        end_s = start_s + rng.choice([1.0, 2.5, 5.0, rng.uniform(0.01, 9)])
        score = rng.uniform(0.4, 1.0)
        speaker = rng.choice([None, "Anna", "Ben"])
        made.append(record(start_s, end_s, rng.choice(labels), score, "fear", speaker=speaker))
    if rng.random() < 0.3:
        made.append(Record("clip.mp4", error="broke off"))
    return made
