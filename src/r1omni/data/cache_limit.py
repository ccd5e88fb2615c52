"""Keeping the clip cache within a size: the entries that were used longest ago go first.

A run claims the entries of its splits before it looks for them. What a living run has claimed is
never removed, so a cache may be larger than its limit while it is used.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from r1omni.data.clip_cache import locked

# Left behind by processes that were killed while they wrote.
_STALE_S = 3600.0


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Claims are made and entries removed by one process at a time."""
    (directory / "runs").mkdir(parents=True, exist_ok=True)
    with locked(directory / "runs" / "lock"):
        yield


def claim(directory: Path, entries: Collection[Path]) -> IO[str]:
    """Keep entries, there or yet to come, from being removed, and mark them as used now.

    Args:
        directory: root of the caches.
        entries: files below it.

    Returns:
        a file whose lock is the claim: it ends when the file is closed, or with the process.
    """
    with _only_one(directory):
        for entry in entries:
            with contextlib.suppress(FileNotFoundError, PermissionError):  # of another user
                os.utime(entry)
        held = (directory / "runs" / f"{uuid.uuid4().hex}.txt").open("w", encoding="utf-8")
        fcntl.flock(held, fcntl.LOCK_EX)
        held.writelines(f"{entry.relative_to(directory)}\n" for entry in entries)
        held.flush()
    return held


def shrink(directory: Path, limit_bytes: float) -> int:
    """Remove the entries that were used longest ago until the cache is within its limit.

    Args:
        directory: root of the caches.
        limit_bytes: largest size of all entries together.

    Returns:
        size of what is left in bytes: more than the limit where living runs have claimed more.
    """
    with _only_one(directory):
        kept = _claimed(directory)
        files: list[tuple[float, int, Path]] = []
        for path in directory.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # another process renamed it
                status = path.stat()
                if path.suffix == ".safetensors":
                    files.append((status.st_mtime, status.st_size, path))
                elif path.suffix == ".tmp" and status.st_mtime < time.time() - _STALE_S:
                    path.unlink()
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= limit_bytes:
                break
            if path not in kept:
                path.unlink(missing_ok=True)
                total -= size
    return total


def _claimed(directory: Path) -> set[Path]:
    """Entries that living runs have claimed; what dead ones left is removed."""
    kept: set[Path] = set()
    for path in (directory / "runs").glob("*.txt"):
        with path.open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                kept.update(directory / line.rstrip("\n") for line in file)
            else:
                path.unlink()
    return kept
