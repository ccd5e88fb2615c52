"""The lines of a file of predictions, read; one that cannot be what `test` writes is refused.

What follows from a completion's text is read in it again (`metrics/predictions.py`), so what a line
says of that is replaced there and not looked at here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from r1omni.metrics.breakdown import BINS, FIELDS, wrong_part_fields
from r1omni.text.cue_words import VALUES
from r1omni.text.emotions import CLASSES, EVERY_CLASS
from r1omni.types import ANSWER_MODES, MODALITIES, AnswerMode, UsageError

# Without one of these an answer cannot be judged.
_NEEDED = ("sample_id", "label", "text", "ended", "group")
# Shares that are written with two digits are off by this at most, each.
_ROUNDING = 0.005
_DIRECT = ("direct_prediction", "direct_scores")
# What a line of a mode has of the scores.
_OF_MODE: Mapping[AnswerMode, tuple[str, ...]] = {
    "think": (), "direct": _DIRECT, "both": ("scores", *_DIRECT)
}  # fmt: skip


def read_predictions(file: Path) -> list[dict[str, Any]]:
    """The records of a file.

    Raises:
        UsageError: no JSON Lines, no record, one that lacks what an answer is judged by or has a
            value of another type or range, two of one sample, or records of several answer modes.
    """
    records: dict[str, dict[str, Any]] = {}
    first: tuple[int, str] | None = None
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read ({error})") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        record = _read_row(where, line)
        if records.setdefault(record["sample_id"], record) is not record:
            raise UsageError(f"{where}: a second answer to {record['sample_id']}; keep one")
        if record.get("unreadable") or record.get("missing"):  # no answer, so of no mode
            continue
        mode = _mode_of(where, record)
        first = first or (number, mode)
        if mode != first[1]:
            raise UsageError(
                f"{where}: is an answer of mode {mode!r}, line {first[0]} one of {first[1]!r}; "
                "score the answers of each mode as files of a folder of their own"
            )
    if not records:
        raise UsageError(f"{file}: holds no answer; leave it out")
    return list(records.values())


def _read_row(where: str, line: str) -> dict[str, Any]:
    """The record of a line, each of whose fields is of its type and range."""
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"{where}: is no JSON ({error.msg})") from error
    lacking = [key for key in _NEEDED if not isinstance(record, dict) or key not in record]
    if lacking:
        raise UsageError(
            f"{where}: is no prediction, it has no {', '.join(lacking)}; name a file that `test` "
            "or `predict` wrote, or give labels of another system's clips to `score` by "
            "--references"
        )
    for key, (fits, wanted) in ROW_FIELDS.items():
        if key in record and not fits(record[key]):
            raise UsageError(
                f"{where}: {key} is {record[key]!r:.60}, it has to be {wanted}; mend or remove "
                "the line"
            )
    if record["text"] is None and not _is_word(record):
        raise UsageError(
            f"{where}: answer is {record.get('answer')!r:.60}, and there is no text; it has to be "
            "null or a word for an emotion; mend or remove the line"
        )
    return record  # type: ignore[no-any-return]


def _mode_of(where: str, record: Mapping[str, Any]) -> str:
    """The answer mode of a record, whose scores have to be those of the mode.

    A line by hand need not name its mode, and may have scores of the reasoned answer alone.
    """
    found = tuple(key for key in _OF_MODE["both"] if key in record)
    named = record.get("answer_mode")
    if named is None and found == ("scores",):
        return "think, with scores"
    fitting = next((mode for mode, keys in _OF_MODE.items() if keys == found), None)
    if fitting is None or named not in (None, fitting):
        wanted = _OF_MODE[named or ("both" if "scores" in found else "direct")]
        raise UsageError(
            f"{where}: answer_mode is {named!r}, of scores there is {_listed(found)}, it has to be "
            f"{_listed(wanted)}; mend or remove the line"
        )
    best = record.get("direct_prediction")
    if best is not None and best not in record["direct_scores"]:
        raise UsageError(
            f"{where}: direct_prediction is {best!r}, which is not among its direct_scores; mend "
            "or remove the line"
        )
    return fitting


def _listed(keys: tuple[str, ...]) -> str:
    return " and ".join(keys) or "nothing"


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


def _among(*values: Any) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str | NoneType) and value in values


def _is_share(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1  # neither a bool nor NaN


def _are_shares(values: Any) -> bool:
    """Whether they are shares of one probability by emotion."""
    return (
        isinstance(values, dict)
        and bool(values)
        and all(name in CLASSES and _is_share(value) for name, value in values.items())
        and abs(sum(values.values()) - 1) <= _ROUNDING * len(values)
    )


def are_cues(known: Any) -> bool:
    """Whether they are None, or medium -> pairs of an attribute and its value, each once."""
    if known is None:
        return True
    return isinstance(known, dict) and all(
        medium in VALUES
        and isinstance(pairs, list)
        and all(isinstance(p, list) and list(map(type, p)) == [str, str] for p in pairs)
        and all(value in VALUES[medium].get(name, ()) for name, value in pairs)
        and len({name for name, _ in pairs}) == len(pairs)
        for medium, pairs in known.items()
    )


def _is_word(record: Mapping[str, Any]) -> bool:
    """Whether a record without a text says what the answer is: a word for an emotion, or None."""
    word = record.get("answer")
    return "answer" in record and (word is None or (isinstance(word, str) and is_emotion(word)))


def is_emotion(word: str) -> bool:
    """Whether a word names an emotion, of whatever label set."""
    return EVERY_CLASS.counted(word) is not None


def _fits_part(key: str) -> Callable[[Any], bool]:
    return lambda value: not wrong_part_fields({key: value})


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _are_votes(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(map(_among(None, *CLASSES), values))


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


_EMOTION = (_among(*CLASSES), "an emotion of this project")
_SHARE = (_is_share, "a number from 0 to 1")
_SHARES = (_are_shares, "shares by emotion, numbers from 0 to 1 that add up to 1")
# Fields of a line -> whether a value fits, and what is wanted. Those that are read in the text
# again are not among them.
ROW_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "sample_id": (_is(str), "a text"),
    "path": (_is(str, NoneType), "a text or null"),
    "label": (_among(None, *CLASSES), "null or an emotion of this project"),
    "text": (_is(str, NoneType), "a text, or null of a system that writes no completions"),
    "ended": (_is(bool), "true or false"),
    "group": (_is(str, NoneType), "a text or null"),
    **{
        key: (_among(None, *values), f"null or one of {', '.join(values)}")
        for key, values in FIELDS.items()
    },
    "language": (_fits_part("language"), "a text or null"),
    **{key: (_fits_part(key), f"null or a number of {unit}") for key, (unit, _) in BINS.items()},
    "modality": (_among(None, *MODALITIES), f"null or one of {', '.join(MODALITIES)}"),
    "open_labels": (lambda value: value is None or _are_texts(value), "null or a list of texts"),
    "reference": (_is(str, NoneType), "a text or null"),
    "warnings": (_are_texts, "a list of texts"),
    "unreadable": (_is(str), "a text, why the clip could not be decoded"),
    "label_set": (_is(str), "a text"),
    "known_cues": (are_cues, "null or, by medium, pairs of an attribute and its value"),
    "answer_mode": (_among(*ANSWER_MODES), f"one of {', '.join(ANSWER_MODES)}"),
    "confidence": _SHARE,
    "scores": _SHARES,
    "votes": (_are_votes, "a list of emotions of this project and nulls, one a vote"),
    "num_tokens": (_is_count, "a whole number, 0 or more"),
    "votes_num_tokens": (_is_count, "a whole number, 0 or more"),
    "direct_prediction": _EMOTION,
    "direct_confidence": _SHARE,
    "direct_scores": _SHARES,
}
