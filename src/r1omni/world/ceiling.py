"""The best accuracy that is possible in the mini-world, exactly.

`bayes` enumerates the tables of `story.py`: an ideal observer knows P(emotion) and
P(face, voice | emotion), sees the face's attributes, the voice's, or both, and answers with the
most probable emotion. A test fits a random forest on noisy cue vectors of drawn plans, which must
come out close to the enumeration if tables, drawing and cues agree.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from r1omni.world.plans import ClipPlan
from r1omni.world.story import FACES, VOICES, ClassSet, class_sets, joint_table

MODALITIES: tuple[str, ...] = ("video", "audio", "video_audio")
_REPORTED: tuple[str, ...] = ("dfew", "mafw", "ravdess")


@dataclass(frozen=True)
class Ceiling:
    """Bayes-optimal recognition: accuracy (WAR) and the recall of every class."""

    accuracy: float
    recall: dict[str, float]


def bayes(classes: ClassSet, modality: str) -> Ceiling:
    """Exact ceiling for one of `MODALITIES`, under the class set's own priors.

    Two prototypes with the same attributes count as one observation.
    """
    joint: dict[Hashable, dict[str, float]] = {}
    for word in classes.priors:
        for (face, voice), probability in joint_table(classes, word).items():
            seen: Hashable = {
                "video": FACES[face],
                "audio": VOICES[voice],
                "video_audio": (FACES[face], VOICES[voice]),
            }[modality]
            row = joint.setdefault(seen, {})
            row[word] = row.get(word, 0.0) + probability
    recall = dict.fromkeys(classes.priors, 0.0)
    for row in joint.values():
        answer = max(row, key=lambda word: classes.priors[word] * row[word])
        recall[answer] += row[answer]
    accuracy = sum(classes.priors[word] * value for word, value in recall.items())
    return Ceiling(accuracy=accuracy, recall=recall)


def ceilings() -> dict[str, dict[str, Ceiling]]:
    """`bayes` of every reported dataset and modality."""
    sets = class_sets()
    return {
        name: {modality: bayes(sets[name], modality) for modality in MODALITIES}
        for name in _REPORTED
    }


def voice_vector(plan: ClipPlan) -> list[float]:
    """Voice parameters of a plan as they can be heard: pitch is absolute, with the tract's cue."""
    parameters = plan.parameters
    return [
        plan.person.base_pitch_hz * parameters.pitch_ratio,
        plan.person.formant_scale,
        parameters.level_db,
        parameters.syllable_rate_hz,
        parameters.tremor,
        parameters.jitter,
        parameters.tilt_db,
    ]
