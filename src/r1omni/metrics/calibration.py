"""How far a model's confidence can be believed: calibration error, its diagram, top-2 accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from r1omni.metrics.resampling import Interval, interval, mean_interval, resampled_sums
from r1omni.types import UsageError

NUM_BINS = 10


@dataclass(frozen=True)
class Bin:
    """The answers whose confidence lies in one tenth of [0, 1].

    Attributes:
        n: answers.
        confidence: their mean confidence; None for no answer.
        accuracy: the share of them that is right; None for no answer.
    """

    n: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """Confidence of one way to answer, on one test set.

    Attributes:
        n: answers.
        confidence: mean confidence, to be compared with WAR.
        ece: expected calibration error (arXiv 1706.04599, equation 3), the mean distance of
            accuracy from confidence over `NUM_BINS` bins of equal width, weighted by their answers.
        ece_interval: 95% bootstrap interval; None for fewer than two units. An error is never
            negative, so that of a calibrated model is above 0 by chance, and more so for few
            answers.
        top2: share of answers whose reference is among the two emotions of the highest scores.
        top2_interval: 95% bootstrap interval of `top2`.
        bins: the reliability diagram.
    """

    n: int
    confidence: float
    ece: float
    ece_interval: Interval | None
    top2: float
    top2_interval: Interval | None
    bins: tuple[Bin, ...]


def confidence_of(scores: Mapping[str, float], prediction: str | None) -> float:
    """The score of what is answered; of an answer outside the scored emotions the highest score."""
    known = None if prediction is None else scores.get(prediction)
    return max(scores.values()) if known is None else known


def calibrate(
    scores: Sequence[Mapping[str, float]],
    predictions: Sequence[str | None],
    references: Sequence[str],
    groups: Sequence[str] | None = None,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> Calibration:
    """Compare confidence with accuracy; an answer of None is wrong.

    Args:
        scores: n shares of probability by emotion.
        predictions: n classes that were answered.
        references: n classes.
        groups: n units of resampling, or None for the answer itself.
        num_bootstrap: resamples; 0 for no intervals.
        seed: of the resampling.

    Raises:
        UsageError: no answer, lists of different lengths, or an answer without scores.
    """
    from torchmetrics.functional.classification import binary_calibration_error

    n = len(references)
    if not n or len(scores) != n or len(predictions) != n or not all(scores):
        raise UsageError(
            f"calibration needs scores and a prediction for each of {n} references, found "
            f"{sum(map(bool, scores))} and {len(predictions)}"
        )
    pairs = zip(scores, predictions, strict=True)
    confidence = np.array([confidence_of(row, answer) for row, answer in pairs])
    correct = np.array([p == r for p, r in zip(predictions, references, strict=True)], dtype=float)
    # torchmetrics gives a confidence of exactly 1 a bin of its own; here it is of the last.
    inside = np.minimum(confidence, np.nextafter(1.0, 0.0))
    ece = float(
        binary_calibration_error(
            torch.from_numpy(inside), torch.from_numpy(correct).long(), NUM_BINS, norm="l1"
        )
    )
    place = np.searchsorted(np.linspace(0.0, 1.0, NUM_BINS + 1), inside, side="right") - 1
    gaps = resampled_sums(confidence - correct, place, NUM_BINS, groups, num_bootstrap, seed)
    counts = resampled_sums(np.ones(n), place, NUM_BINS, groups, num_bootstrap, seed)
    ece_interval = None
    if gaps is not None and counts is not None:
        ece_interval = interval(np.abs(gaps).sum(axis=1) / counts.sum(axis=1))
    top2 = np.array([float(r in _two(row)) for row, r in zip(scores, references, strict=True)])
    return Calibration(
        n=n,
        confidence=float(confidence.mean()),
        ece=ece,
        ece_interval=ece_interval,
        top2=float(top2.mean()),
        top2_interval=mean_interval(top2, groups, num_bootstrap, seed),
        bins=tuple(_bin(confidence[place == k], correct[place == k]) for k in range(NUM_BINS)),
    )


def _two(scores: Mapping[str, float]) -> list[str]:
    return sorted(scores, key=lambda emotion: -scores[emotion])[:2]


def _bin(confidence: np.ndarray, correct: np.ndarray) -> Bin:
    if not len(correct):
        return Bin(0, None, None)
    return Bin(len(correct), float(confidence.mean()), float(correct.mean()))
