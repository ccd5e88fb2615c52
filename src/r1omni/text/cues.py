"""Which cues of the face and of the voice a text names, and whether they are there.

Written for English. A text in another language names nothing. What is denied ("the brows are not
raised") and what is only asked ("is the voice raised?") is not named. A state goes with the part
that it is said of: "raised brows" and "the brows are slightly raised" are the same cue, "a raised
voice" is a loud one. A list goes on with the part before it ("the voice is low, soft and slow").
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from r1omni.text.cue_words import EITHER, PARTS, RESTING, STATES, VALUES, WHOLE
from r1omni.text.mentions import (
    AUXILIARIES,
    COMMAS,
    SENTENCE_ENDS,
    PlacedToken,
    asked_sentences,
    mentions_among,
    placed_tokens,
)

MEDIA: tuple[str, ...] = tuple(VALUES)
# Beside the clips of a data set: what each of them shows, where that is known.
CUES_FILE = "cues.jsonl"
_MEDIUM: Mapping[str, str] = {name: medium for medium in VALUES for name in VALUES[medium]}

_STATE_WORDS: Mapping[str, str] = {
    word: word for words in (*STATES.values(), WHOLE) for word in words
}


def _phrases() -> dict[str, list[tuple[str, ...]]]:
    """The phrases of the tables by their first word, longer ones first."""
    phrases: dict[str, list[tuple[str, ...]]] = {}
    for phrase in sorted({w for w in (*_STATE_WORDS, *PARTS) if "_" in w}, key=len, reverse=True):
        words = tuple(phrase.split("_"))
        phrases.setdefault(words[0], []).append(words)
    return phrases


_PHRASES = _phrases()
_DEGREES = frozenset(
    "very quite slightly somewhat a bit little so too rather still more less half visibly both "
    "also look looks looking sound sounds sounding stay stays remain held kept become becomes "
    "get gets grow grows turned it".split()
)
_ADVERBS = frozenset("very quite somewhat rather more less so too".split())
_DETERMINERS = frozenset("the his her their its a an".split())
_BETWEEN = frozenset("in of to between on around at across through".split())
# Nouns for a state: "a tremor in his voice".
_NOUNS = frozenset(
    "tremor tremors tremble trembling quiver quivering quaver shake furrow furrows crease creases "
    "tears tear wrinkle wrinkles".split()
)
# Someone else is spoken of from here on.
_NEW_SUBJECTS = frozenset("he she they who i we you as when while because".split())
_VANISHING = frozenset("fades faded fading vanishes vanished disappears disappeared".split())
# How far "would" reaches, in tokens.
_WOULD_REACH = 6
# Longest way from a state to its part, in tokens.
_FAR = 24


class Cue(NamedTuple):
    """One thing that a face shows or that a voice does.

    Attributes:
        medium: "video" or "audio".
        attribute: key of `VALUES[medium]`.
        value: one of its values.
    """

    medium: str
    attribute: str
    value: str


@dataclass(frozen=True)
class NamedCues:
    """Cues by medium.

    Attributes:
        video: of the face.
        audio: of the voice.
    """

    video: frozenset[Cue] = frozenset()
    audio: frozenset[Cue] = frozenset()

    def of(self, medium: str) -> frozenset[Cue]:
        """Those of one medium, "video" or "audio"."""
        return {"video": self.video, "audio": self.audio}[medium]

    @classmethod
    def collect(cls, cues: Iterable[Cue]) -> NamedCues:
        """Sort cues by medium."""
        found = frozenset(cues)
        return cls(*(frozenset(c for c in found if c.medium == medium) for medium in MEDIA))


@dataclass(frozen=True)
class CueTruth:
    """How the cues that a text names compare with those that are there, in one medium.

    Attributes:
        hits: cues that are named and there.
        named: cues that are named.
        there: cues that are there and worth naming.
    """

    hits: int
    named: int
    there: int

    @property
    def precision(self) -> float | None:
        """Share of the named cues that are there; None where none is named."""
        return self.hits / self.named if self.named else None

    @property
    def recall(self) -> float | None:
        """Share of the cues there that are named; None where there is none."""
        return self.hits / self.there if self.there else None

    @property
    def f1(self) -> float | None:
        """2 hits / (named + there); None where both are 0."""
        total = self.named + self.there
        return 2 * self.hits / total if total else None


def read_cues(text: str) -> NamedCues:
    """The cues that a text claims. Time is linear in the text."""
    return NamedCues.collect(cue for cue, _ in _named(text))


def cue_spans(text: str) -> list[tuple[str, int, int]]:
    """Where a text says what a face shows or a voice does: medium, start, end.

    It is the words for the state, `text[start:end]`: "raised" of "the brows are raised". The part
    goes without saying in a list of parts, and is read with the state. The same words are found
    as by `read_cues`, in their order. Time is linear in the text.
    """
    return [(cue.medium, token.start, token.end) for cue, token in _named(text)]


def _named(text: str) -> Iterator[tuple[Cue, PlacedToken]]:
    """Each cue that a text claims, as often as it does, with the words for its state."""
    placed = _merged(placed_tokens(text, ()))
    tokens = [token.word for token in placed]
    asked = asked_sentences(tokens)
    for mention in mentions_among(tokens, _STATE_WORDS):
        if mention.denied or mention.sentence in asked or _is_unreal(tokens, mention.index):
            continue
        part = _part_of(tokens, mention.index)
        word = mention.word
        cue = STATES[part][word] if part is not None else WHOLE.get(word)
        if cue is not None:
            yield Cue(_MEDIUM[cue[0]], *cue), placed[mention.index]


def is_state_of_part(tokens: Sequence[str], index: int) -> bool:
    """Whether the token at `index` is said of a part of the face, of the body or of the voice."""
    return _part_of(tokens, index, any_part=True) is not None


def cue_truth(named: Collection[Cue], there: Collection[Cue]) -> CueTruth:
    """Compare named cues with those that are there; both are of one medium.

    A cue that stands for either of two ("furrowed") agrees with both. States of rest are not worth
    naming: one that is named and true counts nowhere, one that is named and false counts as named.
    Where all that is known of a face is at rest, "face relaxed" is what there is to name.

    Args:
        named: what a text names.
        there: what is there; states of rest may be among it. An attribute of which nothing is known
            has nothing.
    """
    known, worth = set(there), _worth_naming(there)
    counted = [cue for cue in named if not (is_resting(cue) and cue in known)]
    if known and all(is_resting(cue) for cue in known) and known <= set(named):
        counted += [cue for cue in worth if cue not in named]  # part by part it says the same
    return _counts(counted, worth)


def is_resting(cue: Cue) -> bool:
    """Whether a cue is the state of rest of a part; that of a whole face is not."""
    values = VALUES[cue.medium][cue.attribute]
    return cue.attribute in RESTING and cue.value == values[0]


def agree(one: Cue, other: Cue) -> bool:
    """Whether two cues may be the same thing, after values that stand for either of others."""
    if one == other:
        return True
    if one[:2] != other[:2]:
        return False
    mine = EITHER.get(one[1:], frozenset({one.value}))
    theirs = EITHER.get(other[1:], frozenset({other.value}))
    return bool(mine & theirs)


def _worth_naming(there: Collection[Cue]) -> list[Cue]:
    """What is not at rest, or that the whole face is."""
    worth = [cue for cue in there if not is_resting(cue)]
    if not worth and any(cue.medium == "video" for cue in there):
        return [Cue("video", "face", "relaxed")]
    return worth


def _counts(named: Sequence[Cue], there: Sequence[Cue]) -> CueTruth:
    precise = sum(any(agree(cue, other) for other in there) for cue in named)
    found = sum(any(agree(cue, other) for other in named) for cue in there)
    # "furrowed" and "lowered" of the same brows name one thing: it is a hit once.
    repeated = precise - found if precise > found else 0
    return CueTruth(min(precise, found), len(named) - repeated, len(there))


def _is_unreal(tokens: Sequence[str], index: int) -> bool:
    """Whether a state ends ("the smile fades") or is only thought of ("would widen the eyes")."""
    if index + 1 < len(tokens) and tokens[index + 1] in _VANISHING:
        return True
    for token in reversed(tokens[max(0, index - _WOULD_REACH) : index]):
        if token in SENTENCE_ENDS or token in COMMAS:
            return False
        if token == "would":
            return True
    return False


def _merged(tokens: Sequence[PlacedToken]) -> list[PlacedToken]:
    """The tokens with the words of a known phrase as one."""
    merged: list[PlacedToken] = []
    at = 0
    while at < len(tokens):
        for words in _PHRASES.get(tokens[at].word, ()):
            # "drawn tightly together" is the phrase too.
            skipped = 1 if len(tokens) > at + 1 and tokens[at + 1].word.endswith("ly") else 0
            rest = tokens[at + 1 + skipped : at + skipped + len(words)]
            if tuple(token.word for token in rest) == words[1:]:
                merged.append(PlacedToken("_".join(words), tokens[at].start, rest[-1].end))
                at += len(words) + skipped
                break
        else:
            merged.append(tokens[at])
            at += 1
    return merged


def _part_of(tokens: Sequence[str], index: int, any_part: bool = False) -> str | None:
    """The part that the state at `index` is said of, or None."""
    word = tokens[index]

    def fits(part: str | None) -> bool:
        return part is not None and (any_part or word in STATES[part])

    for part in (
        _before(tokens, index, through_lists=False),
        _after(tokens, index),
        _before(tokens, index, through_lists=True),
    ):
        if fits(part):
            return part
    if any_part or word in WHOLE:
        return None
    for at in range(index - 1, max(-1, index - _FAR), -1):
        token = tokens[at]
        if token in SENTENCE_ENDS or token in _NEW_SUBJECTS:
            return None
        if fits(PARTS.get(token)):
            return PARTS[token]
    return None


def _before(tokens: Sequence[str], index: int, through_lists: bool) -> str | None:
    """The part of "the brows are slightly raised", through a list also of "low, soft and slow"."""
    for at in range(index - 1, max(-1, index - _FAR), -1):
        token = tokens[at]
        if token in PARTS:
            return PARTS[token]
        if _is_degree(token):
            continue
        if through_lists and (token in _STATE_WORDS or token == "and" or token in COMMAS):
            continue
        return None
    return None


def _after(tokens: Sequence[str], index: int) -> str | None:
    """The part of "raised brows", "a low and trembling voice" or "a tremor in her voice"."""
    word, joined = tokens[index], False
    for at in range(index + 1, min(len(tokens), index + _FAR)):
        token = tokens[at]
        if token in PARTS:
            return PARTS[token]
        if token == "and" or token in COMMAS:
            joined = True
            if not _state_follows(tokens, at + 1):
                return None
        elif token in _DETERMINERS:
            # "raises her brows", but not "down her forehead"
            if joined or not (word in _NOUNS or word.endswith(("s", "ed", "ing"))):
                return None
        elif not (
            token in _STATE_WORDS or _is_degree(token) or (word in _NOUNS and token in _BETWEEN)
        ):
            return None
    return None


def _state_follows(tokens: Sequence[str], at: int) -> bool:
    """Whether a list goes on there: "loud", or "very loud"."""
    if at < len(tokens) and (tokens[at] in _ADVERBS or _is_adverb(tokens[at])):
        at += 1
    return at < len(tokens) and tokens[at] in _STATE_WORDS


def _is_adverb(token: str) -> bool:
    return token.endswith("ly") and len(token) > 4 and token not in _STATE_WORDS


def _is_degree(token: str) -> bool:
    """Whether a token may stand between a part and its state: "are", "slightly"."""
    return token in AUXILIARIES or token in _DEGREES or (token.endswith("ly") and len(token) > 4)
