"""A penalty for saying the same again (arXiv 2502.03373, appendix C.2)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from r1omni.options import TOKENS, above, check_number
from r1omni.rewards.registry import register

# Han and kana: written without spaces between words, so each character counts as one.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# A tag; one such character; at most 32 other letters or digits; or any other visible character.
# The bound cuts "hahaha..." without a space into equal pieces; no word of a language reaches it.
_WORD = re.compile(rf"</?(?:think|answer)>|[{_UNSPACED}]|[^\W_{_UNSPACED}]{{1,32}}|\S")


def _check(options: Mapping[str, Any], columns: Collection[str]) -> None:
    _check_values(options.get("ngram_size", 3), options.get("max_penalty", 1.0))


@register("repetition", check=_check)
def repetition(
    completions: list[str],
    labels: list[str | None],
    *,
    ngram_size: int = 3,
    max_penalty: float = 1.0,
    **columns: list[Any],
) -> list[float | None]:
    """Minus the share of repeated n-grams, from 0 down towards -max_penalty; never None.

        max_penalty * (distinct n-grams / n-grams - 1)

    as in appendix C.2 of arXiv 2502.03373, over words; 0 for fewer than n words. The whole
    completion counts, whatever its form: a completion without end is where repetition happens.

    A word is a run of letters and digits in any case, a tag of the answer's form, or a single
    other visible mark, so that "!!!!" counts as repeated. Chinese and Japanese are written
    without spaces; there each Han or kana character is a word of its own, so an n-gram spans
    about half as much text as in English, and a larger `ngram_size`, 5 or 6, suits better.
    Unlike a count of tokens this does not depend on the tokenizer. Time and memory are linear in
    the text.

    Args:
        completions: completions of the policy.
        labels: ignored.
        ngram_size: option; n, in words.
        max_penalty: option; what a completion of nothing but repetition comes near, above 0.
        columns: ignored.

    Raises:
        UsageError: an option out of range.
    """
    _check_values(ngram_size, max_penalty)
    return [max_penalty * _repetition(text, ngram_size) for text in completions]


def _repetition(text: str, ngram_size: int) -> float:
    """Minus the share of repeated n-grams."""
    words = _WORD.findall(text.casefold())
    total = len(words) - ngram_size + 1
    if total < 1:
        return 0.0
    distinct = {tuple(words[start : start + ngram_size]) for start in range(total)}
    return len(distinct) / total - 1


def _check_values(ngram_size: object, max_penalty: object) -> None:
    check_number("ngram_size", ngram_size, TOKENS, int)
    check_number("max_penalty", max_penalty, above(0))  # it is subtracted
