"""Which intervals belong to which recording."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from r1omni.media.windows import reading_order
from r1omni.recordings.finding import files_below, one_line
from r1omni.recordings.intervals import SUFFIXES, Interval, read_intervals
from r1omni.types import UsageError

_logger = logging.getLogger(__name__)


def intervals_of(
    source: Path, tier: str | None, recordings: Sequence[Path]
) -> tuple[dict[Path, list[Interval]], dict[Path, str]]:
    """The intervals of each recording, by their ends; and why recordings have none.

    A file that names recordings (a column of a table) gives each its own: what it names is the end
    of a path, with or without what follows the last dot. A file that names none belongs to the only
    recording. Of a folder, the file below it that is called as the recording is taken; one that
    cannot be read costs its recording alone.

    Args:
        source: a file, or a folder.
        tier: for `read_intervals`.
        recordings: what is analyzed.

    Raises:
        UsageError: the file cannot be read, does not say which recording it is of, or names none of
            them.
    """
    if source.is_dir():
        return _from_folder(source, tier, recordings)
    intervals = read_intervals(source, tier)
    if len(recordings) > 1 and any(interval.file is None for interval in intervals):
        raise UsageError(
            f"--intervals {source}: does not say which of {len(recordings)} recordings its "
            "intervals are of; give one recording, a table with a column file, or a folder of files"
        )
    found = _by_recording(source, intervals, recordings)
    if not found:
        raise UsageError(
            f"--intervals {source}: names none of the recordings; check its column file"
        )
    missing = {
        path: one_line(f"{path}: --intervals {source} names no such file")
        for path in recordings
        if path not in found
    }
    return found, missing


def _from_folder(
    source: Path, tier: str | None, recordings: Sequence[Path]
) -> tuple[dict[Path, list[Interval]], dict[Path, str]]:
    closed: list[OSError] = []
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for file in files_below(source, closed):
        if file.suffix.lower() in SUFFIXES:
            by_stem[file.stem].append(file)
    if closed:
        raise UsageError(f"{closed[0].filename}: cannot be read ({closed[0].strerror})")
    found: dict[Path, list[Interval]] = {}
    missing: dict[Path, str] = {}
    for path in recordings:
        own = by_stem.get(path.stem, [])
        beside = [file for file in own if file.parent.name == path.parent.name]
        own = beside if len(own) > 1 and beside else own
        if len(own) > 1:
            names = ", ".join(map(str, own))
            missing[path] = one_line(f"{path}: has several files of intervals ({names}); keep one")
        elif not own:
            missing[path] = one_line(
                f"{path}: --intervals {source} has no file called {path.stem}.*"
            )
        else:
            try:
                intervals = read_intervals(own[0], tier)
            except UsageError as error:
                missing[path] = one_line(str(error))
                continue
            found |= _by_recording(own[0], intervals, [path])
            if path not in found:
                missing[path] = one_line(f"{path}: {own[0]} names other recordings only")
    return found, missing


def _by_recording(
    source: Path, intervals: Sequence[Interval], recordings: Sequence[Path]
) -> dict[Path, list[Interval]]:
    """The intervals of each recording; those that name none are of the only one."""
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in recordings:
        for name in {path.name, path.stem}:
            by_name[name].append(path)
    found: dict[Path, list[Interval]] = defaultdict(list)
    named: dict[str, Path | None] = {}
    for interval in intervals:
        if interval.file is None:
            found[recordings[0]].append(interval)
            continue
        if interval.file not in named:
            named[interval.file] = _named(source, interval.file, by_name)
        if (meant := named[interval.file]) is not None:
            found[meant].append(interval)
    if others := [name for name, path in named.items() if path is None]:
        _logger.warning(
            "%s: names %d files that are not analyzed, such as %s",
            source, len(others), ascii(others[0]),
        )  # fmt: skip
    for own in found.values():
        own.sort(key=lambda interval: reading_order((interval.start_s, interval.end_s)))
    return dict(found)


def _named(source: Path, name: str, by_name: Mapping[str, Sequence[Path]]) -> Path | None:
    """The recording whose path ends with a name, or None.

    Raises:
        UsageError: there are several.
    """
    for spelled in (name, name.replace("\\", "/")):  # as it stands, or as Windows writes paths
        folders, last = PurePath(spelled).parts[:-1], PurePath(spelled).name
        ending = [path for path in by_name.get(last, ()) if _is_below(path, folders)]
        found = [path for path in ending if path.name == last] or ending
        if len(found) > 1:
            raise UsageError(
                f"--intervals {source}: {name} may be {found[0]} or {found[1]}; write more of the "
                "path"
            )
        if found:
            return found[0]
    return None


def _is_below(path: Path, folders: Sequence[str]) -> bool:
    above = path.absolute().parent.parts
    return not folders or above[-len(folders) :] == tuple(folders)
