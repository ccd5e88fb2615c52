"""Which intervals belong to which recording."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from r1omni.recordings.intervals import Interval, read_intervals
from r1omni.types import UsageError


def intervals_of(
    source: Path, tier: str | None, recordings: Sequence[Path]
) -> tuple[dict[Path, list[Interval]], dict[Path, str]]:
    """The intervals of each recording, by their starts; and why recordings have none.

    A file that names recordings (a column of a table) gives each its own: by its path, else by its
    name, else by its name without the suffix. A file that names none belongs to the only recording.
    In a folder the file that is called as the recording, whatever its suffix, is taken.

    Args:
        source: a file, or a folder.
        tier: for `read_intervals`.
        recordings: what is analyzed.

    Raises:
        UsageError: a file cannot be read, does not say which recording it is of, or names none of
            them.
    """
    found: dict[Path, list[Interval]] = {}
    missing: dict[Path, str] = {}
    if source.is_dir():
        for path in recordings:
            own = sorted(f for f in source.iterdir() if f.is_file() and f.stem == path.stem)
            own = [file for file in own if not _same(file, path)]
            if len(own) > 1:
                names = ", ".join(file.name for file in own)
                raise UsageError(f"{source}: has several files for {path} ({names}); keep one")
            if own:
                found[path] = _by_start(read_intervals(own[0], tier))
            else:
                missing[path] = f"{path}: --intervals {source} has no file called {path.stem}.*"
        return found, missing
    intervals = read_intervals(source, tier)
    if all(interval.file is None for interval in intervals):
        if len(recordings) > 1:
            raise UsageError(
                f"--intervals {source}: does not say which of {len(recordings)} recordings it is "
                "of; give one recording, a table with a column file, or a folder of files"
            )
        return {path: _by_start(intervals) for path in recordings}, {}
    for path in recordings:
        own_names = (str(path), path.name, path.stem)
        for name in own_names:
            own_intervals = [interval for interval in intervals if interval.file == name]
            if own_intervals:
                found[path] = _by_start(own_intervals)
                break
        else:
            missing[path] = f"{path}: --intervals {source} names no such file"
    if not found:
        raise UsageError(
            f"--intervals {source}: names none of the recordings; check its column file"
        )
    return found, missing


def _by_start(intervals: Sequence[Interval]) -> list[Interval]:
    return sorted(intervals, key=lambda interval: (interval.start_s, interval.end_s))


def _same(file: Path, path: Path) -> bool:
    return path.exists() and file.samefile(path)
