"""Tables of intervals: rows with a start and an end, under the names that people give columns."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from r1omni.recordings.formats.csv import text_of
from r1omni.recordings.formats.tables import SPAN
from r1omni.types import UsageError

Column = Literal["start", "end", "duration", "speaker", "text", "file"]
# Names of columns, in small letters and with underscores: ours, Praat's, ELAN's, those of BIDS.
NAMES: Mapping[Column, tuple[str, ...]] = {
    "start": ("start_s", "start", "start_time", "begin", "begin_s", "begin_time", "onset",
              "onset_s", "xmin", "tmin", "begin_time_ss.msec"),
    "end": ("end_s", "end", "end_time", "stop", "stop_s", "offset", "offset_s", "xmax", "tmax",
            "end_time_ss.msec"),
    "duration": ("duration_s", "duration", "duration_ss.msec"),
    "speaker": ("speaker", "speaker_id", "participant", "who", "voice"),
    "text": ("text", "transcript", "transcription", "utterance", "annotation", "caption"),
    "file": ("file", "path", "filename", "file_name", "recording", "media", "video", "audio"),
}  # fmt: skip
_DELIMITERS = ("\t", ";", ",")
_SECONDS = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_logger = logging.getLogger(__name__)
_CLOCK = re.compile(r"(?:(\d+):(?=[0-5]?\d:))?(\d{1,3}):([0-5]?\d(?:\.\d*)?)")


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        place: file and line, for messages.
        start_s, end_s: in seconds, not yet checked.
        speaker, text, file: the cells, or None and "" where there is nothing.
    """

    place: str
    start_s: float
    end_s: float
    speaker: str | None
    text: str
    file: str | None


@dataclass(frozen=True)
class _Header:
    """How the rows of a table are read.

    Attributes:
        delimiter: what parts the columns.
        names: of the columns, as they are spelled.
        columns: where each column is that is read.
        is_ours: whether `analyze` wrote the table.
    """

    delimiter: str
    names: tuple[str, ...]
    columns: Mapping[Column, int]
    is_ours: bool


def read_table(path: Path, text: str) -> Iterator[Row]:
    """Rows of a table with a header; empty lines are passed over.

    Tabs, semicolons or commas part the columns, whichever make the header one with a start and an
    end. Names may have letters of any case, spaces and hyphens. A duration counts where there is no
    end. Times are seconds, or [h:]mm:ss.fff, with a point or a comma before the fraction.

    A table that begins as those of `analyze` do (`formats/tables.py`) is read as one: its texts are
    as they were before they were written, a span that has several rows, one an emotion, is taken
    once, and recordings that failed have none, which a warning counts.

    Raises:
        UsageError: there is no such header, a column is there twice, a row has another number of
            columns, or a time is no time.
    """
    header = _header(path, text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=header.delimiter, strict=True)
    last: Row | None = None
    num_failed = 0
    try:
        next(reader)
        begin = reader.line_num + 1
        for cells in reader:
            place = f"{path}, line {begin}"
            begin = reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header.names):
                raise UsageError(
                    f"{place}: {len(cells)} columns, expected {len(header.names)}; put a text that "
                    f"holds {header.delimiter!r} in double quotes"
                )
            if header.is_ours and _failed(header, cells):
                num_failed += 1
                continue
            row = _row(place, {column: cells[at].strip() for column, at in header.columns.items()})
            if header.is_ours:
                row = replace(row, file=row.file and text_of(row.file),
                              speaker=row.speaker and text_of(row.speaker))  # fmt: skip
                if "is_label" in header.names and last and _span(row) == _span(last):
                    continue
                last = row
            yield row
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: malformed table ({error})") from error
    if num_failed:
        _logger.warning("%s: %d recordings that failed have no intervals", path, num_failed)


def _failed(header: _Header, cells: Sequence[str]) -> bool:
    """Whether a row of ours is of a recording that failed: it has an error and no span."""
    row = dict(zip(header.names, cells, strict=True))
    return bool(row.get("error")) and not (row["start_s"] or row["end_s"])


def _span(row: Row) -> tuple[Any, ...]:
    return row.file, row.start_s, row.end_s, row.speaker


def _header(path: Path, text: str) -> _Header:
    best: list[str] = []
    for delimiter in _DELIMITERS:
        try:
            names = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
        except csv.Error as error:
            raise UsageError(f"{path}, line 1: malformed table ({error})") from error
        plain = [re.sub(r"[\s_-]+", "_", name.strip().lower()) for name in names]
        columns: dict[Column, int] = {}
        is_ours = tuple(names[: len(SPAN)]) == tuple(SPAN)
        for column, known in NAMES.items():
            at = [place for place, name in enumerate(plain) if name in known]
            # Beside our path, the column media says which media there were.
            at = at[:1] if is_ours and column == "file" else at
            if len(at) > 1:
                raise UsageError(
                    f"{path}, line 1: the columns {names[at[0]]!r} and {names[at[1]]!r} both name "
                    f"the {column}; remove one"
                )
            if at:
                columns[column] = at[0]
        if "start" in columns and ("end" in columns or "duration" in columns):
            return _Header(delimiter, tuple(names), columns, is_ours)
        best = max(best, names, key=len)
    raise UsageError(
        f"{path}, line 1: no columns for start and end, found "
        f"{', '.join(map(repr, best))[:200] or 'nothing'}; name them start_s and end_s in the "
        "first line (docs/formats.md lists other names)"
    )


def _row(place: str, cells: Mapping[Column, str]) -> Row:
    start_s = _seconds(place, "start", cells["start"])
    if "end" in cells:
        end_s = _seconds(place, "end", cells["end"])
    else:
        end_s = start_s + _seconds(place, "duration", cells["duration"])
    return Row(
        place=place,
        start_s=start_s,
        end_s=end_s,
        speaker=cells.get("speaker") or None,
        text=cells.get("text", ""),
        file=cells.get("file") or None,
    )


def _seconds(place: str, column: Column, cell: str) -> float:
    text = cell.replace(",", ".") if "." not in cell else cell
    if _SECONDS.fullmatch(text):
        return float(text)
    if clock := _CLOCK.fullmatch(text):
        hours, minutes, seconds = (float(part or 0) for part in clock.groups())
        return hours * 3600 + minutes * 60 + seconds
    raise UsageError(
        f"{place}: the {column} is {cell[:80]!r}, expected seconds such as 1.5, or a time such as "
        "0:01:02.5"
    )
