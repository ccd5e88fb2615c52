"""Which words of a text are claimed, and which are denied.

"He is not happy, he looks sad" names two emotions and claims one. The rules below know the
common ways of denying in English; they are no parser, and a text that means it otherwise is
misread. Time is linear in the text.

- "not", "no", "never", "without", "isn't", "lack of", "rather than" and the like deny what
  follows in the clause within a few words, and on through a list ("no anger, fear or disgust").
- "but", "however", "because" and the like, a full stop, a semicolon or a colon end a denial, and
  so do a comma and an "and" unless a list goes on.
- "not only", "no doubt", "not without" and "cannot hide" deny nothing.
- "anger is absent" and "the voice cannot be heard" deny what comes before.
- "anything but joy" denies joy, "nothing but joy" does not.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_TOKEN = re.compile(r"[^\W_]+(?:['\-][^\W_]+)*|[.!?;:,()\n。！？；：，、]")
SENTENCE_ENDS = frozenset(".!?\n。！？")
CLAUSE_ENDS = frozenset(";:()；：")
COMMAS = frozenset(",，、")

# A denial covers the sixth word after it ("no visible or audible signs of anger"), the second after
# a word that it has met ("cannot hear any voice", but not "instead of joy we see grief"), and the
# third if a verb follows there ("no voice can be heard").
_REACH = 6
_REACH_AFTER_MENTION = 2
_REACH_AFTER_VERB = 3

_DENIALS = frozenset(
    "not no never neither nor none nothing non without cannot hardly scarcely lack lacks lacking "
    "lacked absence devoid unlike fail fails failed".split()
)
_DENYING_PAIRS = frozenset(
    {("rather", "than"), ("instead", "of"), ("far", "from"), ("opposed", "to")}
    | {("free", "of"), ("free", "from"), ("anything", "but"), ("little", "to")}
    | {("rule", "out"), ("rules", "out"), ("ruling", "out"), ("ruled", "out")}
)
# After a denial: "not only angry", "no doubt angry".
_HARMLESS = frozenset("only just merely simply solely doubt wonder question without".split())
# "cannot hide his anger", "cannot help feeling sad".
_HIDING = frozenset(
    "hide hides hiding hidden conceal conceals concealing concealed contain contains containing "
    "mask masks masking suppress suppresses suppressing disguise restrain resist help deny "
    "stop stops".split()
)
# Before "than": "more than happy" claims happiness, "more sad than angry" denies anger.
_COMPARING = frozenset("more less other".split())
_CONTRASTS = frozenset(
    "but yet however although though while whereas because since instead rather".split()
)
AUXILIARIES = frozenset(
    "is are was were be been being seems seem appears appear remains can could may might must "
    "will would should does do did has have had".split()
)
_ABSENT = frozenset(
    "absent missing unavailable inaudible invisible unlikely excluded ruled lacking".split()
)
_PRESENT = frozenset(
    "present visible evident apparent heard audible seen shown available given provided detected "
    "observed included there likely".split()
)


@dataclass(frozen=True)
class Mention:
    """A word of a text that a table knows.

    Attributes:
        word: the word, in lower case.
        meaning: what the table says it stands for.
        sentence: number of its sentence, from 0.
        denied: whether the text says that it is not so.
        index: its place among the tokens of the text, from 0.
    """

    word: str
    meaning: str
    sentence: int
    denied: bool
    index: int


class PlacedToken(NamedTuple):
    """A token of a text and where it stands.

    Attributes:
        word: as `tokenize` gives it.
        start, end: its characters in the text, `text[start:end]`.
    """

    word: str
    start: int
    end: int


def find_mentions(text: str, meanings: Mapping[str, str]) -> list[Mention]:
    """The words of a text that `meanings` knows, in their order.

    Args:
        text: what a model wrote.
        meanings: words in lower case, and what each stands for. A word with a hyphen that is
            not in the table is read as its parts.
    """
    return mentions_among(tokenize(text, meanings), meanings)


def mentions_among(tokens: Sequence[str], meanings: Mapping[str, str]) -> list[Mention]:
    """The tokens that `meanings` knows, in their order.

    Args:
        tokens: of a text, as `tokenize` makes them.
        meanings: tokens, and what each stands for.
    """
    found: list[Mention] = []
    sentence, reach = 0, 0
    for index, token in enumerate(tokens):
        after = tokens[index + 1] if index + 1 < len(tokens) else ""
        before = tokens[index - 1] if index else ""
        if token in SENTENCE_ENDS:
            sentence, reach = sentence + 1, 0
        elif (before, token) == ("anything", "but"):
            continue
        elif token == "as" and "much" in tokens[max(0, index - _REACH) : index]:
            reach = 0  # "not so much anger as fear"
        elif _starts_denial(token, after, before):
            reach = 1 if token == "non" else _REACH
        elif token in CLAUSE_ENDS or token in _CONTRASTS or token in _HIDING:
            reach = 0
        elif token in COMMAS or token == "and":
            reach = reach if list_goes_on(tokens, index, meanings) else 0
        elif token in meanings:
            denied = reach > 0 or _denied_afterwards(tokens, index, meanings)
            found.append(Mention(token, meanings[token], sentence, denied, index))
            if reach:
                reach = _reach_after_mention(reach, after)
        elif reach:
            reach -= 1
    return found


def tokenize(text: str, meanings: Collection[str]) -> list[str]:
    """Words in lower case without a possessive "s", and marks that end sentences and clauses.

    Args:
        text: what a model wrote.
        meanings: words with a hyphen that stay whole, among others.
    """
    return [token.word for token in placed_tokens(text, meanings)]


def placed_tokens(text: str, meanings: Collection[str]) -> list[PlacedToken]:
    """What `tokenize` finds, with its place in the text; arguments are the same."""
    # Both keep the order of characters; only a few become longer in lower case.
    folded = text.replace("’", "'").casefold()
    origin: Sequence[int] = range(len(text))
    if len(folded) != len(text):
        origin = [at for at, char in enumerate(text) for _ in char.casefold()]
    tokens: list[PlacedToken] = []
    for match in _TOKEN.finditer(folded):
        word, start = match[0].removesuffix("'s"), match.start()
        whole = "-" not in word or word in meanings
        for part in [word] if whole else word.split("-"):
            end = start + len(part)
            tokens.append(PlacedToken(part, origin[start], origin[end - 1] + 1))
            start = end + 1
    return tokens


def asked_sentences(tokens: Sequence[str]) -> frozenset[int]:
    """Numbers of the sentences that end with a question mark, from 0."""
    ends = [token for token in tokens if token in SENTENCE_ENDS]
    return frozenset(number for number, end in enumerate(ends) if end in ("?", "？"))


def _starts_denial(token: str, after: str, before: str) -> bool:
    if token in _DENIALS or token.endswith("n't"):
        return after not in _HARMLESS and (token, before) != ("without", "not")
    if token == "than":
        return before not in _COMPARING
    return (token, after) in _DENYING_PAIRS


def _reach_after_mention(reach: int, after: str) -> int:
    """How far a denial reaches beyond a word that it covers, given the next word."""
    if after in COMMAS or after in ("or", "and"):
        return _REACH  # a list may go on for as long as it likes
    if after in AUXILIARIES:
        return _REACH_AFTER_VERB
    return min(reach - 1, _REACH_AFTER_MENTION)


def list_goes_on(tokens: Sequence[str], index: int, meanings: Mapping[str, str]) -> bool:
    """Whether the comma or "and" at `index` stands between two members of a list."""
    after = tokens[index + 1 : index + 3]
    if tokens[index] in COMMAS and after[:1] == ["and"]:
        after = after[1:]
    return bool(after) and (after[0] in ("or", "nor") or after[0] in meanings)


def _denied_afterwards(tokens: Sequence[str], index: int, meanings: Mapping[str, str]) -> bool:
    """Whether a verb after the mention at `index` denies it: "is absent", "cannot be heard"."""
    index += 1
    # "voice or sound is missing": the verb follows the last of them, three at most.
    for _ in range(2):
        if tokens[index : index + 1] in (["or"], ["and"]) and any(
            word in meanings for word in tokens[index + 1 : index + 2]
        ):
            index += 2
    verb = tokens[index : index + 5]
    if not verb or not (verb[0] in AUXILIARIES or _is_not(verb[0])):
        return False
    denies = False
    for word in verb:
        if not word[0].isalnum() or word in _CONTRASTS:
            return False
        if word in _ABSENT:
            return not denies
        denies = denies or _is_not(word)
        if word in _PRESENT:
            return denies
    return False


def _is_not(word: str) -> bool:
    return word in ("not", "never", "cannot", "hardly", "scarcely") or word.endswith("n't")
