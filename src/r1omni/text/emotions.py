"""Emotion words: one taxonomy with aliases, and the label sets datasets use.

Rewards and metrics read answers through the same table, so a model is judged in evaluation as
it is rewarded in training. An alias stands for exactly one canonical emotion; words between two
emotions ("upset", "frustrated") stand for none, but where the label set in force has a class of
their own.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from r1omni.types import UsageError

EMOTIONS: tuple[str, ...] = (
    "happy",
    "sad",
    "neutral",
    "angry",
    "surprise",
    "disgust",
    "fear",
    "contempt",
    "anxiety",
    "helplessness",
    "disappointment",
    "calm",
)
# Classes that some data sets tell apart and the taxonomy does not. Only a label set that has them
# reads their words; for every other one these words stand for no emotion.
FURTHER_CLASSES: tuple[str, ...] = ("excited", "frustrated")
# Whatever a label can be.
CLASSES: tuple[str, ...] = (*EMOTIONS, *FURTHER_CLASSES)

# Nouns, adjectives and adverbs of each canonical emotion; the canonical name is added to them.
_ALIASES: dict[str, str] = {
    "happy": "happiness happily joy joyful joyfully joyous joyously amused amusement amusing "
    "cheerful cheerfully cheerfulness delighted delight delightedly delightful gleeful gleefully "
    "glee elated elation glad gladly gladness merry merrily pleased blissful bliss jolly jovial "
    "thrilled ecstatic ecstatically ecstasy overjoyed exhilarated exhilaration euphoric euphoria "
    "jubilant jubilantly jubilation cheery cheerily exuberant exuberance exultant mirth mirthful "
    "lighthearted light-hearted",
    "sad": "sadness sadly sorrow sorrowful sorrowfully unhappy unhappily unhappiness grief "
    "grieving heartbroken mournful mournfully melancholy melancholic miserable miserably misery "
    "gloomy gloom depressed downcast dejected dejection tearful tearfully saddened woeful "
    "despondent despondently despondency forlorn glum glumly downhearted heartbreak heartsick "
    "grief-stricken devastated inconsolable",
    "neutral": "neutrality neutrally emotionless expressionless unemotional impassive "
    "impassively indifferent indifference unemotionally emotionlessly dispassionate "
    "dispassionately",
    "angry": "anger angrily angered annoyed annoyance annoyedly irritated irritation irritable "
    "mad furious furiously fury rage raging enraged irate outraged outrage wrathful wrath "
    "infuriated infuriating indignant indignantly indignation livid fuming seething incensed irked",
    "surprise": "surprised surprising surprisedly surprisingly astonished astonishment "
    "astonishing astounded astounding amazed amazement shocked shock startled startling stunned "
    "flabbergasted dumbfounded thunderstruck gobsmacked",
    "disgust": "disgusted disgustedly disgusting disgustedness repulsed repulsion revulsion "
    "revolted revolting repelled repulsive repugnance repugnant sickened grossed-out nauseated",
    "fear": "fearful fearfully fearfulness afraid scared scary frightened frightening fright "
    "frightful terrified terrifying terror terrorized terrorised petrified panic panicked "
    "panicking panicky dread dreading horrified horrifying horror spooked",
    "contempt": "contemptuous contemptuously contemptuousness disdain disdainful disdainfully "
    "scorn scornful scornfully derision derisive derisively",
    "anxiety": "anxious anxiously anxiousness worried worriedly worry worrying worries nervous "
    "nervously nervousness uneasy uneasily uneasiness unease apprehensive apprehension "
    "apprehensively jittery jitters fretful fretfully fretting worrisome",
    "helplessness": "helpless helplessly powerless powerlessly powerlessness",
    "disappointment": "disappointed disappointedly disappointing disappointingly let-down "
    "letdown disillusioned disillusionment",
    "calm": "calmly calmness calmed composed tranquil tranquility tranquillity serene serenely "
    "serenity peaceful peacefully relaxed placid placidly unruffled unperturbed",
}

_FURTHER_ALIASES: dict[str, str] = {
    "excited": "excitedly excitement excitedness",
    "frustrated": "frustratedly frustration frustrations frustrating frustratingly",
}

# The word that an answer uses for each class.
ANSWER_WORDS: dict[str, str] = {
    "happy": "happy",
    "sad": "sad",
    "neutral": "neutral",
    "angry": "angry",
    "surprise": "surprise",
    "disgust": "disgust",
    "fear": "fear",
    "contempt": "contemptuous",
    "anxiety": "anxious",
    "helplessness": "helpless",
    "disappointment": "disappointed",
    "calm": "calm",
    "excited": "excited",
    "frustrated": "frustrated",
}

# No emotion word is near this long. The bound also keeps Unicode normalization, which sorts
# runs of combining marks in quadratic time, away from adversarial text.
_MAX_WORD_LENGTH = 64


def _build_table(aliases: Mapping[str, str]) -> dict[str, str]:
    """Map each alias to its canonical emotion.

    Raises:
        ValueError: an alias stands for two emotions.
    """
    table: dict[str, str] = {}
    for emotion, words in aliases.items():
        for word in (emotion, *words.split()):
            if table.setdefault(word, emotion) != emotion:
                raise ValueError(f"alias {word!r} stands for {table[word]} and for {emotion}")
    return table


ALIASES: Mapping[str, str] = MappingProxyType(_build_table(_ALIASES))
_ALL_ALIASES: Mapping[str, str] = MappingProxyType(_build_table({**_ALIASES, **_FURTHER_ALIASES}))


def _is_edge(char: str) -> bool:
    """Whether `char` may stand around a word: white space, punctuation or a Markdown mark."""
    return char.isspace() or char in "`*_~" or unicodedata.category(char).startswith("P")


def normalize_word(word: str) -> str:
    """A word in the form that tables of words hold.

    Case, compatibility forms of Unicode (NFKC), and white space and punctuation at the ends are
    taken away. A text too long for a word comes back as it is, and is in no table.

    Args:
        word: a word, as a label file or a model wrote it.
    """
    word = word.strip()
    if len(word) > _MAX_WORD_LENGTH:
        return word
    word = unicodedata.normalize("NFKC", word).casefold()
    start, end = 0, len(word)
    while start < end and _is_edge(word[start]):
        start += 1
    while end > start and _is_edge(word[end - 1]):
        end -= 1
    return word[start:end]


def canonical(word: str) -> str | None:
    """The canonical emotion that `word` names, or None.

    What `normalize_word` takes away does not count; anything else must match a whole alias, so
    a list, a negation or a sentence names no emotion.

    Args:
        word: a word, as a label file or a model wrote it.
    """
    return ALIASES.get(normalize_word(word))


@dataclass(frozen=True)
class LabelSet:
    """The classes of a dataset or of a protocol.

    Attributes:
        name: key in `LABEL_SETS`.
        labels: canonical emotions or `FURTHER_CLASSES`, in the publisher's order.
        merges: such ones outside `labels` which count as one of them.
        aliases: word -> what it names: the taxonomy, and the further classes of this set.

    Raises:
        UsageError: a label that is no class or stands twice, or a merge that would let one word
            count for two classes.
    """

    name: str
    labels: tuple[str, ...]
    merges: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        unknown = [e for e in (*self.labels, *self.merges) if e not in CLASSES]
        if unknown:
            raise UsageError(f"label set {self.name}: {unknown[0]!r} is no canonical emotion")
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise UsageError(f"label set {self.name}: labels are empty or repeated: {self.labels}")
        for source, target in self.merges.items():
            if source in self.labels or target not in self.labels:
                raise UsageError(
                    f"label set {self.name}: cannot merge {source!r} into {target!r}; merge an "
                    "emotion outside the labels into one of them"
                )
        object.__setattr__(self, "merges", MappingProxyType(dict(self.merges)))
        known = {*EMOTIONS, *self.labels, *self.merges}
        read = {word: name for word, name in _ALL_ALIASES.items() if name in known}
        object.__setattr__(self, "aliases", MappingProxyType(read))

    def __reduce__(self) -> tuple[type[LabelSet], tuple[object, ...]]:
        # A mapping proxy cannot be pickled, and data workers pickle what they are given.
        return type(self), (self.name, self.labels, dict(self.merges))

    @property
    def words(self) -> dict[str, str]:
        """By class, the word that an answer uses for it."""
        return {label: ANSWER_WORDS[label] for label in self.labels}

    def named(self, word: str) -> str | None:
        """The emotion that `word` names, a class of this set or not; or None (`canonical`)."""
        return self.aliases.get(normalize_word(word))

    def counted(self, word: str) -> str | None:
        """`named`, after the merges of this set."""
        emotion = self.named(word)
        return None if emotion is None else self.merges.get(emotion, emotion)

    def parse(self, word: str) -> str | None:
        """The class of this set that `word` names, or None when it names none of them."""
        emotion = self.counted(word)
        return emotion if emotion in self.labels else None


_SEVEN = ("neutral", "happy", "sad", "angry", "fear", "disgust", "surprise")

LabelSetName = Literal[
    "dfew", "mafw", "ravdess", "ravdess_7way_no_calm", "ravdess_7way_calm_as_neutral",
    "emodb_6way_no_boredom", "emodb_4way", "cremad", "savee",
    "tess", "enterface", "meld", "iemocap_4way", "iemocap_6way", "mer", "merr",
    "all",
]  # fmt: skip
LABEL_SETS: dict[str, LabelSet] = {
    labels.name: labels
    for labels in (
        LabelSet("dfew", EMOTIONS[:7]),
        LabelSet(
            "mafw",
            ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise", "contempt")
            + ("anxiety", "helplessness", "disappointment"),
        ),
        LabelSet("ravdess", ("neutral", "calm", *_SEVEN[1:])),
        LabelSet("ravdess_7way_no_calm", _SEVEN),
        LabelSet("ravdess_7way_calm_as_neutral", _SEVEN, {"calm": "neutral"}),
        # Boredom is no emotion of the taxonomy: it is left out, and never counted as a relative.
        LabelSet("emodb_6way_no_boredom", _SEVEN[:-1]),
        LabelSet("emodb_4way", _SEVEN[:4]),
        LabelSet("cremad", ("angry", "disgust", "fear", "happy", "neutral", "sad")),
        LabelSet("savee", ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")),
        LabelSet("tess", ("angry", "disgust", "fear", "happy", "surprise", "sad", "neutral")),
        LabelSet("enterface", ("angry", "disgust", "fear", "happy", "sad", "surprise")),
        LabelSet("meld", ("angry", "disgust", "sad", "happy", "neutral", "surprise", "fear")),
        LabelSet("iemocap_4way", ("angry", "happy", "sad", "neutral")),
        LabelSet("iemocap_6way", ("angry", "happy", "sad", "neutral", *FURTHER_CLASSES)),
        LabelSet("mer", ("neutral", "angry", "happy", "sad", "anxiety", "surprise")),
        # Doubt is no emotion of the taxonomy, either.
        LabelSet(
            "merr",
            ("neutral", "angry", "happy", "sad", "anxiety", "surprise", "fear", "contempt"),
        ),
        # The taxonomy; a further class is asked for by a set that has it.
        LabelSet("all", EMOTIONS),
    )
}
# Reads every class that a label can be, where no label set says which are meant.
EVERY_CLASS = LabelSet("every class", CLASSES)
