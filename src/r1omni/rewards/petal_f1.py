"""F1 of the petals of a wheel of emotions that an answer's free words and the reference name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from r1omni.options import at_least, check_number
from r1omni.rewards.registry import register
from r1omni.text.answers import Answer, read_answers
from r1omni.text.emotions import EVERY_CLASS
from r1omni.text.wheel import list_words, petal
from r1omni.types import UsageError


def _check(options: Mapping[str, Any], columns: Collection[str]) -> None:
    check_number("length_power", options.get("length_power", 1.0), at_least(0))


@register("petal_f1", check=_check, needs_labels=True)
def petal_f1(
    completions: list[str],
    labels: list[str | None],
    *,
    open_labels: list[str | list[str] | None] | None = None,
    ended: list[bool] | None = None,
    length_power: float = 1.0,
    **columns: list[Any],
) -> list[float | None]:
    """F1 of the answer's petals against the reference's, cut for naming too much; 0 to 1.

    The words of the answer are brought to their base form and to a petal of the wheel
    (`text/wheel.py`); words outside the wheel are dropped. With the petals P of the answer's n
    words and G of the reference's m words,

        2 |P and G| / (|P| + |G|) * min(1, m / n) ** length_power

    It is not the published metric of open-vocabulary recognition (EMER and OV-MERD, OV-MER,
    arXiv 2410.01495), and values of the two must not be compared. That one has word lists of its
    own and averages over several emotion wheels; takes the harmonic mean of the data set's mean
    precision and mean recall, where this is the F1 of one sample, since a reward is of one
    completion; and has no penalty for naming too much.

    The F1 alone would pay for hedging: with one reference word, two guesses of which one is right
    earn 2/3. With the length penalty k guesses of which one is right earn 2 / (k (k + 1)). The
    likeliest of them alone is right in at least one of k such cases and then earns 1, which is
    more, so hedging never pays. Every word counts in n: repeated ones, synonyms, and those outside
    the wheel.

    0 for a malformed completion and for an answer without a word of the wheel. None where the
    reference has none.

    Args:
        completions: completions of the policy; the answer is a list, see `list_words`.
        labels: class names, the reference where `open_labels` has none.
        open_labels: for each completion a list of words, a text that lists them (also one
            written by Python, as OV-MERD ships), or None.
        ended: for each completion whether an end token closed it; None takes all as ended.
        length_power: option; how sharply naming too much is cut, 0 for not at all.
        columns: ignored.

    Raises:
        UsageError: a label outside the taxonomy.
    """
    references = [None] * len(completions) if open_labels is None else open_labels
    return [
        _score(answer, _reference(words, label), length_power)
        for answer, words, label in zip(
            read_answers(completions, ended), references, labels, strict=True
        )
    ]


def _reference(words: str | list[str] | None, label: str | None) -> list[str]:
    if words is not None:
        parts = [words] if isinstance(words, str) else words
        return [word for part in parts for word in list_words(part)]
    if label is not None and EVERY_CLASS.counted(label) is None:
        raise UsageError(f"label {label!r} names no class of the taxonomy")
    return [] if label is None else [label]


def _score(answer: Answer, reference: list[str], length_power: float) -> float | None:
    wanted = _petals(reference)
    if not wanted:
        return None
    named = list_words(answer.word) if answer.format_ok else []
    shown = _petals(named)
    if not shown:
        return 0.0
    f1 = 2 * len(shown & wanted) / (len(shown) + len(wanted))
    return f1 * min(1.0, len(reference) / len(named)) ** length_power


def _petals(words: list[str]) -> set[str]:
    return {found for word in words if (found := petal(word)) is not None}
