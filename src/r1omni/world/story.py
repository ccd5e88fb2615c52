"""Who feels what, and how it shows: the tables P(face, voice | emotion) of the mini-world.

A clip shows one face prototype and one voice prototype. Each emotion has prototypes of its own
and takes part in a few SHARED ones that look (or sound) exactly the same for every member of a
confusable set. A clip draws one of four cases:

======== ============ ============= ==========================================
 case     probability  face          voice
======== ============ ============= ==========================================
 own      0.16         own           own
 face     0.40         shared        own: only the sound decides
 voice    0.40         own           shared: only the picture decides
 both     0.04         shared        shared: nobody can always be right
======== ============ ============= ==========================================

So a model that looks but does not listen (or the other way round) stays well below one that
does both; `ceiling.py` computes exactly how far. That intense faces are ambiguous without
context is Aviezer, Trope & Todorov (Science 338, 2012); sets follow common confusions of
human raters (fear/surprise, anger/disgust, sadness/neutral).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from r1omni.world.cues import FaceCues, VoiceCues

CASES: dict[str, float] = {"own": 0.16, "face": 0.40, "voice": 0.40, "both": 0.04}

# The action units beside a face are what `cues.action_units` makes of its attributes.
FACES: dict[str, FaceCues] = {
    # own faces
    "joy": FaceCues(eyes="narrowed", mouth="corners up"),  # 6+7+12
    "laugh": FaceCues(eyes="narrowed", mouth="corners up", jaw="dropped"),  # 6+7+12+25+26
    "sorrow": FaceCues(
        brows="drawn together", eyes="half closed", mouth="corners down"
    ),  # 1+4+15+17+43
    "plain": FaceCues(),  # none
    "glare": FaceCues(brows="lowered", eyes="wide", mouth="pressed"),  # 4+5+23+24
    "shout": FaceCues(brows="lowered", eyes="wide", mouth="stretched", jaw="dropped"),  # 4+5+20+26
    "gape": FaceCues(brows="raised", eyes="wide", jaw="dropped"),  # 1+2+5+25+26
    "terror": FaceCues(
        brows="drawn together", eyes="wide", mouth="stretched", jaw="dropped"
    ),  # 1+4+5+20+25+26
    "revulsion": FaceCues(eyes="narrowed", nose="wrinkled", mouth="corners down"),  # 6+7+9+10+15+17
    "retch": FaceCues(
        brows="lowered", eyes="narrowed", nose="wrinkled", jaw="dropped"
    ),  # 4+7+9+10+26
    "sneer": FaceCues(eyes="half closed", mouth="one corner up"),  # R12+R14+43
    "worry": FaceCues(brows="drawn together", eyes="wide", mouth="pressed"),  # 1+4+5+23+24
    "shrug": FaceCues(brows="raised", mouth="corners down"),  # 1+2+15+17
    "letdown": FaceCues(brows="lowered", eyes="half closed", mouth="corners down"),  # 4+15+17+43
    "ease": FaceCues(eyes="half closed", mouth="corners up"),  # 12+43
    # shared faces
    "startled": FaceCues(
        brows="raised", eyes="wide", mouth="stretched", jaw="dropped"
    ),  # 1+2+5+20+25+26
    "hostile": FaceCues(brows="lowered", eyes="narrowed", mouth="pressed"),  # 4+6+7+23+24
    "blank": FaceCues(eyes="half closed"),  # 43
    "composed": FaceCues(mouth="corners up"),  # 12
    "smirk": FaceCues(brows="raised", mouth="one corner up"),  # 1+2+R12+R14
    "uneasy": FaceCues(brows="drawn together", eyes="wide", mouth="stretched"),  # 1+4+5+20+25
    "dejected": FaceCues(brows="drawn together", mouth="corners down"),  # 1+4+15+17
}

VOICES: dict[str, VoiceCues] = {
    # own voices: pitch, loudness, rate, steadiness, tone
    "elated": VoiceCues("high", "moderate", "fast", "steady", "bright"),
    "mournful": VoiceCues("low", "soft", "slow", "trembling", "dark"),
    "even": VoiceCues("medium", "moderate", "medium", "steady", "dark"),
    "raging": VoiceCues("medium", "loud", "fast", "steady", "bright"),
    "amazed": VoiceCues("high", "loud", "slow", "steady", "bright"),
    "frightened": VoiceCues("high", "soft", "fast", "trembling", "dark"),
    "repelled": VoiceCues("low", "loud", "slow", "steady", "dark"),
    "scornful": VoiceCues("low", "moderate", "slow", "steady", "bright"),
    "nervous": VoiceCues("medium", "soft", "fast", "trembling", "bright"),
    "pleading": VoiceCues("high", "soft", "slow", "trembling", "dark"),
    "resigned": VoiceCues("medium", "soft", "slow", "steady", "dark"),
    "serene": VoiceCues("low", "soft", "slow", "steady", "bright"),
    # shared voices
    "flat low": VoiceCues("low", "soft", "medium", "steady", "dark"),
    "light high": VoiceCues("high", "soft", "medium", "steady", "bright"),
    "loud tense": VoiceCues("high", "loud", "medium", "trembling", "bright"),
    "growl": VoiceCues("low", "loud", "fast", "trembling", "dark"),
    "shaky": VoiceCues("medium", "moderate", "fast", "trembling", "dark"),
    "weary": VoiceCues("medium", "soft", "medium", "trembling", "dark"),
    "drawl": VoiceCues("low", "loud", "medium", "steady", "bright"),
    "quiet even": VoiceCues("medium", "soft", "medium", "steady", "bright"),
}


@dataclass(frozen=True)
class Emotion:
    """An emotion: the word of the answer, the noun that ends a reasoning, its own prototypes."""

    word: str
    noun: str
    faces: tuple[str, ...]
    voice: str


EMOTIONS: dict[str, Emotion] = {
    emotion.word: emotion
    for emotion in (
        Emotion("happy", "happiness", ("joy", "laugh"), "elated"),
        Emotion("sad", "sadness", ("sorrow",), "mournful"),
        Emotion("neutral", "a neutral state", ("plain",), "even"),
        Emotion("angry", "anger", ("glare", "shout"), "raging"),
        Emotion("surprise", "surprise", ("gape",), "amazed"),
        Emotion("disgust", "disgust", ("revulsion", "retch"), "repelled"),
        Emotion("fear", "fear", ("terror",), "frightened"),
        Emotion("contemptuous", "contempt", ("sneer",), "scornful"),
        Emotion("anxious", "anxiety", ("worry",), "nervous"),
        Emotion("helpless", "helplessness", ("shrug",), "pleading"),
        Emotion("disappointed", "disappointment", ("letdown",), "resigned"),
        Emotion("calm", "calm", ("ease",), "serene"),
    )
}

Table = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class ClassSet:
    """A dataset's emotions.

    Attributes:
        priors: share of each answer word, summing to 1.
        labels: how the publisher writes each word (number or name).
        faces, voices: for each word, its shared prototypes and their shares.
    """

    priors: Mapping[str, float]
    labels: Mapping[str, str]
    faces: Table
    voices: Table


def class_sets() -> dict[str, ClassSet]:
    """The class sets by name: dfew, mafw, ravdess, mer (MER2023's six), all (MAFW's and calm)."""
    mafw = _mafw()
    six = {"neutral": 0.22, "angry": 0.18, "happy": 0.2, "sad": 0.16, "anxious": 0.12,
           "surprise": 0.12}  # fmt: skip
    calm = _ravdess()
    return {
        "dfew": _dfew(),
        "mafw": mafw,
        "ravdess": calm,
        "mer": ClassSet(
            priors=six,
            labels={word: "worried" if word == "anxious" else word for word in six},
            faces={word: mafw.faces[word] for word in six},
            voices={word: mafw.voices[word] for word in six},
        ),
        "all": ClassSet(
            priors=dict.fromkeys(EMOTIONS, 1 / len(EMOTIONS)),
            labels={word: word for word in EMOTIONS},
            faces={**mafw.faces, "calm": calm.faces["calm"]},
            voices={**mafw.voices, "calm": calm.voices["calm"]},
        ),
    }


def _dfew() -> ClassSet:
    # The published fold, milder: 29 disgust clips in 2,341 could not be measured in a small world.
    priors = {"happy": 0.19, "sad": 0.16, "neutral": 0.20, "angry": 0.17, "surprise": 0.12,
              "disgust": 0.07, "fear": 0.09}  # fmt: skip
    return ClassSet(
        priors=priors,
        labels={word: str(number) for number, word in enumerate(priors, start=1)},
        faces=_table(
            {"startled": "happy surprise fear", "hostile": "angry disgust", "blank": "sad neutral"}
        ),
        voices=_table(
            {
                "light high": "happy surprise",
                "loud tense": "angry fear disgust",
                "flat low": "sad neutral",
            }
        ),
    )


def _mafw() -> ClassSet:
    names = {"angry": "anger", "disgust": "disgust", "fear": "fear", "happy": "happiness",
             "neutral": "neutral", "sad": "sadness", "surprise": "surprise",
             "contemptuous": "contempt", "anxious": "anxiety", "helpless": "helplessness",
             "disappointed": "disappointment"}  # fmt: skip
    weights = dict.fromkeys(names, 1.0)
    weights.update(angry=1.2, happy=1.2, sad=1.2, contemptuous=0.8, helpless=0.8, disappointed=0.8)
    total = sum(weights.values())
    return ClassSet(
        priors={word: weight / total for word, weight in weights.items()},
        labels=names,
        faces=_table(
            {
                "startled": "surprise fear",
                "uneasy": "anxious fear",
                "hostile": "angry disgust",
                "smirk": "happy contemptuous",
                "dejected": "sad helpless disappointed",
                "blank": "sad neutral",
            }
        ),
        voices=_table(
            {
                "flat low": "sad neutral",
                "light high": "happy surprise",
                "loud tense": "angry fear",
                "growl": "angry disgust",
                "shaky": "anxious fear",
                "weary": "sad helpless disappointed",
                "drawl": "contemptuous disgust",
            }
        ),
    )


def _ravdess() -> ClassSet:
    codes = {"neutral": "01", "calm": "02", "happy": "03", "sad": "04", "angry": "05",
             "fear": "06", "disgust": "07", "surprise": "08"}  # fmt: skip
    return ClassSet(
        # 60 clips an actor: neutral has no strong intensity.
        priors={word: (4 if word == "neutral" else 8) / 60 for word in codes},
        labels=codes,
        faces=_table(
            {
                "startled": "surprise fear",
                "hostile": "angry disgust",
                "blank": "sad neutral",
                "composed": "calm happy",
            }
        ),
        voices=_table(
            {
                "quiet even": "calm neutral",
                "flat low": "sad neutral",
                "light high": "happy surprise",
                "loud tense": "angry fear disgust",
            }
        ),
    )


def _table(sets: Mapping[str, str]) -> Table:
    """Shared prototypes of each word: equal shares over the sets that it is a member of."""
    members: dict[str, list[str]] = {}
    for prototype, words in sets.items():
        for word in words.split():
            members.setdefault(word, []).append(prototype)
    return {word: dict.fromkeys(names, 1 / len(names)) for word, names in members.items()}


def joint_table(classes: ClassSet, word: str) -> dict[tuple[str, str], float]:
    """P(face, voice | word), exactly: the four cases times the shares of the prototypes."""
    emotion = EMOTIONS[word]
    own_faces = dict.fromkeys(emotion.faces, 1 / len(emotion.faces))
    own_voices = {emotion.voice: 1.0}
    shared_faces, shared_voices = classes.faces[word], classes.voices[word]
    table: dict[tuple[str, str], float] = {}
    for case, probability in CASES.items():
        faces = shared_faces if case in ("face", "both") else own_faces
        voices = shared_voices if case in ("voice", "both") else own_voices
        for face, face_share in faces.items():
            for voice, voice_share in voices.items():
                key = (face, voice)
                table[key] = table.get(key, 0.0) + probability * face_share * voice_share
    return table


def draw_prototypes(classes: ClassSet, word: str, rng: np.random.Generator) -> tuple[str, str]:
    """A face and a voice prototype from `joint_table`."""
    table = joint_table(classes, word)
    keys = list(table)
    return keys[int(rng.choice(len(keys), p=list(table.values())))]
