"""Answering only where a model is sure: risk against coverage, and the threshold for an accuracy.

Coverage is the share of clips that are answered, risk the share of those that are wrong
(El-Yaniv and Wiener, 2010; arXiv 1705.08500).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r1omni.metrics.breakdown import MIN_CLIPS
from r1omni.metrics.resampling import Interval, interval, resampled_ratios
from r1omni.types import UsageError


@dataclass(frozen=True)
class RiskCoverage:
    """What is wrong among the surest answers.

    Answers of equal confidence are taken or left together.

    Attributes:
        thresholds: confidences, falling; a clip is answered from the threshold on.
        coverage: share of clips that are answered at each.
        risk: share of these that are wrong.
        area: mean risk over every coverage from one clip to all (AURC); those within equal
            confidences count as their mean over all orders. 0 is the best.
    """

    thresholds: tuple[float, ...]
    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    area: float


def risk_coverage(confidence: Sequence[float], correct: Sequence[bool]) -> RiskCoverage:
    """The curve of n answers.

    Args:
        confidence: n; 0 for an answer that is never taken before another.
        correct: n.

    Raises:
        UsageError: no answer, or lists of different lengths.
    """
    sure, right = _columns(confidence, correct)
    n = len(sure)
    values, counts = np.unique(-sure, return_counts=True)
    order = np.argsort(-sure, kind="stable")
    ends = counts.cumsum()
    at_ends = (1 - right[order]).cumsum()[ends - 1].astype(np.float64)
    # Within ties the expected number of wrong answers rises evenly.
    expected = np.interp(np.arange(1, n + 1), [0, *ends], [0.0, *at_ends])
    return RiskCoverage(
        thresholds=tuple((-values).tolist()),
        coverage=tuple((ends / n).tolist()),
        risk=tuple((at_ends / ends).tolist()),
        area=float((expected / np.arange(1, n + 1)).mean()),
    )


def threshold_for(
    accuracy: float, confidence: Sequence[float], correct: Sequence[bool]
) -> float | None:
    """The lowest confidence from which on at least a share `accuracy` of validation is right.

    Fewer than `MIN_CLIPS` answers say too little to choose by, and answers of confidence 0 are
    never taken.

    Args:
        accuracy: wanted share, 0 to 1.
        confidence: n, of validation answers.
        correct: n.

    Returns:
        the threshold, or None where no coverage has that accuracy.
    """
    curve = risk_coverage(confidence, correct)
    n = len(confidence)
    reached = [
        threshold
        for threshold, coverage, risk in zip(
            curve.thresholds, curve.coverage, curve.risk, strict=True
        )
        if threshold > 0 and round(coverage * n) >= MIN_CLIPS and 1 - risk >= accuracy
    ]
    return min(reached, default=None)


@dataclass(frozen=True)
class Abstention:
    """What a threshold does to some answers.

    Attributes:
        n: clips.
        num_answered: those whose confidence is at least the threshold.
        coverage: share that is answered.
        accuracy: share of the answered ones that is right; None where none is answered.
        coverage_interval, accuracy_interval: 95% bootstrap intervals; None for fewer than two
            units, or where no resample answers anything.
    """

    n: int
    num_answered: int
    coverage: float
    accuracy: float | None
    coverage_interval: Interval | None
    accuracy_interval: Interval | None


def abstain(
    threshold: float,
    confidence: Sequence[float],
    correct: Sequence[bool],
    groups: Sequence[str] | None = None,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> Abstention:
    """Answer n clips from a threshold on.

    Args:
        threshold: lowest confidence that is answered.
        confidence: n.
        correct: n.
        groups: n units of resampling, or None for the clip itself.
        num_bootstrap: resamples; 0 for no intervals.
        seed: of the resampling.

    Raises:
        UsageError: as `risk_coverage`.
    """
    sure, right = _columns(confidence, correct)
    taken = (sure >= threshold).astype(np.float64)
    hits = taken * right
    everyone = np.ones(len(sure))
    drawn = resampled_ratios(
        np.stack([taken, hits]), np.stack([everyone, taken]), groups, num_bootstrap, seed
    )
    num_answered = int(taken.sum())
    return Abstention(
        n=len(sure),
        num_answered=num_answered,
        coverage=num_answered / len(sure),
        accuracy=float(hits.sum() / num_answered) if num_answered else None,
        coverage_interval=None if drawn is None else interval(drawn[0]),
        accuracy_interval=None if drawn is None else _interval_of_known(drawn[1]),
    )


def _interval_of_known(values: NDArray[np.float64]) -> Interval | None:
    known = values[~np.isnan(values)]
    return interval(known) if len(known) else None


def _columns(
    confidence: Sequence[float], correct: Sequence[bool]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    if not len(confidence) or len(confidence) != len(correct):
        raise UsageError(f"{len(confidence)} confidences for {len(correct)} answers")
    return np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.int64)
