"""Scores that can be believed: one temperature, fitted on validation answers (arXiv 1706.04599).

Scores are shares of probability, so their logarithms stand for logits: what they lack is the same
for every class, and a softmax leaves that out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r1omni.metrics.answer_modes import Scores
from r1omni.metrics.calibration import calibrate, confidence_of
from r1omni.metrics.resampling import Interval, mean_interval
from r1omni.types import UsageError

# Where it is looked for. At an end the fit has none: scores that rank every label first want 0.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
_NUM_HALVINGS = 100
# A share of 0 says that a class cannot be, which no temperature takes back.
_LEAST_SHARE = 1e-12


@dataclass(frozen=True)
class ScoreQuality:
    """How good shares of probability are, of n answers with known labels.

    Attributes:
        n: answers.
        nll: mean negative log-likelihood of the label (log loss), in nats.
        brier: Brier score: squared distance between the shares and 1 for the label and 0 for the
            other classes, summed over the classes and averaged over the answers; 0 to 2.
        ece: expected calibration error of the answers' confidence, as `calibrate` has it.
        nll_interval, brier_interval, ece_interval: 95% bootstrap intervals; None for fewer than
            two units.
    """

    n: int
    nll: float
    brier: float
    ece: float
    nll_interval: Interval | None
    brier_interval: Interval | None
    ece_interval: Interval | None


def score_quality(
    scores: Sequence[Scores],
    predictions: Sequence[str | None],
    references: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[str] | None = None,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> ScoreQuality:
    """Judge shares of probability; arguments as of `calibrate`, and the classes.

    Raises:
        UsageError: as `check_shares`, and as `calibrate`.
    """
    shares, target = share_matrix(scores, references, labels)
    # As scikit-learn's log_loss: a share of 0 of the label is one of the smallest step.
    eps = np.finfo(shares.dtype).eps
    rows = np.arange(len(target))
    losses = -np.log(np.clip(shares, eps, 1 - eps)[rows, target])
    hits = np.zeros_like(shares)
    hits[rows, target] = 1.0
    distances = ((shares - hits) ** 2).sum(axis=1)
    believed = calibrate(scores, predictions, references, groups, num_bootstrap, seed)
    return ScoreQuality(
        n=len(target),
        nll=float(losses.mean()),
        brier=float(distances.mean()),
        ece=believed.ece,
        nll_interval=mean_interval(losses, groups, num_bootstrap, seed),
        brier_interval=mean_interval(distances, groups, num_bootstrap, seed),
        ece_interval=believed.ece_interval,
    )


def share_matrix(
    scores: Sequence[Scores], references: Sequence[str], labels: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """float64 [n, K]: the shares, made to sum to 1; and int64 [n]: the class of each label.

    Raises:
        UsageError: no answer, or scores that are not of the classes, negative or all 0.
    """
    if not references or len(scores) != len(references):
        raise UsageError(f"{len(scores)} rows of scores for {len(references)} labels")
    for row in scores:
        if set(row) != set(labels) or min(row.values()) < 0 or sum(row.values()) <= 0:
            raise UsageError(
                f"scores {dict(row)!r:.80} are not shares of the classes {', '.join(labels)}"
            )
    shares = np.array([[row[label] for label in labels] for row in scores], dtype=np.float64)
    index = {label: k for k, label in enumerate(labels)}
    target = np.array([index[label] for label in references], dtype=np.int64)
    return shares / shares.sum(axis=1, keepdims=True), target


def with_temperature(scores: Scores, temperature: float) -> dict[str, float]:
    """Scores at a temperature: softmax(log(score) / T). Their order stays; 1 changes nothing.

    Args:
        scores: shares of probability by emotion.
        temperature: above 1 makes them less sure, below 1 surer.
    """
    logits = np.log(np.maximum(np.array(list(scores.values())), _LEAST_SHARE)) / temperature
    weights = np.exp(logits - logits.max())
    return dict(zip(scores, (weights / weights.sum()).tolist(), strict=True))


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature.

    Attributes:
        value: T.
        is_at_end: whether it is an end of the range that is searched, so no minimum: validation
            answers are too few, or their scores rank every label first or none.
        n: validation answers.
    """

    value: float
    is_at_end: bool
    n: int


def fit_temperature(
    scores: Sequence[Scores], references: Sequence[str], labels: Sequence[str]
) -> Temperature:
    """The temperature of the smallest negative log-likelihood.

    The likelihood is convex in 1/T, so the zero of its slope is found by halving: exact, without a
    step size. Slope: the mean of E_p[z] - z_label, p = softmax(z / T).

    Args:
        scores: n shares of probability by class, of validation answers.
        references: n classes.
        labels: the classes.

    Raises:
        UsageError: as `share_matrix`.
    """
    shares, target = share_matrix(scores, references, labels)
    logits = np.log(np.maximum(shares, _LEAST_SHARE))
    right = logits[np.arange(len(target)), target]

    def slope(inverse: float) -> float:
        scaled = logits * inverse
        weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        expected = (weights * logits).sum(axis=1) / weights.sum(axis=1)
        return float((expected - right).mean())

    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    if slope(low) >= 0:
        return Temperature(MAX_TEMPERATURE, True, len(target))
    if slope(high) <= 0:
        return Temperature(MIN_TEMPERATURE, True, len(target))
    for _ in range(_NUM_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return Temperature(2 / (low + high), False, len(target))


def sureness(scores: Scores, prediction: str | None) -> float:
    """Confidence by which an answer is taken or left: 0 for one that is no class of the set."""
    return 0.0 if prediction is None else confidence_of(scores, prediction)
