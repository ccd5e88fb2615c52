"""Calibration, modes of answering and dependence on the media, worked by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from r1omni.metrics.answer_modes import answer_modes, score_fields
from r1omni.metrics.calibration import NUM_BINS, calibrate, confidence_of
from r1omni.metrics.dependence import dependence, dependences
from r1omni.metrics.paired import MODE_FIGURES, paired_answers
from r1omni.metrics.reliability import reliability_svg
from r1omni.metrics.resampling import mean_interval, resampled_sums
from r1omni.text.emotions import LABEL_SETS
from r1omni.types import UsageError

DFEW = LABEL_SETS["dfew"].labels


def shares(**given: float) -> dict[str, float]:
    """Shares of all seven emotions, what is not given spread over the others."""
    rest = (1 - sum(given.values())) / (len(DFEW) - len(given))
    return {label: given.get(label, rest) for label in DFEW}


def record(index: int, label: str | None, prediction: str | None, **more: Any) -> dict[str, Any]:
    known = {"sample_id": f"dfew/{index}", "label": label, "prediction": prediction}
    return {**known, "group": None, **more}


# Calibration --------------------------------------------------------------------------------------


def test_calibration_worked_by_hand() -> None:
    scores = [shares(happy=0.92), shares(sad=0.96), shares(happy=0.52), shares(angry=1.0)]
    found = calibrate(scores, ["happy", "sad", "happy", None], ["happy", "fear", "sad", "angry"])
    assert found.n == 4 and found.confidence == pytest.approx((0.92 + 0.96 + 0.52 + 1) / 4)
    # The last bin holds 0.92, 0.96 and 1, of which one is right; an answer of None is wrong.
    assert [b.n for b in found.bins] == [0] * 5 + [1, 0, 0, 0, 3] and len(found.bins) == NUM_BINS
    assert found.bins[9].confidence == pytest.approx(2.88 / 3)
    assert found.bins[9].accuracy == pytest.approx(1 / 3)
    assert found.bins[0].confidence is None and found.bins[0].accuracy is None
    assert found.ece == pytest.approx(3 / 4 * (2.88 - 1) / 3 + 1 / 4 * 0.52)
    # Of the second fear is not among the two. Those that tie stand in the set's order: sad is.
    assert found.top2 == 0.75
    assert found.ece_interval is not None and found.top2_interval is not None
    assert found.ece_interval[0] <= found.ece_interval[1] <= 1


def test_intervals_hold_what_a_slow_resampling_finds() -> None:
    rng = np.random.default_rng(0)
    n, groups = 40, [f"actor_{i % 5}" for i in range(40)]
    values, cell = rng.random(n), rng.integers(3, size=n)
    sums = resampled_sums(values, cell, 3, groups, 50, seed=7)
    drawn = np.random.default_rng(7).integers(5, size=(50, 5))
    for row, units in zip(sums, drawn, strict=True):  # type: ignore[arg-type]
        rows = [i for unit in units for i in range(n) if groups[i] == f"actor_{unit}"]
        for k in range(3):
            assert row[k] == pytest.approx(sum(values[i] for i in rows if cell[i] == k))
    low, high = mean_interval(values, None, 1000, 0)  # type: ignore[misc]
    assert low < values.mean() < high and high - low == pytest.approx(
        2 * 1.96 * values.std() / n**0.5, rel=0.15
    )
    assert mean_interval(values, ["one"] * n, 1000, 0) is None


def test_what_calibration_refuses() -> None:
    for scores, predictions in (([], []), ([shares()], []), ([{}], ["sad"])):
        with pytest.raises(UsageError, match="calibration needs scores"):
            calibrate(scores, predictions, ["sad"])
    assert confidence_of(shares(sad=0.7), "sad") == 0.7
    assert confidence_of(shares(sad=0.7), None) == confidence_of(shares(sad=0.7), "calm") == 0.7


# Modes --------------------------------------------------------------------------------------------


def both_modes() -> list[dict[str, Any]]:
    """Six clips: the reasoned answers are right on four, the direct ones on two of these."""
    rows = []
    for index, (label, written, at_once) in enumerate(
        [
            ("happy", "happy", "happy"),
            ("happy", "happy", "sad"),
            ("sad", "sad", "sad"),
            ("sad", "sad", "happy"),
            ("fear", None, "angry"),
            ("fear", "sad", "angry"),
        ]
    ):
        scores = shares(**{written or "angry": 0.8})
        fields = score_fields(written, scores, shares(**{at_once: 0.6}))
        rows.append(record(index, label, written, answer_mode="both", **fields))
    return rows


def test_modes_side_by_side() -> None:
    rows = both_modes()
    assert rows[1]["confidence"] == 0.8 and rows[1]["direct_prediction"] == "sad"
    assert rows[4]["confidence"] == 0.8 and rows[4]["direct_confidence"] == 0.6
    found = answer_modes(
        [*rows, record(9, None, "sad", **score_fields("sad", None, shares()))], DFEW
    )
    assert found is not None and found.think is not None and found.difference is not None
    assert found.recognition.war == pytest.approx(2 / 6)
    assert found.recognition.uar == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert found.difference.war_difference == pytest.approx(2 / 6)
    assert (found.difference.num_only_b, found.difference.num_only_a) == (2, 0)
    assert found.think.ece == pytest.approx(abs(4 / 6 - 0.8))
    assert found.direct.ece == pytest.approx(abs(2 / 6 - 0.6))
    direct_only = [{k: v for k, v in r.items() if k not in ("scores", "confidence")} for r in rows]
    alone = answer_modes(direct_only, DFEW)
    assert alone is not None and alone.think is None and alone.difference is None
    assert alone.direct == found.direct
    assert answer_modes([record(0, "sad", "sad")], DFEW) is None  # of mode think, or older


def test_the_diagram_is_the_same_file_each_time() -> None:
    found = answer_modes(both_modes(), DFEW)
    assert found is not None
    one, two = (reliability_svg("dfew", found.curves()) for _ in range(2))
    assert one == two and one.lstrip().startswith("<?xml") and "think: ECE 13.3" in one


# Dependence ---------------------------------------------------------------------------------------


def test_dependence_worked_by_hand() -> None:
    full = [
        record(0, "sad", "sad", scores=shares(sad=0.9)),
        record(1, "sad", "happy", scores=shares(happy=0.6)),
        record(2, "fear", None, scores=shares(sad=0.5)),
        record(3, "fear", None, scores=shares(sad=0.5)),
    ]
    muted = [
        record(1, "sad", "happy", scores=shares(happy=0.5)),
        record(0, "sad", "fear", scores=shares(sad=0.3)),
        record(2, "fear", None, scores=shares(sad=0.1)),
        record(3, "fear", "sad", scores=shares(sad=0.9)),
    ]
    found = dependence(full, muted)
    assert found.n == 4 and found.changed == 0.5 and found.num_scored == 2
    assert found.score_change == pytest.approx((0.3 - 0.9 + 0.5 - 0.6) / 2)
    low, high = found.score_change_interval  # type: ignore[misc]
    assert low == pytest.approx(-0.6) and high == pytest.approx(-0.1)
    same = dependence(full, full)
    assert same.changed == same.score_change == 0.0
    assert dependence(full[:1], muted[1:2]).changed_interval is None  # one clip is no sample
    with pytest.raises(UsageError, match="not of the same ids"):
        dependence(full, muted[:3])


def test_conditions_of_a_set_and_what_is_written_of_them() -> None:
    full, muted = both_modes(), both_modes()
    muted[0] |= {"direct_prediction": "sad", "direct_scores": shares(happy=0.2)}
    found = dependences({"full": full, "muted": muted, "blanked": []})
    assert list(found) == ["muted"] and list(found["muted"]) == ["answer", "direct"]
    assert found["muted"]["answer"].changed == 0.0
    assert found["muted"]["direct"].changed == pytest.approx(1 / 6)
    assert found["muted"]["direct"].score_change == pytest.approx((0.2 - 0.6) / 6)
    plain = [record(r["label"] and i, r["label"], r["prediction"]) for i, r in enumerate(full)]
    old = dependences({"full": plain, "muted": plain})["muted"]
    assert list(old) == ["answer"] and old["answer"].score_change is None
    assert dependences({"muted": muted}) == {}
    at_once = [{**r, "answer_mode": "direct"} for r in full]
    assert list(dependences({"full": at_once, "muted": at_once})["muted"]) == ["direct"]

    paired = paired_answers({"dfew": {"full": full, "muted": muted}}, {"dfew": "dfew"})
    figures = paired.figures("dfew", "muted")
    assert figures["direct_changed"] == pytest.approx(1 / 6) and figures["changed"] == 0.0
    assert figures.keys() >= {"ece", "direct_ece", "think_minus_direct", "top2", "direct_war"}
    assert paired.figures("dfew", "full").keys() == set(MODE_FIGURES["both"])
    written = json.loads(json.dumps(paired.to_dict()))
    assert written["answer_modes"]["dfew"]["full"]["direct"]["war"] == pytest.approx(2 / 6)
    assert written["dependence"]["dfew"]["muted"]["direct"]["num_scored"] == 6
    assert paired_answers({"dfew": {"full": plain}}, {"dfew": "dfew"}).to_dict() == {}
