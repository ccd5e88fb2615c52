"""Metrics: how well a model recognises and explains, and whether two models differ."""

from r1omni.metrics.comparison import Comparison, compare
from r1omni.metrics.explanation import (
    ExplanationResult,
    evaluate_explanations,
    explanation_fields,
)
from r1omni.metrics.recognition import (
    Prediction,
    RecognitionResult,
    evaluate_recognition,
    read_prediction,
)

__all__ = [
    "Comparison",
    "ExplanationResult",
    "Prediction",
    "RecognitionResult",
    "compare",
    "evaluate_explanations",
    "evaluate_recognition",
    "explanation_fields",
    "read_prediction",
]
