"""Wheels of emotions that are shipped: free words -> a few clusters, in more than one way.

- `plutchik`: the petals of `wheel.py`.
- `ekman`: Ekman's six emotions and neutral. Which of 27 emotions belongs to which is the mapping of
  GoEmotions (Demszky et al., arXiv 2005.00547; google-research, Apache-2.0,
  goemotions/data/ekman_mapping.json). Contempt, helplessness and calm are in none of them.

The words of each emotion are our own: those of the taxonomy, and forms of the 27 names. Both are
other wheels and other words than those of the published metric (docs/open_vocabulary.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from r1omni.text.emotions import ALIASES, normalize_word
from r1omni.text.wheel import WHEEL

# A free word -> its cluster on one wheel, or None.
Wheel = Callable[[str], str | None]

# Each of GoEmotions' 27 emotions, with forms of its name, by Ekman's emotion.
_GOEMOTIONS: dict[str, str] = {
    "anger": "anger annoyance disapproval disapproving disapprove disapproved",
    "disgust": "disgust",
    "fear": "fear nervousness",
    "joy": "joy amusement approval approving approve excitement excited gratitude grateful "
    "thankful love loving optimism optimistic relief relieved pride proud admiration admiring "
    "admire desire desiring caring",
    "sadness": "sadness disappointment embarrassment embarrassed grief remorse remorseful",
    "surprise": "surprise realization realizing confusion confused curiosity curious",
}
# Emotions of the taxonomy that are among the 27, or GoEmotions' neutral.
_EKMAN_OF: dict[str, str] = {
    "happy": "joy",
    "sad": "sadness",
    "neutral": "neutral",
    "angry": "anger",
    "surprise": "surprise",
    "disgust": "disgust",
    "fear": "fear",
    "anxiety": "fear",
    "disappointment": "sadness",
}
# Endings of English, and what stands in their place in the base form.
_ENDINGS = (
    ("iness", "y"), ("ness", ""), ("ily", "y"), ("ly", ""), ("ies", "y"), ("s", ""),
    ("ied", "y"), ("ed", ""), ("ed", "e"), ("ing", ""), ("ing", "e"),
)  # fmt: skip


def _ekman_words() -> dict[str, str]:
    words = {word: _EKMAN_OF[e] for word, e in ALIASES.items() if e in _EKMAN_OF}
    for emotion, names in _GOEMOTIONS.items():
        for name in names.split():
            if words.setdefault(name, emotion) != emotion:
                raise ValueError(f"{name!r} lies on {words[name]} and on {emotion}")
    return words


def base_forms(word: str) -> Iterator[str]:
    """The word, and what it may be a form of: its endings taken off, one at a time."""
    normal = normalize_word(word)
    yield normal
    for ending, instead in _ENDINGS:
        if normal.endswith(ending) and len(normal) > len(ending) + 2:
            yield normal.removesuffix(ending) + instead


def wheel_of(words: Mapping[str, str]) -> Wheel:
    """The wheel of a table, word -> cluster: a form counts as the first base that is in it."""
    return lambda word: next((words[form] for form in base_forms(word) if form in words), None)


SHIPPED: Mapping[str, Wheel] = MappingProxyType(
    {"plutchik": wheel_of(WHEEL), "ekman": wheel_of(_ekman_words())}
)
