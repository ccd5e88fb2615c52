"""Reading label files and finding the clips they name: shared by all loaders.

Every failure is one line that names the file (and line), the value, and what to do.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1omni.text.emotions import EMOTIONS, LabelSet, canonical
from r1omni.types import Modality, UsageError

# In small letters; files may have them in any case.
VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".flv", ".f4v", ".ts", ".mts",
    ".m2ts", ".mpg", ".mpeg", ".vob", ".wmv", ".asf", ".ogv",
)  # fmt: skip
SOUND_SUFFIXES = (
    ".wav", ".mp3", ".flac", ".m4a", ".m4b", ".ogg", ".oga", ".opus", ".aac", ".mka", ".wma",
    ".amr", ".aif", ".aiff", ".aifc", ".caf", ".w64",
)  # fmt: skip
_SEPARATORS = (",", ";", "\t")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


class MissingDataError(UsageError):
    """What a data set consists of is not in the folder."""


@dataclass(frozen=True)
class Row:
    """One record of a label file.

    Attributes:
        path: the file.
        line: line on which the record begins, from 1.
        values: column name in small letters -> text (CSV) or value (JSON).
    """

    path: Path
    line: int
    values: dict[str, Any]

    @property
    def place(self) -> str:
        return f"{self.path}, line {self.line}"

    def text(self, *names: str) -> str:
        """The first of these columns that holds text, stripped.

        Raises:
            UsageError: all of them are missing or empty.
        """
        for name in names:
            value = self.values.get(name)
            if value is not None and str(value).strip():
                return str(value).strip()
        raise UsageError(f"{self.place}: the column {names[0]!r} is empty; fill it or drop the row")

    def optional(self, name: str) -> str | None:
        """The column's text, or None when it is missing or empty."""
        value = self.values.get(name)
        return str(value).strip() or None if value is not None else None

    def seconds(self, name: str) -> float | None:
        """The column as seconds, or None when it is missing or empty."""
        return self.number(name, expected="seconds")

    def number(self, name: str, expected: str = "a number") -> float | None:
        """The column as a finite number, or None when it is missing or empty."""
        text = self.optional(name)
        if text is None:
            return None
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UsageError(
                f"{self.place}: the column {name!r} holds {text!r}, expected {expected}"
            )
        return number


def read_text(path: Path) -> str:
    """The file as text (UTF-8, with or without a byte order mark)."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error


def read_csv(path: Path, required: Sequence[str | tuple[str, ...]]) -> Iterator[Row]:
    """Rows of a table with a header; blank lines are passed over.

    Commas, semicolons or tabs separate the fields, whichever make the required columns. Names of
    columns may have letters of any case.

    Args:
        path: the file.
        required: columns that must be there; a tuple lists names that mean the same.

    Raises:
        UsageError: unreadable file, missing or repeated column, or a row with a wrong number of
            fields.
    """
    text = read_text(path)
    alternatives = [(names,) if isinstance(names, str) else names for names in required]
    separator = _separator(path, text, alternatives)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        header = [name.strip() for name in next(reader)]
        begin = reader.line_num + 1
        for fields in reader:
            if fields:
                if len(fields) != len(header):
                    raise UsageError(
                        f"{path}, line {begin}: {len(fields)} fields, expected {len(header)} "
                        f"({', '.join(header)}); put a field that holds {separator!r} in double "
                        "quotes"
                    )
                yield Row(
                    path, begin, _columns(f"{path}, line 1", zip(header, fields, strict=True))
                )
            begin = reader.line_num + 1
    except csv.Error as error:
        raise UsageError(
            f"{path}, line {reader.line_num}: malformed CSV ({error}); a quote inside a quoted "
            "field is written twice, not after a backslash"
        ) from error


def _separator(path: Path, text: str, required: Sequence[tuple[str, ...]]) -> str:
    """The separator with which the first line names the required columns."""
    best: list[str] = []
    missing: tuple[str, ...] = ()
    for separator in _SEPARATORS:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        try:
            header = [name.strip().lower() for name in next(lines, [])]
        except csv.Error as error:
            raise UsageError(f"{path}, line 1: malformed CSV ({error})") from error
        lacking = [names for names in required if not any(name in header for name in names)]
        if not lacking:
            return separator
        if len(header) > len(best):
            best, missing = header, lacking[0]
    raise UsageError(
        f"{path}, line 1: no column {' or '.join(missing or required[0])}; found "
        f"{', '.join(best) or 'nothing'}; name the columns in the first line, separated by commas, "
        "semicolons or tabs"
    )


def _columns(place: str, named: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name, value in named:
        name = name.strip().lower()
        if name in columns and name:
            raise UsageError(f"{place}: the column {name!r} is there twice; remove one")
        columns[name] = value
    return columns


def read_json_rows(path: Path) -> Iterator[Row]:
    """Objects of a JSON Lines file, or of a JSON file holding a list (line = place in the list).

    Raises:
        UsageError: malformed JSON, or an entry that is no object.
    """
    text = read_text(path)
    entries: list[tuple[int, Any]]
    try:
        if path.suffix.lower() == ".jsonl":
            entries = []
            for number, line in enumerate(text.split("\n"), start=1):
                if line.strip():
                    entries.append((number, _parse_json(path, number, line)))
        else:
            whole = json.loads(text)
            if not isinstance(whole, list):
                raise UsageError(f"{path}: holds a {type(whole).__name__}, expected a list")
            entries = list(enumerate(whole, start=1))
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}, line {error.lineno}: malformed JSON ({error.msg})") from error
    for number, entry in entries:
        if not isinstance(entry, dict):
            raise UsageError(
                f"{path}, entry {number}: is a {type(entry).__name__}, expected an object"
            )
        yield Row(path, number, _columns(f"{path}, entry {number}", entry.items()))


def _parse_json(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}, line {number}: malformed JSON ({error.msg})") from error


def class_of(word: str, labels: LabelSet | None, place: str) -> str:
    """The canonical class that a label names; `labels` None means any known emotion.

    Raises:
        UsageError: the word is outside the label set.
    """
    label = canonical(word) if labels is None else labels.parse(word)
    if label is None:
        known = ", ".join(labels.labels if labels else EMOTIONS)
        raise UsageError(f"{place}: label {word!r} is none of the classes {known}; correct it")
    return label


def modality_of(path: Path, asked: Modality | None, place: str) -> Modality:
    """Which media the prompt about a recording carries, as far as its name tells.

    Args:
        path: the recording; it is not opened.
        asked: the modality of the specification; None for what the file holds.
        place: for the message.

    Raises:
        UsageError: the picture of a sound file is asked for.
    """
    if path.suffix.lower() not in SOUND_SUFFIXES:
        return asked or "video_audio"
    if asked in (None, "audio"):
        return "audio"
    raise UsageError(
        f"{place}: {path.name} is a sound file by its name, and modality {asked} needs a picture; "
        "set modality: audio, or leave it out"
    )


def confined(root: Path, name: str, place: str) -> Path:
    """`root / name`, which must lie inside `root`; it need not exist.

    Backslashes separate folders, as Windows writes them, unless a file really has the name.

    Raises:
        UsageError: an absolute path outside, a `..`, a path of Windows with a drive, a symbolic
            link that leads outside, or a text that can be no file's name.
    """
    slashed = name.replace("\\", "/")
    if "\0" in name or ".." in slashed.split("/"):
        raise UsageError(
            f"{place}: path {name!r} holds `..`, which leaves the data root {root} or a folder in "
            "it, or a NUL; use a path inside without them"
        )
    try:
        os.fsencode(name)
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{place}: path {name!r} can be no file's name; rename the file"
        ) from error
    if slashed != name and not os.path.exists(root / name):
        if _DRIVE.match(name):
            raise UsageError(
                f"{place}: path {name!r} is one of Windows; write it from the data root {root} on"
            )
        name = slashed
    real_root = os.path.realpath(root)
    target = os.path.realpath(root / name)
    if target != real_root and not target.startswith(real_root.rstrip(os.sep) + os.sep):
        raise UsageError(
            f"{place}: path {name!r} leads outside the data root {root} (to {target}); copy the "
            "files into the root, or point the root at the folder that holds them"
        )
    return root / name


def first_existing(root: Path, names: Sequence[str], what: str) -> Path:
    """The first of `root / name` that exists, inside the root.

    Raises:
        MissingDataError: none exists.
    """
    for name in names:
        if (root / name).exists():
            return confined(root, name, str(root))
    raise MissingDataError(f"{root}: no {what}; looked for {', '.join(names)}")


class ClipFolder:
    """The clips of one folder, found by name with or without a suffix and leading zeros."""

    def __init__(self, root: Path, folders: Sequence[str], suffix: str = ".mp4") -> None:
        """Index the first of `folders` below `root` that exists and holds a recording.

        Raises:
            UsageError: there is none.
        """
        self.root = root
        self.suffix = suffix
        for name in folders:
            if (root / name).is_dir():
                self.name = name
                self._files = recordings(confined(root, name, str(root)))
                if self._files:
                    return
        raise UsageError(
            f"{root}: no folder with clips; looked for {', '.join(f or '.' for f in folders)}; "
            "set the option clips_dir"
        )

    def find(self, name: str, place: str) -> Path:
        """Path of the clip; for a clip that does not exist the path where it should be."""
        path = confined(self.root, f"{self.name}/{name}" if self.name else name, place)
        if "/" in name or "\\" in name:
            return path
        stem = path.stem if is_recording(path) else name
        file = self._files.get(stem) or self._files.get(_unpadded(stem)) or f"{stem}{self.suffix}"
        return confined(self.root, f"{self.name}/{file}" if self.name else file, place)


def is_recording(path: Path) -> bool:
    """Whether the name is that of a recording."""
    return path.suffix.lower() in (*VIDEO_SUFFIXES, *SOUND_SUFFIXES)


def recordings(folder: Path) -> dict[str, str]:
    """Stem and unpadded stem -> file name, for every recording of a folder.

    A stem that names a video and a sound file stands for the video.
    """
    names = sorted(entry.name for entry in os.scandir(folder))
    files: dict[str, str] = {}
    for suffixes in (VIDEO_SUFFIXES, SOUND_SUFFIXES):
        for name in names:
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in suffixes:
                files.setdefault(stem, name)
    for stem, name in list(files.items()):
        files.setdefault(_unpadded(stem), name)
    return files


def _unpadded(stem: str) -> str:
    return str(int(stem)) if stem.isascii() and stem.isdigit() else stem
