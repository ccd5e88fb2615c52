"""What a completion answers: the one reader that analyze, evaluation and rewards share.

It is lenient on format, so that models that were trained to answer otherwise can be compared, and
it says whether the format is right. Rewards pay for the strict half only, the answer format.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from r1omni.text.emotions import canonical
from r1omni.text.tags import MALFORMED, SPECIAL_TOKEN, parse_completion

_OPENING = re.compile(r"<answer>", re.IGNORECASE)
_CLOSING = re.compile(r"</answer>", re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """A completion as its readers take it.

    Attributes:
        word: what stands as the answer, stripped, whether or not it is an emotion; "" for none.
        before: the text before it, its tag included; "" where the text is not in answer tags.
        format_ok: whether the completion has exactly the answer format and has ended.
        reasoning: text inside `<think>`, stripped; "" unless `format_ok`.
    """

    word: str
    before: str
    format_ok: bool
    reasoning: str

    @property
    def emotion(self) -> str | None:
        """The canonical emotion that the word names, or None."""
        return canonical(self.word)


def read_answer(text: str, ended: bool = True) -> Answer:
    """Read a completion.

    The word is the content of the only `<answer>` block, whatever stands around it, or the whole
    text where there is no answer tag. More than one block, or half of one, is no answer. Special
    tokens are passed over. Time is linear in the text.

    Args:
        text: a completion with its special tokens, but without the end token.
        ended: whether an end token closed it. One that the limit of tokens cut is not of the
            answer format.
    """
    parsed = parse_completion(text) if ended else MALFORMED
    before, word = _split(SPECIAL_TOKEN.sub("", text))
    return Answer(word.strip(), before, parsed.format_ok, parsed.reasoning)


def read_answers(texts: Sequence[str], ended: Sequence[bool] | None = None) -> list[Answer]:
    """Read N completions; without `ended` all of them count as ended."""
    known = [True] * len(texts) if ended is None else ended
    return [read_answer(text, bool(end)) for text, end in zip(texts, known, strict=True)]


def _split(text: str) -> tuple[str, str]:
    """The text before the answer, and the answer."""
    opening, closing = list(_OPENING.finditer(text)), list(_CLOSING.finditer(text))
    if not opening and not closing:
        return "", text
    if len(opening) != 1 or len(closing) != 1 or closing[0].start() < opening[0].end():
        return "", ""
    start = opening[0].end()
    return text[:start], text[start : closing[0].start()]
