"""Answers about recordings in the formats of other tools; docs/formats.md says what each holds.

Every format is made from records alone. Recordings are gone through once, one at a time in memory.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from r1omni.extras import require
from r1omni.recordings.formats.files import FileNames, whole_file
from r1omni.recordings.records import Recording
from r1omni.types import R1OmniError, UsageError

# Of the functions that write a format, which begin as
# "each":  write(recording, path), a file a recording; those without a segment have none
# "all":   writing(folder, written), a context whose function takes recording by recording
# "pages": write(recordings, folder, embed=..., num_frames=...) -> paths, which goes through them
# "log":   none; what `analyze` itself writes
Shape = Literal["each", "all", "pages", "log"]
Write = Callable[[Recording, str], None]


@dataclass(frozen=True)
class Format:
    """How one format is written.

    Attributes:
        shape: what its function takes.
        function: import path, loaded when the format is asked for.
        suffix: of the files of shape "each".
        library: what it imports of the extra `formats`.
    """

    shape: Shape
    function: str = ""
    suffix: str = ""
    library: str | None = None


_HERE = "r1omni.recordings.formats"
FORMATS: Mapping[str, Format] = {
    "jsonl": Format("log"),
    "csv": Format("all", f"{_HERE}.csv.writing"),
    "parquet": Format("all", f"{_HERE}.parquet.writing", library="pyarrow"),
    "srt": Format("each", f"{_HERE}.captions.write_srt", ".srt", "webvtt"),
    "vtt": Format("each", f"{_HERE}.captions.write_vtt", ".vtt", "webvtt"),
    "textgrid": Format("each", f"{_HERE}.textgrid.write", ".TextGrid", "praatio"),
    "eaf": Format("each", f"{_HERE}.eaf.write", ".eaf", "pympi"),
    "labelstudio": Format("all", f"{_HERE}.labelstudio.writing"),
    "html": Format("pages", "r1omni.recordings.page.write"),
}


def check_formats(names: Sequence[str]) -> None:
    """Refuse formats that cannot be written, before anything is analyzed.

    Raises:
        UsageError: a name is unknown or there twice, or a library is not installed.
    """
    for name in names:
        if name not in FORMATS:
            raise UsageError(f"--format {name}: is none of {', '.join(FORMATS)}; choose among them")
        if names.count(name) > 1:
            raise UsageError(f"--format {name}: is there twice; name it once")
        library = FORMATS[name].library
        if library is not None:
            require(f"--format {name}", "formats", library)


def write_formats(
    names: Sequence[str],
    recordings: Iterable[Recording],
    folder: Path,
    num_frames: int | None = None,
    embed_mb: int = 0,
) -> list[Path]:
    """Write recordings in several formats at once.

    Each file is written beside its place and put there whole, over one of the same name, so a
    second run renews what a first one wrote, and a run that fails leaves no torn file. Files of one
    recording have its name in all formats (`FileNames`). "jsonl" is the log that `analyze` itself
    writes, and nothing more is written for it.

    Args:
        names: of `FORMATS`.
        recordings: gone through once.
        folder: where to; it is made. It should be this analysis's own: files there that happen to
            have the name of a new one are replaced.
        num_frames: frames of a span that the model was shown, for pages, which show some of them;
            None where nobody knows.
        embed_mb: recordings of up to so many megabytes are in the pages themselves.

    Returns:
        the files that were written.

    Raises:
        UsageError: as `check_formats`.
        R1OmniError: a file cannot be written; those that are whole stay.
    """
    check_formats(names)
    written: list[Path] = []
    pages = [name for name in names if FORMATS[name].shape == "pages"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            writers = [
                stack.enter_context(_opened(FORMATS[name], folder, written))
                for name in names
                if FORMATS[name].shape in ("each", "all")
            ]
            passing = _passing(recordings, writers)
            for name in pages:
                write = _function(FORMATS[name])
                written += write(passing, folder, embed=embed_mb, num_frames=num_frames)
            for _ in passing:  # without pages, all of them
                pass
    except OSError as error:
        place = error.filename2 or error.filename or folder
        raise R1OmniError(
            f"{place}: cannot be written ({error.strerror or error}); what is whole in {folder} "
            "stays"
        ) from error
    return written


def _passing(recordings: Iterable[Recording], writers: Sequence[Write]) -> Iterator[Recording]:
    """The recordings, each after it was written."""
    names = FileNames()
    for recording in recordings:
        name = names.of(recording.path)
        for write in writers:
            write(recording, name)
        yield recording


def _opened(form: Format, folder: Path, written: list[Path]) -> AbstractContextManager[Write]:
    function = _function(form)
    if form.shape == "all":
        opened: AbstractContextManager[Write] = function(folder, written)
        return opened
    return _each(form, function, folder, written)


@contextmanager
def _each(
    form: Format, function: Callable[[Recording, Path], None], folder: Path, written: list[Path]
) -> Iterator[Write]:
    def write(recording: Recording, name: str) -> None:
        if recording.segments:
            with whole_file(folder / f"{name}{form.suffix}", written) as partial:
                function(recording, partial)

    yield write


def _function(form: Format) -> Callable[..., Any]:
    module, _, name = form.function.rpartition(".")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function
