"""The log of an analysis: one record a line, written when it is known, read back to resume.

Records of a recording stand together. What other tools are given is made from the log alone.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from r1omni.recordings.records import Record, Recording
from r1omni.recordings.segments import recording_of
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
        self._descriptor = None if path is None else os.open(path, os.O_WRONLY | os.O_APPEND)

    def write(self, record: Record) -> None:
        """Append a record.

        Raises:
            R1OmniError: it cannot be written.
        """
        line = as_line(record)
        try:
            if self._descriptor is None:
                sys.stdout.write(line.decode("ascii"))
                sys.stdout.flush()
                return
            while line:
                line = line[os.write(self._descriptor, line) :]
        except OSError as error:
            raise R1OmniError(
                f"{self.name}: cannot be written ({error.strerror}); the lines before are kept"
            ) from error

    def close(self) -> None:
        if self._descriptor is not None:
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
        yield recording_of(name, group)


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


def drop_failed(path: Path) -> None:
    """Take all lines of recordings that could not be analyzed out of a log.

    Raises:
        R1OmniError: as `read_log`.
    """
    failed = {record.path for record in read_log(path) if record.error is not None}
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as kept:
        for record in read_log(path):
            if record.path not in failed:
                kept.write(as_line(record))
    partial.replace(path)


@dataclass(frozen=True)
class LogState:
    """What a log holds so far.

    Attributes:
        records: of each recording how many records it has, or None where it is complete.
        errors: of recordings that could not be analyzed, with the reasons.
        settings: of each recording the hash in its records.
        model: hash in its records, the last one's; None of an empty log.
        last: the span of the last record.
    """

    records: Mapping[str, int | None] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    last: tuple[float, float] | None = None

    @classmethod
    def read(cls, path: Path) -> LogState:
        """What is in a log.

        Raises:
            R1OmniError: as `read_log`, or lines of a recording are missing or away from its others.
        """
        records: dict[str, int | None] = {}
        errors: dict[str, str] = {}
        settings: dict[str, str] = {}
        record = before = None
        for record in read_log(path):
            if before is not None and record.path != before.path:
                wrong = before if not before.is_last else record if record.path in records else None
                if wrong is not None:
                    raise R1OmniError(
                        f"{path}: not all lines of {wrong.path!a} are there, or they do not "
                        "stand together; remove those that are"
                    )
            known = records.get(record.path)
            records[record.path] = None if record.is_last else (known or 0) + 1
            settings[record.path] = record.settings
            if record.error is not None:
                errors[record.path] = record.error
            before = record
        if record is None:
            return cls()
        return cls(records, errors, settings, record.model, (record.start_s, record.end_s))

    def is_complete(self, path: Path) -> bool:
        """Whether all of a recording is answered, or it could not be analyzed."""
        return self.records.get(str(path), 0) is None

    def num_records(self, path: Path) -> int:
        """Records of a recording that is not complete."""
        return self.records.get(str(path)) or 0

    def check(
        self, path: Path | None, model: str, row: Mapping[str, Any], hashes: Mapping[str, str]
    ) -> None:
        """Check that records of a model and of settings may follow.

        Args:
            path: of the log.
            model: the hash.
            row: the settings by their names.
            hashes: of each recording that is asked for the hash of its settings.

        Raises:
            UsageError: the log has others.
        """
        same = "resume with the same, or choose another --out"
        if self.model not in (None, model):
            raise UsageError(
                f"{path}: was written with another model ({self.model}, now {model}); {same}"
            )
        changed = [name for name, now in hashes.items() if self.settings.get(name, now) != now]
        if not changed:
            return
        assert path is not None  # there are records of earlier
        told = _differences(_read_settings(path), row)
        if told is None and row["has_intervals"]:
            told = f"or other intervals of {changed[0]!a}"
        raise UsageError(
            f"{path}: was written with other settings{f' ({told})' if told else ''}; {same}"
        )


def settings_file(log: Path) -> Path:
    """Where the settings of the log of a folder are told in words."""
    return log.with_name("settings.json")


def _read_settings(log: Path) -> Mapping[str, Any]:
    try:
        row = json.loads(settings_file(log).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # it only explains; the hashes decide
    return row if isinstance(row, dict) else {}


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Which settings were others, or None where that is not known."""
    names = [name for name in now if name in then and then[name] != now[name]]
    return "; ".join(f"{name} {then[name]!r}, now {now[name]!r}" for name in names) or None
