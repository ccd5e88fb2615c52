"""The tables of the published emotion-wheel metric, read from a folder of the user's.

They come with MERTools (MER2025/MER2025_Track23/emotion_wheel) and are not shipped with r1omni:
docs/open_vocabulary.md says why, and what is in them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from r1omni.extras import require
from r1omni.text.wheel import list_words
from r1omni.text.wheels import Wheel
from r1omni.types import UsageError, why_no_file

_LEVELS = ("level1", "level2", "level3")


def published_wheels(folder: Path) -> dict[str, Wheel]:
    """The wheels of a folder in the published layout, each to its innermost ring (level1).

    A word is looked up as the published code looks it up, in lower case: in `format.csv`, a form ->
    the words that it is a form of; in `synonym.xlsx`, such a word -> the words of the wheels that
    it is a synonym of; of all these, in the order of the alphabet, the first that is on the wheel.

    Args:
        folder: with `format.csv` (name, format), `synonym.xlsx` (word_runN, synonym_runN) and one
            or more `wheelN.xlsx` (level1, level2, level3; an empty cell repeats the one above).

    Raises:
        UsageError: a table that is missing, or is no such table; openpyxl is not installed.
    """
    require(f"--wheels {folder}", "world", "openpyxl")
    files = sorted(folder.glob("wheel*.xlsx"))
    if not files:
        raise UsageError(f"--wheels {folder}: has no wheel1.xlsx; name the folder emotion_wheel")
    forms = _forms(folder / "format.csv")
    synonyms = _synonyms(folder / "synonym.xlsx")
    meanings = {
        form: sorted({wheel for word in words for wheel in synonyms.get(word, ())})
        for form, words in forms.items()
    }
    return {file.stem: _wheel(meanings, _clusters(file)) for file in files}


def _wheel(meanings: Mapping[str, Sequence[str]], clusters: Mapping[str, str]) -> Wheel:
    table = {
        form: next((clusters[word] for word in words if word in clusters), None)
        for form, words in meanings.items()
    }
    return lambda word: table.get(word.strip().lower())


def _forms(file: Path) -> dict[str, set[str]]:
    """A form -> the words that it is a form of, itself among them where it is a word."""
    found: dict[str, set[str]] = {}
    if not file.is_file():
        raise UsageError(f"{file}: {why_no_file(file)}")
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{file}: cannot be read ({error})") from error
    if not rows or not {"name", "format"} <= rows[0].keys():
        raise UsageError(f"{file}: has no columns name and format")
    for row in rows:
        word = (row["name"] or "").strip().lower()
        for form in (word, *_listed(row["format"])):
            found.setdefault(form, set()).add(word)
    return found


def _synonyms(file: Path) -> dict[str, set[str]]:
    """A word -> the words of wheels that it is a synonym of, itself among them where it is one."""
    found: dict[str, set[str]] = {}
    for row in _rows(file, ["word_run1", "synonym_run1"]):
        for column, cell in row.items():
            if not column.startswith("word_") or not cell:
                continue
            word = str(cell).strip().lower()
            others = _listed(row.get(column.replace("word_", "synonym_")))
            for synonym in (word, *others):
                found.setdefault(synonym, set()).add(word)
    return found


def _clusters(file: Path) -> dict[str, str]:
    """Every word of a wheel -> the word of the innermost ring that it lies on.

    Of a word that stands twice the later counts, group after group, as in the published code.
    """
    rings: dict[str, dict[str, list[str]]] = {}
    last = dict.fromkeys(_LEVELS, "")
    for row in _rows(file, _LEVELS):
        last |= {level: str(row[level]).strip().lower() for level in _LEVELS if row[level]}
        inner, middle, outer = (last[level] for level in _LEVELS)
        rings.setdefault(inner, {}).setdefault(middle, []).append(outer)
    return {
        word: inner
        for inner, middles in rings.items()
        for word in (inner, *(w for middle, outer in middles.items() for w in (middle, *outer)))
    }


def _rows(file: Path, needed: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of the first sheet, by the names in its first row."""
    from openpyxl import load_workbook

    if not file.is_file():
        raise UsageError(f"{file}: {why_no_file(file)}")
    try:
        book = load_workbook(file, read_only=True, data_only=True)
        rows = [*book.worksheets[0].iter_rows(values_only=True)]
        book.close()
    except Exception as error:  # what it raises depends on what is wrong inside the archive
        raise UsageError(f"{file}: is no table of Excel ({error})") from error
    names = [str(cell or "").strip() for cell in rows[0]] if rows else []
    lacking = [name for name in needed if name not in names]
    if lacking:
        raise UsageError(f"{file}: has no column {lacking[0]}")
    for row in rows[1:]:
        if any(row):
            yield dict(zip(names, row, strict=False))


def _listed(cell: Any) -> list[str]:
    """The words of a cell: a list with commas, as Python or JSON writes it or bare."""
    text = str(cell or "").strip()
    try:
        parts = json.loads(text.replace("'", '"')) if text.startswith("[") else text.split(",")
    except ValueError:
        parts = list_words(text)
    return [word for part in parts if (word := str(part).strip().strip("'\"").lower())]
