"""Answers after reasoning beside direct ones, from the records of a file of predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from r1omni.metrics.calibration import Calibration, calibrate, confidence_of
from r1omni.metrics.comparison import Comparison, compare
from r1omni.metrics.recognition import RecognitionResult, evaluate_recognition
from r1omni.metrics.resampling import Record, groups_of

Scores = Mapping[str, float]


@dataclass(frozen=True)
class AnswerModes:
    """What one model answers on one test set, in the modes that were asked for.

    Attributes:
        think: confidence of the answers after the model's own reasoning, or None.
        direct: confidence of the answers after an empty reasoning.
        recognition: of the direct answers, which have no format.
        difference: the answers after reasoning minus the direct ones, on the same clips, or None.
    """

    think: Calibration | None
    direct: Calibration
    recognition: RecognitionResult
    difference: Comparison | None

    def curves(self) -> dict[str, Calibration]:
        """The calibrations that there are, by the name of their mode."""
        return {**({} if self.think is None else {"think": self.think}), "direct": self.direct}

    def to_dict(self) -> dict[str, Any]:
        """As what JSON knows; of the recognition WAR and UAR with their intervals."""
        keys = ("war", "uar", "war_interval", "uar_interval")
        recognition = {key: getattr(self.recognition, key) for key in keys}
        return {
            "think": None if self.think is None else asdict(self.think),
            "direct": recognition | asdict(self.direct),
            "think_minus_direct": None if self.difference is None else asdict(self.difference),
        }


def score_fields(
    prediction: str | None, scores: Scores | None, direct: Scores | None
) -> dict[str, Any]:
    """What a record says of scores; nothing where none were asked for.

    Args:
        prediction: class that the completion answers, or None.
        scores: of the emotions after the completion's own reasoning, or None.
        direct: of the emotions after an empty reasoning, or None.
    """
    fields: dict[str, Any] = {}
    if scores is not None:
        fields |= {"confidence": confidence_of(scores, prediction), "scores": dict(scores)}
    if direct is not None:
        best = max(direct, key=lambda emotion: direct[emotion])
        fields |= {
            "direct_prediction": best,
            "direct_confidence": direct[best],
            "direct_scores": dict(direct),
        }
    return fields


def answer_modes(records: Sequence[Record], labels: tuple[str, ...]) -> AnswerModes | None:
    """Compare the modes; None where no direct answers were asked for.

    Args:
        records: of `predictions/<set>.<condition>.jsonl`; those without a label are left out. A
            clip that could not be decoded has a wrong answer, and no scores to calibrate.
        labels: classes of the label set.
    """
    everything = [r for r in records if r["label"] is not None]
    known = [r for r in everything if not r.get("unreadable")]
    if not known or any("direct_scores" not in r for r in known):
        return None
    references = [r["label"] for r in known]
    groups = groups_of(known)
    written, direct = ([r[key] for r in known] for key in ("prediction", "direct_prediction"))
    answers = [r.get("direct_prediction") for r in everything]
    has_think = all("scores" in r for r in known)
    return AnswerModes(
        think=calibrate([r["scores"] for r in known], written, references, groups)
        if has_think
        else None,
        direct=calibrate([r["direct_scores"] for r in known], direct, references, groups),
        recognition=evaluate_recognition(
            answers,
            [r["label"] for r in everything],
            labels,
            None,
            [answer is not None for answer in answers],
            groups_of(everything),
        ),
        difference=compare(direct, written, references, groups) if has_think else None,
    )
