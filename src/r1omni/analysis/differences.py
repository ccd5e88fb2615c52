"""Paired differences between runs on the same clips."""

from __future__ import annotations

from dataclasses import dataclass

from r1omni.analysis.runs import EvaluatedRun, find_subject
from r1omni.metrics.comparison import Comparison, compare

SIGNIFICANCE = 0.05
CONDITION_NAMES = {"muted": "the picture alone", "blanked": "the sound alone"}


@dataclass(frozen=True)
class Difference:
    """The subject with picture and sound, minus something else, on one test set.

    Attributes:
        other: name of the other model, or of the subject's condition ("muted", "blanked").
        is_condition: whether `other` is a condition of the subject itself.
        test_set: name of the set.
        result: the paired comparison; differences are subject minus other.
        num_groups: units of resampling (actors), or None where clips were resampled.
    """

    other: str
    is_condition: bool
    test_set: str
    result: Comparison
    num_groups: int | None

    @property
    def verdict(self) -> int:
        """1 where the subject is clearly better by WAR, -1 where clearly worse, else 0.

        Clear means that the interval leaves 0 out and that McNemar's test agrees: with few groups
        to resample, the interval alone is too sure of itself.
        """
        interval = self.result.war_interval
        if interval is None or self.result.mcnemar_p >= SIGNIFICANCE:
            return 0
        return int(interval[0] > 0) - int(interval[1] < 0)


def differences(runs: list[EvaluatedRun]) -> list[Difference]:
    """The subject against every other run, then against its own conditions, set by set.

    Where a run kept no predictions, its differences are left out.
    """
    subject = find_subject(runs)
    others = [(run.model, run, "full") for run in runs if run is not subject]
    own = [(condition, subject, condition) for condition in CONDITION_NAMES]
    found = []
    for name, run, condition in others + own:
        for test_set in subject.sets:
            difference = _difference(subject, run, name, test_set, condition)
            if difference is not None:
                found.append(difference)
    return found


def _difference(
    subject: EvaluatedRun, other: EvaluatedRun, name: str, test_set: str, condition: str
) -> Difference | None:
    ours = subject.predictions(test_set)
    theirs = other.predictions(test_set, condition)
    if ours is None or theirs is None:
        return None
    shared = [i for i in ours if i in theirs and theirs[i]["label"] == ours[i]["label"]]
    if not shared:
        return None
    groups = [ours[i]["group"] for i in shared]
    grouped = all(group is not None for group in groups)
    result = compare(
        [theirs[i]["prediction"] for i in shared],
        [ours[i]["prediction"] for i in shared],
        [ours[i]["label"] for i in shared],
        groups if grouped else None,
    )
    return Difference(
        other=name,
        is_condition=other is subject,
        test_set=test_set,
        result=result,
        num_groups=len(set(groups)) if grouped else None,
    )
