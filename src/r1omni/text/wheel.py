"""A wheel of emotions: many words, a few petals, for answers in an open vocabulary.

The petals are the eight primary emotions of R. Plutchik ("A general psychoevolutionary theory of
emotion", in Emotion: Theory, Research, and Experience, vol. 1, Academic Press, 1980), each with
the words of his three intensities. Departures:

- The middle of the wheel is a ninth petal, "neutral": every data set has that class.
- The taxonomy's other emotions lie on the petal of their nearest relative on the wheel: calm
  (his serenity) on joy, anxiety (his apprehension) on fear, disappointment and helplessness on
  sadness. Contempt, his blend of disgust and anger, lies on disgust.
- Words of the same meaning are added. His other blends and words between two petals ("upset",
  "frustrated", "hopeful", "proud") lie on none.

One petal can hold two classes of a data set (happy and calm), so the wheel measures whether a set
of free words comes near, not whether a class was recognised.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from r1omni.text.emotions import ALIASES, EMOTIONS, normalize_word

PETALS: tuple[str, ...] = (
    "joy",
    "trust",
    "fear",
    "surprise",
    "sadness",
    "disgust",
    "anger",
    "anticipation",
    "neutral",
)

# Where each emotion of the taxonomy lies, with all its aliases.
_PETAL_OF_EMOTION: dict[str, str] = {
    "happy": "joy",
    "sad": "sadness",
    "neutral": "neutral",
    "angry": "anger",
    "surprise": "surprise",
    "disgust": "disgust",
    "fear": "fear",
    "contempt": "disgust",
    "anxiety": "fear",
    "helplessness": "sadness",
    "disappointment": "sadness",
    "calm": "joy",
}

# Plutchik's words that are no aliases of the taxonomy, their forms, and words of like meaning.
_MORE_WORDS: dict[str, str] = {
    "joy": "content contented contentment satisfied satisfaction excited excitement enthusiastic "
    "enthusiasm playful enjoyment enjoying relieved relief",
    "trust": "trust trusting trustful acceptance accepting admiration admiring admire respect "
    "respectful confident confidence",
    "fear": "alarmed alarm timid timidity intimidated tense tension stressed insecure "
    "insecurity concerned concern",
    "surprise": "distraction distracted stupefied speechless incredulous disbelief",
    "sadness": "pensiveness pensive lonely loneliness hurt hopeless hopelessness despair "
    "despairing desperate desperation desolate anguish anguished discouraged grieved",
    "disgust": "boredom bored loathing loathe distaste aversion averse",
    "anger": "hostile hostility resentful resentment exasperated exasperation",
    "anticipation": "anticipation anticipating interest interested vigilance vigilant curious "
    "curiosity expectant expectation eager eagerness attentive alert",
}


def _build_wheel(petal_of_emotion: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Map each word to its petal.

    Raises:
        ValueError: an emotion without a petal, an unknown petal, or a word on two petals.
    """
    if set(petal_of_emotion) != set(EMOTIONS):
        raise ValueError(f"the wheel places {set(petal_of_emotion)}, not the whole taxonomy")
    wheel = {word: petal_of_emotion[emotion] for word, emotion in ALIASES.items()}
    for petal, words in more.items():
        for word in words.split():
            if wheel.setdefault(word, petal) != petal:
                raise ValueError(f"{word!r} lies on the petals {wheel[word]} and {petal}")
    unknown = set(wheel.values()) - set(PETALS)
    if unknown:
        raise ValueError(f"the wheel has no petal {sorted(unknown)}")
    return wheel


WHEEL: Mapping[str, str] = MappingProxyType(_build_wheel(_PETAL_OF_EMOTION, _MORE_WORDS))

_SEPARATOR = re.compile(r"[,;/|&+\n，；、。]|\b(?:and|or)\b", re.IGNORECASE)


def list_words(text: str) -> list[str]:
    """The members of a list as `normalize_word` gives them, repeated ones too, empty ones not.

    Members stand between commas, semicolons, slashes, line ends, "and" and "or". The brackets
    and quotes of a list written by Python are taken off with the rest.
    """
    words = (normalize_word(part) for part in _SEPARATOR.split(text))
    return [word for word in words if word]


def petal(word: str) -> str | None:
    """The petal on which a word lies, or None for a word that is not on the wheel."""
    return WHEEL.get(normalize_word(word))
