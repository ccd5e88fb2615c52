"""The form of a completion: `<think>reasoning</think><answer>word</answer>`."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from r1omni.types import UsageError

# Anything that looks like one of the tags: any case, attributes, stray white space. Written so
# that a failed match gives back each character once: linear time on any text.
_TAG_LIKE = re.compile(r"<\s*(?:/\s*)?(?:think|answer)\b", re.IGNORECASE)
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
# What stands before a direct answer: the form of `render_completion`, with nothing to reason.
EMPTY_REASONING = "<think></think>\n<answer>"

# What `text/prompt.py` shows of tokens that are no text, such as those of the chat template.
SPECIAL_TOKEN = re.compile(r"<\|[^<>|\s]{1,64}\|>")
# White space that may stand before, between and after the two blocks, in characters each. Two
# lines and an indent need less; hundreds of line ends are a way to write on without saying more.
MAX_SPACE_OUTSIDE = 16

# Letters and symbols that print nothing: Hangul fillers and the empty Braille pattern.
_BLANKS = frozenset("\u115f\u1160\u3164\uffa0\u2800")


@dataclass(frozen=True)
class ParsedCompletion:
    """A completion taken apart.

    Attributes:
        format_ok: whether the completion has exactly the answer format.
        reasoning: text inside `<think>`, stripped; "" unless `format_ok`.
        answer: text inside `<answer>`, stripped; "" unless `format_ok`.
    """

    format_ok: bool
    reasoning: str
    answer: str


MALFORMED = ParsedCompletion(False, "", "")


def has_tags(text: str) -> bool:
    """Whether anything in a text looks like one of the tags."""
    return _TAG_LIKE.search(text) is not None


def parse_completion(text: str) -> ParsedCompletion:
    """Take a completion apart, if it has exactly the answer format.

    The form is one `<think>` block, then one `<answer>` block, with nothing but white space
    around and between them, at most `MAX_SPACE_OUTSIDE` characters in each place; neither is
    empty or holds only characters that print nothing, and neither holds a further tag of these
    names, in any case, or a special token (`<|im_start|>`). Time is linear in the text.

    Args:
        text: a completion that has ended, without its end token; one that was cut is not of the
            answer format, whatever its text (`text/answers.py`).
    """
    spans = [match.start() for match in _TAG_LIKE.finditer(text)]
    if len(spans) != len(_TAGS):
        return MALFORMED
    if not all(text.startswith(tag, at) for tag, at in zip(_TAGS, spans, strict=True)):
        return MALFORMED
    ends = [at + len(tag) for tag, at in zip(_TAGS, spans, strict=True)]
    outside = (text[: spans[0]], text[ends[1] : spans[2]], text[ends[3] :])
    if any(part.strip() or len(part) > MAX_SPACE_OUTSIDE for part in outside):
        return MALFORMED
    if SPECIAL_TOKEN.search(text):
        return MALFORMED
    reasoning = text[ends[0] : spans[1]].strip()
    answer = text[ends[2] : spans[3]].strip()
    if not (_is_visible(reasoning) and _is_visible(answer)):
        return MALFORMED
    return ParsedCompletion(True, reasoning, answer)


def render_completion(reasoning: str, word: str) -> str:
    """Write a completion which `parse_completion` takes apart into the same two parts.

    Raises:
        UsageError: a part is empty, or holds one of the tags or a special token.
    """
    text = f"<think>{reasoning.strip()}</think>\n<answer>{word.strip()}</answer>"
    if not parse_completion(text).format_ok:
        raise UsageError(
            f"cannot write a completion from reasoning {reasoning[:80]!r} and answer "
            f"{word[:80]!r}: neither may be empty or hold a <think> or <answer> tag "
            "or a special token such as <|im_end|>"
        )
    return text


def _is_visible(text: str) -> bool:
    """Whether any character prints something: no space, control, format or combining mark."""
    return any(c not in _BLANKS and unicodedata.category(c)[0] not in "ZCM" for c in text)
