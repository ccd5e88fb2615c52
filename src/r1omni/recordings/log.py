"""The log of an analysis: one record a line, written when it is known, read back to resume.

Records of a recording stand together. What other tools are given is made from the log alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from r1omni.recordings.records import Record, Recording
from r1omni.recordings.segments import segments, summary
from r1omni.types import R1OmniError, UsageError

LOG = "analyses.jsonl"
STANDARD_OUTPUT = "standard output"


def as_line(record: Record) -> bytes:
    """A record as a line of JSON, plain ASCII, so that any file name survives."""
    return (json.dumps(record.row()) + "\n").encode("ascii")


class Log:
    """Writes records to a file, or to standard output for None.

    Each is written by one call of the system and at once: whoever kills the process has all lines
    that were written before, whole.

    Args:
        path: a file that exists; lines are appended.
    """

    def __init__(self, path: Path | None) -> None:
        self.name = STANDARD_OUTPUT if path is None else str(path)
        self._descriptor = 1 if path is None else os.open(path, os.O_WRONLY | os.O_APPEND)
        self._is_own = path is not None

    def write(self, record: Record) -> None:
        """Append a record.

        Raises:
            R1OmniError: it cannot be written.
        """
        line = as_line(record)
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
        except OSError as error:
            raise R1OmniError(
                f"{self.name}: cannot be written ({error.strerror}); the lines before are kept"
            ) from error

    def close(self) -> None:
        if self._is_own:
            os.close(self._descriptor)


def read_log(path: Path) -> Iterator[Record]:
    """The records of a log, one after the other.

    Raises:
        R1OmniError: it cannot be read, or a line is no record; the message has its number.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    row: Any = json.loads(line)
                    record = Record.of_row(row)
                except (ValueError, TypeError, AttributeError, R1OmniError) as error:
                    reason = str(error) if isinstance(error, R1OmniError) else "no record"
                    raise R1OmniError(f"{path}, line {number}: {reason}") from error
                yield record
    except OSError as error:
        raise R1OmniError(f"{path}: cannot be read ({error.strerror})") from error


def read_recordings(path: Path) -> Iterator[Recording]:
    """The recordings of a log with what their records say together, one at a time in memory.

    Raises:
        R1OmniError: as `read_log`.
    """
    for name, group in groupby(read_log(path), key=lambda record: record.path):
        records = tuple(group)
        found = segments(records)
        yield Recording(name, records, found, summary(name, records, found))


def cut_torn_line(path: Path) -> None:
    """Take away what a process that was killed left of its last line."""
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        end = size
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            file.truncate(end)


@dataclass(frozen=True)
class LogState:
    """What a log holds so far.

    Attributes:
        records: of each recording how many records it has, or None where it is complete.
        errors: of recordings that could not be analyzed, with the reasons.
        model, settings: hashes in its records, the last one's; None of an empty log.
    """

    records: Mapping[str, int | None] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    settings: str | None = None

    @classmethod
    def read(cls, path: Path) -> LogState:
        """What is in a log; raises as `read_log`."""
        records: dict[str, int | None] = {}
        errors: dict[str, str] = {}
        record = None
        for record in read_log(path):
            before = records.get(record.path)
            records[record.path] = None if record.is_last else (before or 0) + 1
            if record.error is not None:
                errors[record.path] = record.error
        if record is None:
            return cls()
        return cls(records, errors, record.model, record.settings)

    def is_complete(self, path: Path) -> bool:
        """Whether all of a recording is answered, or it could not be analyzed."""
        return self.records.get(str(path), 0) is None

    def num_records(self, path: Path) -> int:
        """Records of a recording that is not complete."""
        return self.records.get(str(path)) or 0

    def check(self, path: Path | None, model: str, settings: str) -> None:
        """Check that records of a model and of settings may follow.

        Raises:
            UsageError: the log has others.
        """
        for what, now, then in (
            ("model", model, self.model),
            ("settings", settings, self.settings),
        ):
            if then not in (None, now):
                raise UsageError(
                    f"{path}: was written with other {what} ({then}, now {now}); resume with the "
                    "same, or choose another --out"
                )
