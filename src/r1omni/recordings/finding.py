"""Which recordings are meant by files, folders, patterns, and a list on standard input."""

from __future__ import annotations

import glob
import mimetypes
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from r1omni.media.container import MediaError, open_media, picture_streams
from r1omni.media.workers import Remedies, in_workers
from r1omni.types import Clip, UsageError

# Stands for a list of paths on standard input.
LIST = "-"
# What messages of `analyze` call the settings of its workers.
REMEDIES = Remedies("--num-workers", "--num-workers 0", None)
_OTHER = "is no recording"


def named_paths(words: Sequence[str]) -> list[Path]:
    """The paths that words of a command line mean, in order.

    "-" is a list on standard input: one path a line, or, if there is a NUL byte, between them, as
    `find -print0` writes. A word that is no path, but a pattern (*, ?, [], and ** for folders of
    any depth), stands for what it matches.

    Raises:
        UsageError: a list without paths, or "-" twice.
    """
    if words.count(LIST) > 1:
        raise UsageError("- is a list on standard input, which can be read once; name it once")
    paths: list[Path] = []
    for word in words:
        if word == LIST:
            listed = _listed(sys.stdin.buffer.read())
            if not listed:
                raise UsageError("-: standard input lists no paths; give one a line")
            paths += listed
        elif glob.has_magic(word) and not os.path.lexists(word):
            # Without a match: told as missing.
            paths += [Path(name) for name in _matches(word) or [word]]
        else:
            paths.append(Path(word))
    return paths


def _listed(data: bytes) -> list[Path]:
    """Paths as bytes, since a name need not be text."""
    if b"\0" in data:
        lines = data.split(b"\0")
    else:
        lines = [line.removesuffix(b"\r") for line in data.split(b"\n")]
    return [Path(os.fsdecode(line)) for line in lines if line]


def _matches(pattern: str) -> list[str]:
    """What a pattern matches, each once and by its shortest name: links may lead in circles."""
    found: dict[str, str] = {}
    for name in sorted(glob.glob(pattern, recursive=True), key=lambda n: (n.count(os.sep), n)):
        found.setdefault(os.path.realpath(name), name)
    return sorted(found.values())


def find_recordings(
    paths: Sequence[Path], num_workers: int = 0
) -> tuple[list[Path], dict[Path, str], list[str]]:
    """The recordings among files and below folders, in order and each once (`./a` is `a`).

    A file below a folder is a recording if it opens as one, whatever its name; one that does not
    open is still named where its name says that it should. Hidden files and folders are left out.

    Args:
        paths: files and folders.
        num_workers: processes that try the files of folders, which may crash whoever opens them; 0
            tries them in this one.

    Returns:
        the recordings; the paths that hold none, with the reason; and a line a folder that says
        what was found in it. Lines and reasons are printable, whatever a file is called.

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
                missing[path] = one_line(f"{path}: there is no such file or folder; check the path")
            continue
        closed: list[OSError] = []
        kinds = _kinds(list(files_below(path, closed)), num_workers)
        recordings = [file for file, kind in kinds.items() if kind is None]
        others = sum(kind == _OTHER for kind in kinds.values())
        found |= dict.fromkeys(recordings)
        missing |= {file: kind for file, kind in kinds.items() if kind not in (None, _OTHER)}
        for error in closed:
            missing[Path(error.filename)] = one_line(
                f"{error.filename}: cannot be read ({error.strerror}); check who may read it"
            )
        held, left = _counted(len(recordings), "recording"), _counted(others, "other file")
        are = "is" if others == 1 else "are"
        notes.append(one_line(f"{path}: {held}, {left} {are} left out"))
        if not recordings:
            missing.setdefault(path, one_line(f"{path}: holds no recordings ({left})"))
    if not found:
        raise UsageError("; ".join(missing.values()))
    own: dict[str, Path] = {}
    for path in found:
        own.setdefault(os.path.abspath(path), path)
    if twice := len(found) - len(own):
        are = "is" if twice == 1 else "are"
        notes.append(f"{_counted(twice, 'recording')} {are} named twice, and analyzed once")
    return list(own.values()), missing, notes


def files_below(folder: Path, closed: list[OSError]) -> Iterator[Path]:
    """Files in the order of their names, through links to folders, but through none twice.

    Args:
        folder: where to look; hidden files and folders are left out.
        closed: takes the error of each folder that cannot be read.
    """
    seen = set()
    for name, folders, files in os.walk(folder, onerror=closed.append, followlinks=True):
        here = Path(name)
        if here.resolve() in seen:
            folders.clear()
            continue
        seen.add(here.resolve())
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        yield from (here / file for file in sorted(files) if not file.startswith("."))


def _kinds(files: Sequence[Path], num_workers: int) -> dict[Path, str | None]:
    """Of each file what `what_opens` says, or how the process ended that tried it."""
    clips = [Clip(file) for file in files]
    if not num_workers or not clips:
        return {clip.path: what_opens(clip) for clip in clips}
    tried = in_workers(clips, what_opens, num_workers, preload=__name__, remedies=REMEDIES)
    kinds = {clip.path: kind for clip, kind in tried}
    return {file: kinds[file] for file in files}


def what_opens(clip: Clip) -> str | None:
    """None for a file that opens as a recording, or whose name says that it should."""
    try:
        with open_media(clip.path) as container:
            if picture_streams(container) or container.streams.audio:
                return None
    except MediaError:
        pass
    kind = mimetypes.guess_type(clip.path.name)[0] or ""
    is_named = kind.startswith(("video/", "audio/")) and "mpegurl" not in kind
    return None if is_named else _OTHER


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def one_line(text: str) -> str:
    """A message in which a file's name may hold line breaks and bytes that are no text."""
    return str(MediaError(text))
