"""What a model says about recordings, as JSON lines that are written as soon as they are known."""

from __future__ import annotations

import json
import mimetypes
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from r1omni.media.container import MediaError, open_media, picture_streams
from r1omni.types import NUM_EXAMPLES, R1OmniError, UsageError

if TYPE_CHECKING:
    from r1omni.models.pipeline import R1Omni


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


@contextmanager
def open_output(path: Path | None, recordings: Sequence[Path]) -> Iterator[TextIO]:
    """A file for the lines, or standard output for None; nothing in it is changed yet.

    Raises:
        UsageError: the file cannot be written, or is one of the recordings.
    """
    if path is None:
        yield sys.stdout
        return
    is_new = not path.exists()
    if not is_new and any(path.samefile(recording) for recording in recordings):
        raise UsageError(f"--out {path}: is one of the recordings; choose another file")
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        missing = not path.parent.is_dir()
        remedy = f"make the folder {path.parent} first" if missing else "choose another file"
        raise UsageError(f"--out {path}: cannot be written ({error.strerror}); {remedy}") from error
    try:
        yield file
    finally:
        with suppress(OSError):  # of a line that could not be written, which has been told
            file.close()
        if is_new and path.stat().st_size == 0:  # the model could not be loaded, say
            path.unlink()


def write_analyses(
    omni: R1Omni,
    recordings: Sequence[Path],
    missing: Mapping[Path, str],
    out: TextIO,
    **options: Any,
) -> None:
    """Analyze each recording and write its lines at once; what is written stays.

    A line is an `Analysis` with the path of its recording. A recording that fails has a line with
    its path and "error", behind those of its windows that were answered.

    Args:
        omni: the model.
        recordings: files to analyze.
        missing: paths that are none, with the reason; each has a line of its own.
        out: where to.
        options: of `R1Omni.iter_analyses`.

    Raises:
        R1OmniError: some recordings failed; the message counts and names them. Or a line cannot be
            written.
    """

    def write(path: Path, row: dict[str, Any]) -> None:
        try:
            out.write(json.dumps({"path": str(path), **row}) + "\n")
            out.flush()
        except OSError as error:
            raise R1OmniError(
                f"{out.name}: cannot be written ({error.strerror}); the lines before are kept"
            ) from error

    failures = dict(missing)
    for path, reason in missing.items():
        write(path, {"error": reason})
    for path in recordings:
        analyses = omni.iter_analyses(path, **options)
        while True:
            try:
                analysis = next(analyses, None)
            except R1OmniError as error:
                failures[path] = str(error)
                write(path, {"error": str(error)})
                break
            if analysis is None:
                break
            row = asdict(analysis)
            if analysis.direct_scores is None:  # was not asked for
                del row["direct_label"], row["direct_scores"]
            write(path, row)
    if failures:
        raise R1OmniError(_summary(list(failures.values()), len(recordings) + len(missing)))


def _summary(reasons: list[str], total: int) -> str:
    if total == 1:
        return reasons[0]
    more = len(reasons) - NUM_EXAMPLES
    named = "; ".join(reasons[:NUM_EXAMPLES]) + (f"; and {more} more" if more > 0 else "")
    return f"{len(reasons)} of {total} recordings could not be analyzed: {named}"
