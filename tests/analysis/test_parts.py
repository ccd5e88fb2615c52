"""The arithmetic behind the report, worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from r1omni.analysis.clips import choose_clips, wave_of
from r1omni.analysis.curves import smooth
from r1omni.analysis.recall import wilson_interval
from r1omni.analysis.runs import chance


def test_chance_from_row_sums() -> None:
    # 3, 1 and 0 clips of three classes; "other" is no class.
    confusion = [[1, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]
    found = chance({"confusion": confusion, "labels": ["a", "b", "c"]})
    assert found.majority == (0.75, 0.5)
    assert found.uniform == (pytest.approx(1 / 3), pytest.approx(1 / 3))


def test_wilson_interval() -> None:
    # Newcombe (1998), table I: 81 of 263.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(0, 10)[0] == 0.0
    assert wilson_interval(10, 10)[1] == pytest.approx(1.0)


def test_smoothing_keeps_a_line_and_calms_noise() -> None:
    line = [0.5 * i for i in range(50)]
    assert smooth(line) == pytest.approx(line)
    assert smooth([3.0]) == [3.0]
    noisy = [(-1.0) ** i for i in range(200)]
    assert np.abs(smooth(noisy)[20:-20]).max() < 0.1


def test_a_waveform_of_any_length_can_be_drawn() -> None:
    for length in (0, 1, 7, 16_000):
        wave = wave_of(-0.5 * np.ones(length, dtype=np.float32), 16_000)
        assert wave.seconds == length / 16_000
        assert len(wave.reaches) == 180 and sum(wave.reaches) == min(length, 180)


def records(rights: list[bool]) -> dict[str, dict[str, Any]]:
    return {
        f"s/{i}": {"label": "sad" if i % 2 else "happy", "prediction": None, "index": i}
        | ({"prediction": "sad" if i % 2 else "happy"} if right else {})
        for i, right in enumerate(rights)
    }


def test_chosen_clips_show_agreement_and_disagreement() -> None:
    subject = {"s": records([True] * 10 + [False] * 10)}
    baseline = {"s": records([True, False] * 10)}
    chosen = choose_clips(subject, baseline, 4)
    assert [clip.kind for clip in chosen] == [
        (True, False),
        (False, True),
        (True, True),
        (False, False),
    ]
    assert len({clip.sample_id for clip in chosen}) == 4
    assert chosen == choose_clips(subject, baseline, 4)


def test_fewer_clips_than_wanted_are_all_chosen() -> None:
    subject = {"s": records([True, True, True]), "t": {}}
    chosen = choose_clips(subject, {"s": records([True, True, False]), "t": {}}, 12)
    assert [clip.kind for clip in chosen] == [(True, False), (True, True), (True, True)]


def test_sets_take_turns() -> None:
    one = records([True] * 20)
    chosen = choose_clips({"a": one, "b": one}, {"a": one, "b": one}, 5)
    assert [clip.test_set for clip in chosen] == ["a", "a", "a", "b", "b"]
