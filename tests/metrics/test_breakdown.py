"""Recognition by sex and intensity, worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from r1omni.metrics.breakdown import breakdown, breakdowns
from r1omni.metrics.resampling import interval

LABELS = ("neutral", "happy", "sad")
# label, answer, speaker, sex, intensity
ANSWERS = (
    ("neutral", "neutral", "a", "female", "normal"),
    ("happy", "happy", "a", "female", "normal"),
    ("happy", "sad", "a", "female", "strong"),
    ("happy", None, "b", "female", "strong"),
    ("sad", "sad", "c", "male", None),
)


def records(answers: tuple[tuple[Any, ...], ...] = ANSWERS) -> list[dict[str, Any]]:
    keys = ("label", "prediction", "group", "sex", "intensity")
    return [dict(zip(keys, answer, strict=True)) for answer in answers]


def test_each_part_by_hand() -> None:
    found = breakdown(records(), LABELS)
    assert list(found) == ["sex", "intensity"]
    women, men = found["sex"]["female"], found["sex"]["male"]
    # Of the classes that women's clips have, neutral is right always and happy once in three.
    assert (women.n, women.num_groups, women.war, women.uar) == (4, 2, 0.5, 2 / 3)
    assert (men.n, men.num_groups, men.war, men.uar) == (1, 1, 1.0, 1.0)
    assert men.war_interval is None  # one speaker cannot be resampled
    normal, strong = found["intensity"]["normal"], found["intensity"]["strong"]
    assert (normal.n, strong.n) == (2, 2)  # one clip says nothing of it
    assert (normal.war, strong.war, strong.uar) == (1.0, 0.0, 0.0)


def test_intervals_are_over_speakers() -> None:
    drawn = np.random.default_rng(0).integers(2, size=(1000, 2))
    clips, right = np.array([3, 1]), np.array([2, 0])
    expected = interval(right[drawn].sum(axis=1) / clips[drawn].sum(axis=1))
    assert breakdown(records(), LABELS)["sex"]["female"].war_interval == expected
    without = [{**record, "group": None} for record in records()]
    assert breakdown(without, LABELS)["sex"]["female"].num_groups is None


def test_sets_that_know_nothing_are_left_out() -> None:
    unknown = [{**record, "sex": None, "intensity": None} for record in records()]
    older = [{k: v for k, v in r.items() if k not in ("sex", "intensity")} for r in records()]
    unlabelled = [{**record, "label": None} for record in records()]
    sets = {"a": {"full": unknown}, "b": {"full": older}, "c": {"full": unlabelled}}
    names = dict.fromkeys("abcd", "ravdess")
    assert breakdowns(sets, names) == {}
    found = breakdowns({**sets, "d": {"muted": records()}}, names)["breakdown"]
    assert found.keys() == {"d"} and found["d"].keys() == {"muted"}
    assert found["d"]["muted"]["sex"]["male"]["war"] == 1.0
