"""The best accuracy that is possible in the mini-world, exactly and as a cross-check.

`bayes` enumerates the tables of `story.py`: an ideal observer knows P(emotion) and
P(face, voice | emotion), sees the face's attributes, the voice's, or both, and answers with the
most probable emotion. `cross_check` fits a random forest on noisy cue vectors of drawn plans,
which must come out close to the enumeration if tables, drawing and cues agree.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from r1omni.world.plans import ClipPlan, plan_emotion, schedule
from r1omni.world.render import apex_units
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


def cue_vectors(plans: list[ClipPlan], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What perfect but slightly noisy eyes and ears would measure.

    Returns:
        float64 [clips, 19] action units at the apex, and float64 [clips, 7] voice parameters:
        pitch in Hz, scale of the formants, level, rate, tremor, jitter, tilt.
    """
    rng = np.random.default_rng(seed)
    video = np.array([apex_units(plan) for plan in plans])
    audio = np.array([voice_vector(plan) for plan in plans])
    return video + 0.02 * rng.standard_normal(video.shape), audio


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


def cross_check(
    classes: ClassSet, *, num_train: int = 4000, num_test: int = 3000, seed: int = 0
) -> dict[str, float]:
    """Test accuracy of a random forest on cue vectors, for each of `MODALITIES`."""
    from sklearn.ensemble import RandomForestClassifier

    plans = {
        split: [
            plan_emotion(classes, word, seed=seed, dataset=f"check/{split}", index=index, path="x")
            for index, word in enumerate(schedule(classes.priors, count, seed, f"check/{split}"))
        ]
        for split, count in (("train", num_train), ("test", num_test))
    }
    features = {split: cue_vectors(rows, seed) for split, rows in plans.items()}
    labels = {split: np.array([plan.word for plan in rows]) for split, rows in plans.items()}
    scores = {}
    for modality in MODALITIES:
        chosen = {"video": [0], "audio": [1], "video_audio": [0, 1]}[modality]
        train, test = (
            np.hstack([features[split][part] for part in chosen]) for split in ("train", "test")
        )
        forest = RandomForestClassifier(120, min_samples_leaf=2, random_state=seed)
        forest.fit(train, labels["train"])
        scores[modality] = float(np.mean(forest.predict(test) == labels["test"]))
    return scores
