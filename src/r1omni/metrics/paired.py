"""One model against itself on the same clips: its modes, and conditions against the full input.

Everything comes from the records of `predictions/<set>.<condition>.jsonl` and can be computed again
from them, equal to the last digit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1omni.metrics.answer_modes import AnswerModes, answer_modes
from r1omni.metrics.dependence import Dependence, dependences
from r1omni.metrics.resampling import Record
from r1omni.text.emotions import LABEL_SETS
from r1omni.types import AnswerMode

_DIRECT = ("direct_war", "direct_uar", "direct_confidence", "direct_ece", "direct_top2")
# What `PairedAnswers.figures` has of a set with labels that is answered in a mode.
MODE_FIGURES: Mapping[AnswerMode, tuple[str, ...]] = {
    "think": (),
    "direct": _DIRECT,
    "both": (*_DIRECT, "confidence", "ece", "top2", "think_minus_direct"),
}


@dataclass(frozen=True)
class PairedAnswers:
    """What was asked for of one model; empty where it was not.

    Attributes:
        modes: direct answers beside reasoned ones, by test set, then by condition.
        dependence: by test set, by condition but "full", then "answer" or "direct".
    """

    modes: dict[str, dict[str, AnswerModes]]
    dependence: dict[str, dict[str, dict[str, Dependence]]]

    def figures(self, name: str, condition: str) -> dict[str, float]:
        """The main figures of a set under a condition, by flat names; None is left out."""
        found: dict[str, float | None] = {}
        modes = self.modes.get(name, {}).get(condition)
        if modes is not None:
            found |= {"direct_war": modes.recognition.war, "direct_uar": modes.recognition.uar}
            for prefix, one in (("", modes.think), ("direct_", modes.direct)):
                if one is not None:
                    found |= {
                        f"{prefix}confidence": one.confidence,
                        f"{prefix}ece": one.ece,
                        f"{prefix}top2": one.top2,
                    }
            if modes.difference is not None:
                found["think_minus_direct"] = modes.difference.war_difference
        for kind, result in self.dependence.get(name, {}).get(condition, {}).items():
            prefix = "" if kind == "answer" else f"{kind}_"
            found |= {
                f"{prefix}changed": result.changed,
                f"{prefix}score_change": result.score_change,
            }
        return {key: value for key, value in found.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """As what JSON knows: "answer_modes" and "dependence", each only if there is any."""
        modes = {
            name: {condition: result.to_dict() for condition, result in conditions.items()}
            for name, conditions in self.modes.items()
        }
        depends = {
            name: {
                condition: {kind: result.to_dict() for kind, result in kinds.items()}
                for condition, kinds in conditions.items()
            }
            for name, conditions in self.dependence.items()
        }
        return ({"answer_modes": modes} if modes else {}) | (
            {"dependence": depends} if depends else {}
        )


def paired_answers(
    records: Mapping[str, Mapping[str, Sequence[Record]]], label_sets: Mapping[str, str]
) -> PairedAnswers:
    """Compare the modes of every set and condition, and the conditions of every set.

    Args:
        records: by test set, then by condition.
        label_sets: name of the label set of each test set.
    """
    modes: dict[str, dict[str, AnswerModes]] = {}
    depends = {}
    for name, conditions in records.items():
        labels = LABEL_SETS[label_sets[name]].labels
        for condition, rows in conditions.items():
            found = answer_modes(rows, labels)
            if found is not None:
                modes.setdefault(name, {})[condition] = found
        if changed := dependences(conditions):
            depends[name] = changed
    return PairedAnswers(modes, depends)
