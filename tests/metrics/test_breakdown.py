"""Recognition by part of a set, worked by hand."""

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
    assert list(found) == ["sex", "intensity", "speaker"]
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
    assert "speaker" not in breakdown(without, LABELS)


def test_a_speaker_is_a_part_whose_clips_are_resampled() -> None:
    found = breakdown(records(), LABELS)["speaker"]
    assert {name: (part.n, part.war) for name, part in found.items()} == {
        "a": (3, 2 / 3), "b": (1, 0.0), "c": (1, 1.0)
    }  # fmt: skip
    assert found["a"].num_groups is None and found["a"].war_interval == (0.0, 1.0)


def test_numbers_are_put_into_bins() -> None:
    numbers = {
        "duration_s": (0.0, 1.99, 2.0, 10.0, None),
        "loudness_db": (-90.0, -40.0, -39.9, -20.0, 0.0),
        "face_px": (10, 48, 200, 192, 95.9),
    }
    rows = [
        {**record, **{name: values[k] for name, values in numbers.items()}}
        for k, record in enumerate(records())
    ]
    found = breakdown(rows, LABELS)
    sizes = {f: {value: part.n for value, part in found[f].items()} for f in numbers}
    assert sizes == {
        "duration_s": {"under 2 s": 2, "2 to 5 s": 1, "10 s or more": 1},
        "loudness_db": {"under -40 dB": 1, "-40 to -30 dB": 2, "-20 dB or more": 2},
        "face_px": {"under 48 px": 1, "48 to 96 px": 2, "192 px or more": 2},
    }


def test_languages_in_their_order() -> None:
    rows = [
        {**r, "language": lang} for r, lang in zip(records(), "de en de de -".split(), strict=True)
    ]
    assert {value: part.n for value, part in breakdown(rows, LABELS)["language"].items()} == {
        "-": 1, "de": 3, "en": 1
    }  # fmt: skip


def test_what_is_too_small_to_say() -> None:
    """Fewer than 30 clips, or than five speakers."""

    def told(num_clips: int, num_speakers: int | None) -> str | None:
        answer = {"label": "sad", "prediction": "sad", "sex": "male"}
        groups = [
            None if num_speakers is None else f"s{k % num_speakers}" for k in range(num_clips)
        ]
        rows = [{**answer, "group": group} for group in groups]
        return breakdown(rows, LABELS, num_bootstrap=0)["sex"]["male"].too_small

    assert told(29, None) == "29 clips, fewer than 30" and told(30, None) is None
    assert told(40, 4) == "4 speakers, fewer than 5" and told(40, 5) is None
    assert told(40, 1) == "1 speaker, fewer than 5"


def test_the_smallest_part_is_named() -> None:
    found = breakdowns({"a": {"full": records()}}, {"a": "ravdess"})
    assert found["smallest_part"] == {"a": {"full": {"field": "sex", "value": "male", "n": 1}}}
    alone = [{**record, "sex": None, "intensity": None} for record in records()]
    found = breakdowns({"a": {"full": alone}}, {"a": "ravdess"})
    assert found["smallest_part"]["a"]["full"] == {"field": "speaker", "value": "b", "n": 1}


def test_sets_that_know_nothing_are_left_out() -> None:
    unknown = [{**record, "sex": None, "intensity": None, "group": None} for record in records()]
    keys = ("label", "prediction", "group")
    older = [{key: record[key] for key in keys} | {"group": None} for record in records()]
    unlabelled = [{**record, "label": None} for record in records()]
    sets = {"a": {"full": unknown}, "b": {"full": older}, "c": {"full": unlabelled}}
    names = dict.fromkeys("abcd", "ravdess")
    assert breakdowns(sets, names) == {}
    found = breakdowns({**sets, "d": {"muted": records()}}, names)["breakdown"]
    assert found.keys() == {"d"} and found["d"].keys() == {"muted"}
    assert found["d"]["muted"]["sex"]["male"]["war"] == 1.0
