"""docs/formats.md names every format, column and constant as they are."""

from __future__ import annotations

import re
from pathlib import Path

from r1omni.recordings.formats import FORMATS
from r1omni.recordings.formats.tables import TABLES
from r1omni.recordings.interval_tables import NAMES
from r1omni.recordings.segments import MAX_GAP_S, MIN_MARGIN
from r1omni.text.emotions import CLASSES

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")


def row(first: str) -> list[str]:
    """What the last cell of the row that begins so has in code."""
    [found] = re.findall(rf"^\| {re.escape(first)} \|.*$", PAGE, re.MULTILINE)
    return re.findall(r"`([^`]+)`", found.split("|")[-2])


def test_the_page_lists_columns_and_names() -> None:
    for name, table in TABLES.items():
        listed = [
            column.replace("<emotion>", emotion)
            for column in row(f"`{name}`")
            for emotion in (CLASSES if "<emotion>" in column else [""])
            if column != ";"
        ]
        assert list(dict.fromkeys(listed)) == list(table.columns)
    titles = {"duration": "duration, where there is no end", "file": "recording"}
    for column, names in NAMES.items():
        assert row(titles.get(column, column)) == list(names)
    for name in FORMATS:
        assert f"\n| `{name}` | " in PAGE
    assert f"at most {MAX_GAP_S} s" in PAGE and f"by less than {MIN_MARGIN}." in PAGE
