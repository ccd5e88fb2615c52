"""CSV: the tables of `tables.py`, in UTF-8, with commas and a header."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from r1omni.recordings.formats.files import whole_file
from r1omni.recordings.formats.tables import TABLES
from r1omni.recordings.records import Recording

# A spreadsheet takes a cell that begins so for a formula, and would run it.
_FORMULA = re.compile(r"'*[=+\-@\t]")


@contextmanager
def writing(folder: Path, written: list[Path]) -> Iterator[Callable[[Recording, str], None]]:
    """Files that rows are added to, recording by recording.

    Args:
        folder: where to.
        written: gets the paths at the end.

    Yields:
        what writes one recording.
    """
    with ExitStack() as stack:
        writers = {}
        for name, table in TABLES.items():
            partial = stack.enter_context(whole_file(folder / f"{name}.csv", written))
            file = stack.enter_context(partial.open("w", encoding="utf-8", newline=""))
            writers[name] = csv.writer(file, lineterminator="\n")
            writers[name].writerow(table.columns)

        def write(recording: Recording, _: str) -> None:
            for name, table in TABLES.items():
                for row in table.rows(recording):
                    writers[name].writerow([cell(value) for value in row.values()])

        yield write


def cell(value: Any) -> Any:
    """A value as a cell holds it.

    A text that a spreadsheet would take for a formula gets an apostrophe before it. So does one
    that already begins with apostrophes and would be taken so without them: taking one apostrophe
    from every cell that `^'+[=+\\-@\\t]` finds gives the texts back.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and _FORMULA.match(value):
        return f"'{value}"
    return value


def text_of(cell: str) -> str:
    """The text that `cell` wrote."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
