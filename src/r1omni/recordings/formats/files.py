"""Files of a format: their names, and that they appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from r1omni.recordings.formats.words import plain

# Bytes of a name; with a mark, a suffix and what a partial file has before it, below the 255 that
# file systems allow.
MAX_NAME_BYTES = 180
# What one file system or another does not have in names.
_FOREIGN = re.compile(r'[\x00-\x1f\x7f\\/:*?"<>|\ufffd]')
# Names of devices on Windows, with any suffix.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


class FileNames:
    """Names for the files of recordings: their own, made fit for any file system, and unique.

    The first recording of a name keeps it. Another one of that name gets a mark made from its path,
    so the same recordings in the same order have the same names in every run. Large and small
    letters count as the same, since some file systems hold them so.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, path: str) -> str:
        """The name for a recording, without a suffix; a new one each time it is asked."""
        name = _fit(Path(path).stem)
        unique, number = name, 0
        while unique.casefold() in self._taken:
            seed = f"{path}\0{number}" if number else path
            mark = hashlib.sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()[:8]
            unique, number = f"{name}-{mark}", number + 1
        self._taken.add(unique.casefold())
        return unique


def _fit(name: str) -> str:
    name = _FOREIGN.sub("_", unicodedata.normalize("NFC", plain(name)))
    name = name.encode()[:MAX_NAME_BYTES].decode(errors="ignore").strip(" .")
    if name.startswith("-"):  # an option, to a command that is given the name
        name = f"_{name[1:]}"
    return f"{name}_" if _DEVICES.fullmatch(name) else name or "recording"


@contextmanager
def whole_file(path: Path, written: list[Path]) -> Iterator[Path]:
    """A path to write to; the file has its name once the block ends without an error.

    Args:
        path: the file; one that is there is replaced.
        written: gets the path when the file is there.

    Yields:
        the path of a file beside it that is not there yet, and is gone afterwards.
    """
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)  # of a process that was killed
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    written.append(path)
