"""Metrics: how well a model recognises, and whether two models differ."""

from r1omni.metrics.comparison import Comparison, compare
from r1omni.metrics.recognition import (
    Prediction,
    RecognitionResult,
    evaluate_recognition,
    read_prediction,
)

__all__ = [
    "Comparison",
    "Prediction",
    "RecognitionResult",
    "compare",
    "evaluate_recognition",
    "read_prediction",
]
