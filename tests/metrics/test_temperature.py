"""Temperature and abstention, worked by hand and by brute force."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from r1omni.metrics.abstention import abstain, risk_coverage, threshold_for
from r1omni.metrics.breakdown import MIN_CLIPS
from r1omni.metrics.temperature import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    fit_temperature,
    score_quality,
    sureness,
    with_temperature,
)
from r1omni.types import UsageError

LABELS = ("happy", "sad", "fear")


def test_a_temperature_by_hand() -> None:
    scores = {"happy": 0.8, "sad": 0.2}
    halved = with_temperature(scores, 0.5)  # squares: 0.64 and 0.04
    assert halved["happy"] == pytest.approx(0.64 / 0.68)
    assert with_temperature(scores, 1.0) == pytest.approx(scores)
    assert with_temperature(scores, 1e6)["happy"] == pytest.approx(0.5, abs=1e-5)
    assert with_temperature({"happy": 1.0, "sad": 0.0}, 2.0)["sad"] == pytest.approx(1e-6, rel=1e-3)


def made(num: int, temperature: float, seed: int = 0) -> tuple[list[dict[str, float]], list[str]]:
    """Scores that are too sure by a known temperature, with labels drawn from the true shares."""
    rng = np.random.default_rng(seed)
    true = rng.dirichlet((0.7, 0.7, 0.7), size=num)
    labels = [LABELS[rng.choice(3, p=row)] for row in true]
    told = true**temperature
    told /= told.sum(axis=1, keepdims=True)
    return [dict(zip(LABELS, row.tolist(), strict=True)) for row in told], labels


def test_a_known_temperature_is_found_and_nothing_near_is_better() -> None:
    scores, labels = made(4000, 3.0)
    found = fit_temperature(scores, labels, LABELS)
    assert found.value == pytest.approx(3.0, rel=0.08) and not found.is_at_end

    def nll(temperature: float) -> float:
        softened = [with_temperature(row, temperature) for row in scores]
        return score_quality(softened, labels, labels, LABELS, num_bootstrap=0).nll

    best = nll(found.value)
    assert best < nll(1.0)
    assert all(best <= nll(found.value * factor) for factor in (0.97, 0.999, 1.001, 1.03))


def test_ends_of_the_range_are_told() -> None:
    surer = [{"happy": 0.6, "sad": 0.3, "fear": 0.1}] * 4
    found = fit_temperature(surer, ["happy"] * 4, LABELS)  # always right: the colder, the better
    assert (found.value, found.is_at_end) == (MIN_TEMPERATURE, True)
    found = fit_temperature(surer, ["fear"] * 4, LABELS)
    assert (found.value, found.is_at_end) == (MAX_TEMPERATURE, True)


def test_scores_of_other_classes_are_refused() -> None:
    for wrong in ({"happy": 1.0}, {"happy": 0.0, "sad": 0.0, "fear": 0.0},
                  {"happy": -0.1, "sad": 1.0, "fear": 0.1}):  # fmt: skip
        with pytest.raises(UsageError, match="are not shares of the classes happy, sad, fear"):
            fit_temperature([wrong], ["happy"], LABELS)
    with pytest.raises(UsageError, match="0 rows of scores for 0 labels"):
        fit_temperature([], [], LABELS)


def test_brier_and_nll_by_hand() -> None:
    scores = [{"happy": 0.5, "sad": 0.25, "fear": 0.25}, {"happy": 0.0, "sad": 1.0, "fear": 0.0}]
    found = score_quality(scores, ["happy", "sad"], ["happy", "sad"], LABELS, num_bootstrap=0)
    assert found.nll == pytest.approx(-math.log(0.5) / 2)
    assert found.brier == pytest.approx((0.25 + 2 * 0.0625) / 2)
    assert found.nll_interval is None


def test_risk_and_coverage_by_hand() -> None:
    # Two of equal confidence are taken together.
    curve = risk_coverage([0.9, 0.7, 0.7, 0.2], [True, False, True, False])
    assert curve.thresholds == (0.9, 0.7, 0.2)
    assert curve.coverage == (0.25, 0.75, 1.0)
    assert curve.risk == (0.0, pytest.approx(1 / 3), 0.5)
    # Half a wrong answer after two, on average over both orders.
    assert curve.area == pytest.approx((0 + 0.5 / 2 + 1 / 3 + 2 / 4) / 4)
    assert risk_coverage([0.1] * 3, [False] * 3).area == 1.0


def test_the_area_is_the_mean_over_orders_of_equal_confidence() -> None:
    chance = random.Random(0)
    sure = [chance.choice((0.2, 0.5, 0.5, 0.8)) for _ in range(12)]
    right = [chance.random() < 0.6 for _ in sure]
    areas = []
    for _ in range(20_000):
        order = sorted(range(12), key=lambda k: (-sure[k], chance.random()))
        wrong = np.cumsum([not right[k] for k in order])
        areas.append((wrong / np.arange(1, 13)).mean())
    assert risk_coverage(sure, right).area == pytest.approx(np.mean(areas), abs=2e-3)


def test_the_threshold_of_an_accuracy() -> None:
    # The 60 surest are right, then every second is.
    right = [True] * 60 + [True, False] * 20
    sure = [1 - k / 200 for k in range(100)]
    threshold = threshold_for(0.9, sure, right)
    assert threshold is not None
    told = abstain(threshold, sure, right)
    # Brute force: no lower threshold has that accuracy.
    kept = [k for k in range(1, 101) if k >= MIN_CLIPS and sum(right[:k]) / k >= 0.9]
    assert told.num_answered == max(kept) and told.coverage == max(kept) / 100
    assert told.accuracy == sum(right[: max(kept)]) / max(kept)
    low, high = told.accuracy_interval or (1.0, 0.0)
    assert low < told.accuracy < high
    assert threshold_for(1.0, sure, right) == sure[60]
    assert threshold_for(0.5, sure[:20], [True] * 20) is None  # fewer than can be chosen by
    assert threshold_for(0.99, sure, [False] * 100) is None
    assert threshold_for(0.1, [0.0] * 100, [True] * 100) is None  # those are never answered


def test_what_nobody_answers_has_no_accuracy() -> None:
    told = abstain(0.9, [0.1, 0.2], [True, True])
    assert (told.num_answered, told.accuracy, told.accuracy_interval) == (0, None, None)
    assert told.coverage_interval == (0.0, 0.0)


def test_an_answer_of_no_class_is_never_sure() -> None:
    scores = {"happy": 0.9, "sad": 0.1}
    assert sureness(scores, None) == 0.0
    assert sureness(scores, "sad") == 0.1
