"""Figures are those of scikit-learn, to the last digit where both add the same numbers."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    log_loss,
)

from r1omni.metrics.recognition import evaluate_recognition
from r1omni.metrics.temperature import score_quality, with_temperature

LABELS = ("happy", "sad", "neutral", "angry", "fear")
NUM = 400


def drawn(seed: int) -> tuple[list[str], list[str], list[dict[str, float]]]:
    """Labels, answers and scores of invented clips; some scores are very sure."""
    chance = random.Random(seed)
    references = chance.choices(LABELS, (5, 3, 2, 1, 0.2), k=NUM)
    scores = []
    for label in references:
        weights = {name: chance.random() ** 4 + 1e-9 for name in LABELS}
        weights[label] += chance.choice((0, 0, 0.5, 1000.0))
        total = sum(weights.values())
        scores.append({name: weight / total for name, weight in weights.items()})
    return references, [max(row, key=row.__getitem__) for row in scores], scores


@pytest.mark.parametrize("seed", range(5))
def test_recognition(seed: int) -> None:
    references, answers, _ = drawn(seed)
    found = evaluate_recognition(answers, references, LABELS, None, [True] * NUM)
    assert found.war == accuracy_score(references, answers)
    # scikit-learn adds rounded recalls, we add fractions: one unit of the last place may differ.
    assert found.uar == pytest.approx(balanced_accuracy_score(references, answers), abs=2e-16)
    matrix = confusion_matrix(references, answers, labels=LABELS)
    assert [row[:-1] for row in found.confusion] == [tuple(row) for row in matrix.tolist()]
    assert found.weighted_f1 == pytest.approx(
        f1_score(references, answers, average="weighted", labels=LABELS), abs=2e-16
    )
    assert found.macro_f1 == pytest.approx(
        f1_score(references, answers, average="macro", labels=LABELS), abs=2e-16
    )


def test_recognition_with_answers_outside_the_classes() -> None:
    """scikit-learn has no answer that is none: it is a class of its own there, not averaged."""
    references, answers, _ = drawn(9)
    given = [None if k % 7 == 0 else answer for k, answer in enumerate(answers)]
    found = evaluate_recognition(given, references, LABELS, None, [a is not None for a in given])
    named = [answer or "none" for answer in given]
    assert found.war == accuracy_score(references, named)
    recalls = confusion_matrix(references, named, labels=[*LABELS, "none"])[:-1]
    assert found.uar == pytest.approx((recalls.diagonal() / recalls.sum(1)).mean(), abs=2e-16)
    for average, own in (("weighted", found.weighted_f1), ("macro", found.macro_f1)):
        theirs = f1_score(references, named, average=average, labels=LABELS)
        assert own == pytest.approx(theirs, abs=2e-16)


@pytest.mark.parametrize("temperature", [1.0, 0.4, 2.5])
@pytest.mark.parametrize("seed", range(3))
def test_scores(seed: int, temperature: float) -> None:
    references, answers, scores = drawn(seed)
    scores = [with_temperature(row, temperature) for row in scores]
    found = score_quality(scores, answers, references, LABELS, num_bootstrap=0)
    order = sorted(LABELS)
    shares = np.array([[row[label] for label in order] for row in scores])
    shares /= shares.sum(axis=1, keepdims=True)
    assert found.nll == pytest.approx(log_loss(references, shares, labels=order), abs=4e-16)
    brier = brier_score_loss(references, shares, labels=order)
    assert found.brier == pytest.approx(brier, abs=4e-16)
