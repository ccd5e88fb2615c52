"""Which recordings are meant by files, folders, patterns, and a list on standard input."""

from __future__ import annotations

import glob
import mimetypes
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from r1omni.media.container import MediaError, open_media, picture_streams
from r1omni.types import UsageError

# Stands for a list of paths on standard input.
LIST = "-"


def named_paths(words: Sequence[str]) -> list[Path]:
    """The paths that words of a command line mean, in order.

    "-" is a list on standard input, one path a line. A word that is no path, but a pattern (*, ?,
    [], and ** for folders of any depth), stands for what it matches.

    Raises:
        UsageError: a list without paths, or "-" twice.
    """
    if words.count(LIST) > 1:
        raise UsageError("- is a list on standard input, which can be read once; name it once")
    paths: list[Path] = []
    for word in words:
        if word == LIST:
            listed = [line.rstrip("\r\n") for line in sys.stdin]
            if not any(listed):
                raise UsageError("-: standard input lists no paths; give one a line")
            paths += [Path(line) for line in listed if line]
        elif glob.has_magic(word) and not os.path.lexists(word):
            found = sorted(glob.glob(word, recursive=True))
            paths += [Path(name) for name in found or [word]]  # without a match: told as missing
        else:
            paths.append(Path(word))
    return paths


def find_recordings(paths: Sequence[Path]) -> tuple[list[Path], dict[Path, str], list[str]]:
    """The recordings among files and below folders, in order and each once.

    A file below a folder is a recording if it opens as one, whatever its name; one that does not
    open is still named where its name says that it should. Hidden files and folders are left out.

    Returns:
        the recordings; the paths that hold none, with the reason; and a line a folder that says
        what was found in it.

    Raises:
        UsageError: there is no recording at all.
    """
    found: dict[Path, None] = {}
    missing: dict[Path, str] = {}
    notes = []
    for path in paths:
        if not path.is_dir():
            if os.path.exists(path):  # False also where one may not look
                found[path] = None
            else:
                missing[path] = f"{path}: there is no such file or folder; check the path"
            continue
        files = list(_files_below(path))
        recordings = [file for file in files if _is_recording(file)]
        found |= dict.fromkeys(recordings)
        others = len(files) - len(recordings)
        notes.append(f"{path}: {len(recordings)} recordings, {others} other files are left out")
        if not recordings:
            missing[path] = f"{path}: holds no recordings ({others} other files)"
    if not found:
        raise UsageError("; ".join(missing.values()))
    return list(found), missing, notes


def _files_below(folder: Path) -> Iterator[Path]:
    """Files in the order of their names, through links to folders, but through none twice."""
    seen = set()
    for name, folders, files in os.walk(folder, followlinks=True):
        here = Path(name)
        if here.resolve() in seen:
            folders.clear()
            continue
        seen.add(here.resolve())
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        yield from (here / file for file in sorted(files) if not file.startswith("."))


def _is_recording(path: Path) -> bool:
    try:
        with open_media(path) as container:
            if picture_streams(container) or container.streams.audio:
                return True
    except MediaError:
        pass
    kind = mimetypes.guess_type(path.name)[0] or ""
    return kind.startswith(("video/", "audio/")) and "mpegurl" not in kind
