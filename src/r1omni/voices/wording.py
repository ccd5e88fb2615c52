"""Measured voices in words: one text of many forms, which names what was measured and no more.

The form of a text is drawn from a generator that the caller seeds. Whatever form it takes, the
reader of explanations (`text/cues.py`) reads from it the cues that it was written from: a test
walks every clause, value and degree. A label, where there is one, is concluded at the end; it is
what the data set says, not what the measures lead to.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from r1omni.text.cues import Cue, is_resting
from r1omni.voices.levels import HeardCue, Reference

# Clauses of a cue. "{d}" takes a word of degree, "{v}" one for a high degree alone.
CLAUSES: Mapping[tuple[str, str], tuple[str, ...]] = MappingProxyType(
    {
        ("pitch", "low"): (
            "the pitch is {d}low", "the speaker uses a {d}low pitch", "the pitch lies {d}low",
            "the words come in a {d}deep voice",
        ),
        ("pitch", "high"): (
            "the pitch is {d}high", "the speaker uses a {d}high pitch", "the pitch lies {d}high",
            "the words come in a {d}high voice", "the pitch is {d}raised",
        ),
        ("pitch", "medium"): ("the pitch is medium", "the pitch stays medium"),
        ("pitch range", "narrow"): (
            "the pitch range is {d}narrow", "the melody is {d}flat", "the pitch stays {d}flat",
            "the speaker uses a {d}narrow pitch range", "the intonation is {d}monotonous",
        ),
        ("pitch range", "wide"): (
            "the pitch range is {d}wide", "the melody is {d}varied",
            "the speaker uses a {d}wide pitch range", "the intonation is {d}lively",
        ),
        ("pitch range", "medium"): (
            "the pitch range is medium", "the melody stays within a medium pitch range",
        ),
        ("loudness", "soft"): (
            "the voice is {d}soft", "the loudness is {d}low", "the speaker talks {d}quietly",
            "the volume is {d}low", "the words come {d}softly",
        ),
        ("loudness", "loud"): (
            "the voice is {d}loud", "the loudness is {d}high", "the speaker talks {d}loudly",
            "the volume is {d}high",
        ),
        ("loudness", "moderate"): ("the loudness is moderate", "the volume is moderate"),
        ("loudness range", "narrow"): (
            "the loudness range is {d}narrow", "the loudness is {d}even",
            "the volume stays {d}constant",
        ),
        ("loudness range", "wide"): (
            "the loudness range is {d}wide", "the loudness is {d}uneven",
            "the volume is {d}varied",
        ),
        ("loudness range", "medium"): ("the loudness range is medium",),
        ("rate", "slow"): (
            "the rate is {d}slow", "the speaker talks {d}slowly", "the pace is {d}slow",
            "the words follow each other {d}slowly",
        ),
        ("rate", "fast"): (
            "the rate is {d}fast", "the speaker talks {d}fast", "the pace is {d}quick",
            "the words follow each other {d}rapidly",
        ),
        ("rate", "medium"): ("the rate is medium", "the pace is moderate"),
        ("pauses", "few"): (
            "there are {v}few pauses", "the pauses are {v}few", "the speaker makes {v}few pauses",
        ),
        ("pauses", "many"): (
            "there are {v}many pauses", "the pauses are {v}long", "{v}long pauses can be heard",
        ),
        ("pauses", "usual"): ("the pauses are the usual ones", "the pauses are usual"),
        ("tone", "dark"): (
            "the tone is {d}dark", "the voice has a {d}dark tone", "the timbre is {d}dull",
        ),
        ("tone", "bright"): (
            "the tone is {d}bright", "the voice has a {d}bright tone", "the timbre is {d}bright",
        ),
        ("voice quality", "breathy"): (
            "the voice is {d}breathy", "the voice quality is {d}breathy",
            "the voice sounds {d}airy",
        ),
        ("voice quality", "rough"): (
            "the voice is {d}rough", "the voice quality is {d}rough", "the voice sounds {d}hoarse",
        ),
        ("voice quality", "clear"): (
            "the voice is {d}clear", "the voice quality is {d}clear", "the voice sounds {d}clear",
        ),
        ("voice quality", "ordinary"): ("the voice quality is ordinary",),
    }
)  # fmt: skip
# Adjectives of a voice, for lists: "the voice is low, soft and slow".
ADJECTIVES: Mapping[tuple[str, str], tuple[str, ...]] = MappingProxyType(
    {
        ("pitch", "low"): ("low", "deep"),
        ("pitch", "high"): ("high", "high-pitched"),
        ("pitch range", "narrow"): ("monotonous", "flat"),
        ("loudness", "soft"): ("soft", "quiet"),
        ("loudness", "loud"): ("loud",),
        ("rate", "slow"): ("slow", "unhurried"),
        ("rate", "fast"): ("fast", "quick"),
        ("tone", "dark"): ("dark", "dull"),
        ("tone", "bright"): ("bright",),
        ("voice quality", "breathy"): ("breathy",),
        ("voice quality", "rough"): ("rough", "hoarse"),
        ("voice quality", "clear"): ("clear",),
    }
)
LISTS: tuple[str, ...] = (
    "the voice is {list}", "the voice sounds {list}", "the speaker has a {list} voice",
    "what is heard is a {list} voice",
)  # fmt: skip
STRONG: tuple[str, ...] = ("very", "markedly", "strikingly")
# Most cues that are there at all need no word for it.
MILD: tuple[str, ...] = ("", "", "", "rather", "fairly", "somewhat")
OPENERS: Mapping[Reference | None, tuple[str, ...]] = MappingProxyType(
    {
        "speaker_neutral": (
            "Beside this person's everyday manner, ",
            "By this person's standards, ",
        ),
        "speaker_all": (
            "Compared with the other recordings of this person, ",
            "By this person's standards, ",
        ),
        "population": ("Compared with most people, ", "As people go, "),
        None: ("In the audio, ", "In the recording, ", ""),
    }
)
JOINTS: tuple[str, ...] = (", and ", "; ", ", while ")
RESTS: tuple[str, ...] = ("{rest}.", "Otherwise {rest}.", "Apart from that, {rest}.")
UNREMARKABLE: tuple[str, ...] = (
    "{opener}little stands out: {rest}.", "{opener}everything stays in the middle: {rest}.",
    "{opener}{rest}.",
)  # fmt: skip
CONCLUSIONS: tuple[str, ...] = (
    "Taken together, this suggests {noun}.",
    "Overall, the speaker seems {adjective}.",
    "All in all, it points to {noun}.",
    "Therefore the most likely emotion is {noun}.",
    "Altogether this fits {noun}.",
    "In conclusion, this person sounds {adjective}.",
)
# Canonical emotion -> what a conclusion calls it.
NOUNS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "happy": ("happiness", "happy"),
        "sad": ("sadness", "sad"),
        "neutral": ("neutrality", "neutral"),
        "angry": ("anger", "angry"),
        "surprise": ("surprise", "surprised"),
        "disgust": ("disgust", "disgusted"),
        "fear": ("fear", "fearful"),
        "contempt": ("contempt", "contemptuous"),
        "anxiety": ("anxiety", "anxious"),
        "helplessness": ("helplessness", "helpless"),
        "disappointment": ("disappointment", "disappointed"),
        "calm": ("calmness", "calm"),
        "excited": ("excitement", "excited"),
        "frustrated": ("frustration", "frustrated"),
    }
)
_MOST_RESTING = 3
_MOST_LISTED = 3


@dataclass(frozen=True)
class Description:
    """A text, and the cues that it names.

    Attributes:
        text: whole sentences.
        cues: every cue that is not at rest, and those at rest that the text mentions.
    """

    text: str
    cues: frozenset[Cue]


def describe_voice(
    heard: Sequence[HeardCue],
    references: Iterable[Reference],
    label: str | None,
    rng: random.Random,
) -> Description:
    """Write what a voice does, and conclude with the label where one is given.

    Args:
        heard: cues of one clip, one an attribute; at least one.
        references: what the cues were compared with.
        label: canonical emotion, or None.
        rng: decides the form.
    """
    kinds = set(references)
    opener = rng.choice(OPENERS[kinds.pop() if len(kinds) == 1 and rng.random() < 0.6 else None])
    telling = [cue for cue in heard if not is_resting(cue.cue)]
    resting = [cue for cue in heard if is_resting(cue.cue)]
    rng.shuffle(telling)
    mentioned = rng.sample(resting, min(len(resting), rng.randint(0, _MOST_RESTING)))
    if not telling:
        mentioned = mentioned or resting[:1]
        sentences = [_unremarkable(opener, mentioned, rng)]
    else:
        sentences = _sentences(opener, telling, rng)
        if mentioned:
            sentences.append(rng.choice(RESTS).format(rest=_joined(mentioned, rng)))
    if label is not None:
        noun, adjective = NOUNS[label]
        sentences.append(rng.choice(CONCLUSIONS).format(noun=noun, adjective=adjective))
    text = " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)
    return Description(text, frozenset(cue.cue for cue in (*telling, *mentioned)))


def clause(heard: HeardCue, rng: random.Random) -> str:
    """One cue as a clause without capital and full stop."""
    template = rng.choice(CLAUSES[heard.cue[1:]])
    return template.format(d=_degree(heard, rng), v="very " if heard.very else "")


def adjectives(heard: Sequence[HeardCue], rng: random.Random) -> str:
    """Cues that have adjectives as one clause."""
    words = [_degree(cue, rng) + rng.choice(ADJECTIVES[cue.cue[1:]]) for cue in heard]
    listed = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    return rng.choice(LISTS).format(list=listed)


def _degree(heard: HeardCue, rng: random.Random) -> str:
    word = rng.choice(STRONG if heard.very else MILD)
    return f"{word} " if word else ""


def _joined(heard: Sequence[HeardCue], rng: random.Random) -> str:
    *first, last = (clause(cue, rng) for cue in heard)
    return f"{', '.join(first)}{rng.choice(JOINTS)}{last}" if first else last


def _unremarkable(opener: str, resting: Sequence[HeardCue], rng: random.Random) -> str:
    return rng.choice(UNREMARKABLE).format(opener=opener, rest=_joined(resting, rng))


def _sentences(opener: str, telling: Sequence[HeardCue], rng: random.Random) -> list[str]:
    """The telling cues: a list of adjectives for some, and clauses by twos for the others."""
    listed: list[HeardCue] = []
    if rng.random() < 0.5:
        listed = [cue for cue in telling if cue.cue[1:] in ADJECTIVES][:_MOST_LISTED]
    others = [cue for cue in telling if cue not in listed]
    parts = [adjectives(listed, rng)] if listed else []
    while others:
        count = rng.randint(1, 2)
        parts.append(_joined(others[:count], rng))
        others = others[count:]
    return [f"{opener if index == 0 else ''}{part}." for index, part in enumerate(parts)]
