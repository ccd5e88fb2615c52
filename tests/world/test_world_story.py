"""Tables, plans and texts of the mini-world: no rendering."""

from __future__ import annotations

import re

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from r1omni.world.ceiling import MODALITIES, bayes, ceilings, voice_vector
from r1omni.world.cues import (
    FACE_VALUES,
    VOICE_VALUES,
    FaceCues,
    VoiceCues,
    action_units,
    random_face_cues,
    random_voice_cues,
)
from r1omni.world.describe import (
    describe_both,
    describe_face,
    describe_voice,
    reasoning,
    tagged_reasoning,
)
from r1omni.world.layouts import SHARES, count_clips, plan_world
from r1omni.world.plans import ClipPlan, plan_emotion, schedule
from r1omni.world.render import apex_units
from r1omni.world.story import (
    CASES,
    EMOTIONS,
    FACES,
    VOICES,
    ClassSet,
    class_sets,
    joint_table,
)


def test_tables_are_probabilities() -> None:
    assert sum(CASES.values()) == pytest.approx(1)
    for classes in class_sets().values():
        assert sum(classes.priors.values()) == pytest.approx(1)
        for word in classes.priors:
            assert sum(joint_table(classes, word).values()) == pytest.approx(1)


def test_prototypes_use_known_words_and_differ() -> None:
    for cues in FACES.values():
        assert all(getattr(cues, name) in words for name, words in FACE_VALUES.items())
    for voice in VOICES.values():
        assert all(getattr(voice, name) in words for name, words in VOICE_VALUES.items())
    assert len(set(FACES.values())) == len(FACES)
    assert len(set(VOICES.values())) == len(VOICES)


@pytest.mark.parametrize("name", ["dfew", "mafw", "ravdess"])
def test_ambiguity_by_construction(name: str) -> None:
    classes = class_sets()[name]
    for part, table in (("face", classes.faces), ("voice", classes.voices)):
        members: dict[str, set[str]] = {}
        for word, shares in table.items():
            assert sum(shares.values()) == pytest.approx(1)
            own = EMOTIONS[word].faces if part == "face" else (EMOTIONS[word].voice,)
            for prototype in shares:
                members.setdefault(prototype, set()).add(word)
                assert prototype not in own
        assert all(len(words) >= 2 for words in members.values())
    # The shared half of a clip is the same, the other half decides.
    for word in classes.priors:
        table = joint_table(classes, word)
        shared_face = sum(p for (face, _), p in table.items() if face in classes.faces[word])
        shared_voice = sum(p for (_, voice), p in table.items() if voice in classes.voices[word])
        assert shared_face == pytest.approx(CASES["face"] + CASES["both"])
        assert shared_voice == pytest.approx(CASES["voice"] + CASES["both"])


def test_members_of_a_shared_face_get_identical_action_units() -> None:
    plans = [plan for plan in plan_world(2000, 3) if plan.face_prototype == "startled"]
    assert len({plan.word for plan in plans}) >= 2
    first = action_units(plans[0].face)
    assert all(action_units(plan.face) == first for plan in plans)


def test_bayes_by_hand() -> None:
    # Two equal classes: alone a modality errs on half of its shared part (0.40 + 0.04);
    # together only the clips with both parts shared (0.04) are a coin toss.
    words = {"sad": 0.5, "neutral": 0.5}
    classes = ClassSet(
        priors=words,
        labels={word: word for word in words},
        faces={word: {"blank": 1.0} for word in words},
        voices={word: {"flat low": 1.0} for word in words},
    )
    assert bayes(classes, "video").accuracy == pytest.approx(1 - 0.44 / 2)
    assert bayes(classes, "audio").accuracy == pytest.approx(1 - 0.44 / 2)
    assert bayes(classes, "video_audio").accuracy == pytest.approx(1 - 0.04 / 2)


def test_ceilings_leave_room_for_the_second_modality() -> None:
    for rows in ceilings().values():
        assert 0.78 < rows["video"].accuracy < 0.84
        assert 0.78 < rows["audio"].accuracy < 0.84
        assert 0.975 < rows["video_audio"].accuracy < 1.0


@pytest.mark.parametrize("name", ["dfew", "mafw", "ravdess"])
def test_enumeration_agrees_with_a_fitted_classifier(name: str) -> None:
    # 1,200 test clips have a standard error of about 1 point near 0.8.
    classes = class_sets()[name]
    scores = _cross_check(classes, num_train=1500, num_test=1200)
    for modality in MODALITIES:
        assert scores[modality] == pytest.approx(bayes(classes, modality).accuracy, abs=0.035)


def _cross_check(
    classes: ClassSet, *, num_train: int, num_test: int, seed: int = 0
) -> dict[str, float]:
    """Test accuracy of a random forest on cue vectors, for each of `MODALITIES`."""
    plans = {
        split: [
            plan_emotion(classes, word, seed=seed, dataset=f"check/{split}", index=index, path="x")
            for index, word in enumerate(schedule(classes.priors, count, seed, f"check/{split}"))
        ]
        for split, count in (("train", num_train), ("test", num_test))
    }
    features = {split: _cue_vectors(rows, seed) for split, rows in plans.items()}
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


def _cue_vectors(plans: list[ClipPlan], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What perfect but slightly noisy eyes and ears would measure.

    Returns:
        float64 [clips, 19] action units at the apex, and float64 [clips, 7] voice parameters:
        pitch in Hz, scale of the formants, level, rate, tremor, jitter, tilt.
    """
    rng = np.random.default_rng(seed)
    video = np.array([apex_units(plan) for plan in plans])
    audio = np.array([voice_vector(plan) for plan in plans])
    return video + 0.02 * rng.standard_normal(video.shape), audio


def _cue_words(text: str) -> set[str]:
    words = sorted({v for values in (FACE_VALUES, VOICE_VALUES) for vs in values.values()
                    for v in vs}, key=len, reverse=True)  # fmt: skip
    text = text.lower().replace("one mouth corner up", "one corner up")
    text = text.replace("the mouth corners", "corners")
    found = set()
    for word in words:
        if re.search(rf"\b{word}\b", text):
            found.add(word)
            text = re.sub(rf"\b{word}\b", "", text)
    return found


@pytest.mark.parametrize("seed", range(40))
def test_reasoning_names_only_cues_of_the_clip(seed: int) -> None:
    rng = np.random.default_rng(seed)
    face, voice = random_face_cues(rng), random_voice_cues(rng)
    text = reasoning(face, voice, "fear")
    plain = {"relaxed", "closed", "medium", "moderate"}
    there = {*vars(face).values(), *vars(voice).values()} - plain
    assert _cue_words(text) - {"relaxed"} == there
    assert ("relaxed" in text) == (face == FaceCues())
    assert text.endswith("fear.")


def test_texts_are_short_and_the_vocabulary_small() -> None:
    vocabulary: set[str] = set()
    for word, emotion in EMOTIONS.items():
        for face in FACES.values():
            for voice in VOICES.values():
                text = reasoning(face, voice, word)
                assert len(text.split()) <= 40
                assert emotion.noun in text
                vocabulary |= set(re.findall(r"\w+|[^\w\s]", text.lower()))
    rng = np.random.default_rng(0)
    for _ in range(200):
        face, voice = random_face_cues(rng), random_voice_cues(rng)
        assert len(describe_face(face).split()) <= 18
        assert len(describe_voice(voice).split()) <= 12
        vocabulary |= set(re.findall(r"\w+|[^\w\s]", describe_both(face, voice).lower()))
    assert len(vocabulary) <= 150


def test_captions_word_for_word() -> None:
    face = FaceCues("raised", "wide", "relaxed", "corners up", "closed")
    voice = VoiceCues("high", "soft", "fast", "trembling", "dark")
    assert describe_both(face, voice) == (
        "Brows raised, eyes wide, nose relaxed, mouth corners up, jaw closed; "
        "pitch high, loudness soft, rate fast, voice trembling, tone dark."
    )
    assert tagged_reasoning(face, voice, "happy") == (
        "<think>In the video, the brows are raised, the eyes wide and the mouth corners up. In the "
        "audio, the voice is high, soft, fast, trembling and dark. Together they suggest "
        "happiness.</think>\n<answer>happy</answer>"
    )


def test_counts_scale_and_classes_are_complete() -> None:
    assert count_clips(2000) == SHARES
    sets = class_sets()
    for clips in (60, 150, 500):
        words: dict[str, set[str]] = {}
        plans = plan_world(clips, 0)
        for plan in plans:
            words.setdefault(plan.dataset, set()).add(plan.word)
        for split in ("dfew/train", "dfew/test", "mafw/train", "mafw/test", "ravdess"):
            assert words[split] == set(sets[split.split("/")[0]].priors)
        assert len({plan.path for plan in plans}) == len(plans)
    assert count_clips(400)["ravdess"] == 60


def test_plans_do_not_depend_on_other_splits() -> None:
    small = {plan.path: plan for plan in plan_world(400, 5)}
    again = {plan.path: plan for plan in plan_world(400, 5)}
    other = {plan.path: plan for plan in plan_world(400, 6)}
    assert small == again
    assert small != other


def test_ravdess_speakers_are_out_of_the_training_range() -> None:
    plans = plan_world(2000, 0)
    train = [plan.person for plan in plans if plan.dataset != "ravdess"]
    actors = {plan.path.split("/")[1]: plan.person for plan in plans if plan.dataset == "ravdess"}
    assert len(actors) == 3
    for actor in actors.values():
        same_sex = [p.base_pitch_hz for p in train if p.female == actor.female]
        assert not min(same_sex) <= actor.base_pitch_hz <= max(same_sex)
        assert actor.style == "sketch"
    assert all(person.style == "painted" for person in train)
