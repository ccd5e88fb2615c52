"""Where the answers of `analyze` go: a log, and beside it the formats of other tools."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1omni.recordings.formats import check_formats, write_formats
from r1omni.recordings.log import (
    LOG,
    LogState,
    cut_torn_line,
    drop_failed,
    read_recordings,
    settings_file,
)
from r1omni.types import UsageError


@dataclass(frozen=True)
class Output:
    """Where answers go.

    Attributes:
        log: the file of JSON lines, or None for standard output.
        folder: for other formats, or None where `log` is all.
        formats: names of `FORMATS`.
        resumes: whether to go on where an earlier run stopped.
        retries: whether what could not be analyzed then is tried again.
        embed_mb: recordings of up to so many megabytes are in the pages themselves.
    """

    log: Path | None = None
    folder: Path | None = None
    formats: tuple[str, ...] = ()
    resumes: bool = False
    retries: bool = False
    embed_mb: int = 0

    @classmethod
    def of(
        cls,
        out: Path | None,
        formats: Sequence[str] = (),
        resumes: bool = False,
        retries: bool = False,
        embed_mb: int = 0,
    ) -> Output:
        """An output by what the command line says; nothing is touched.

        A name with a suffix is a file of JSON lines, every other one, and every folder that is
        there, a folder that holds `analyses.jsonl` and the other formats.

        Raises:
            UsageError: a format that cannot be written, or options that need a folder or a file.
        """
        check_formats(formats)
        if embed_mb and "html" not in formats:
            raise UsageError("--embed is of the page; give --format html with it")
        if retries and not resumes:
            raise UsageError("--retry-failed has an effect only with --resume; give both")
        if out is None:
            if formats or resumes:
                option = "--format" if formats else "--resume"
                raise UsageError(f"{option} needs --out, a folder to write to")
            return cls()
        if out.exists() and not out.is_dir() and not out.suffix:
            raise UsageError(
                f"--out {out}: is a file without a suffix, where a folder would be made; choose "
                "another name"
            )
        if out.is_dir() or not out.suffix:
            return cls(out / LOG, out, tuple(formats), resumes, retries, embed_mb)
        if formats:
            raise UsageError(f"--out {out}: is a file; with --format it has to be a folder")
        return cls(out, None, (), resumes, retries)

    @contextlib.contextmanager
    def opened(self, recordings: Sequence[Path]) -> Iterator[LogState]:
        """What the log holds so far; a new one is made, and taken away again if it stays empty.

        Raises:
            UsageError: it is there and is not to be resumed, is one of the recordings, or cannot
                be written.
            R1OmniError: it cannot be read.
        """
        if self.log is None:
            yield LogState()
            return
        is_new = not self.log.exists()
        if not is_new:
            if any(r.exists() and self.log.samefile(r) for r in recordings):
                raise UsageError(f"--out {self.log}: is one of the recordings; choose another file")
            if not self.resumes:
                raise UsageError(
                    f"--out {self.log}: is there already; go on with --resume, or choose another"
                )
        try:
            if self.folder is not None:
                self.folder.mkdir(parents=True, exist_ok=True)
            self.log.open("ab").close()
        except OSError as error:
            missing = not self.log.parent.is_dir()
            remedy = f"make the folder {self.log.parent} first" if missing else "choose another"
            raise UsageError(
                f"--out {self.log}: cannot be written ({error.strerror}); {remedy}"
            ) from error
        try:
            with self._alone():
                if not is_new:
                    cut_torn_line(self.log)
                if self.retries:
                    drop_failed(self.log)
            with self._alone():  # the file may be another one now
                yield LogState.read(self.log)
        finally:
            if is_new and self.log.stat().st_size == 0:  # the model could not be loaded, say
                self.log.unlink()
                if self.folder is not None:
                    settings_file(self.log).unlink(missing_ok=True)
                    with contextlib.suppress(OSError):  # other things are in it
                        self.folder.rmdir()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Within it no other process writes to the same log."""
        assert self.log is not None
        with self.log.open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(
                    f"--out {self.log}: another process writes there; wait for it, or choose "
                    "another"
                ) from error
            yield

    def tell_settings(self, row: Mapping[str, Any]) -> None:
        """Write beside the log of a folder what its answers are made with."""
        if self.log is not None and self.folder is not None:
            text = json.dumps(row, indent=2) + "\n"
            settings_file(self.log).write_text(text, encoding="utf-8")

    def told(self, num_asked: int, num_failed: int) -> str:
        """What is said when all that was asked for is done.

        Args:
            num_asked: recordings of this run and of those it went on from.
            num_failed: of them, those that could not be analyzed.
        """
        noun = "recording" if num_asked == 1 else "recordings"
        more = [name for name in self.formats if name != "jsonl"]
        beside = f", with {', '.join(more)} beside it" if more else ""
        return f"answered {num_asked - num_failed} of {num_asked} {noun}: {self.log}{beside}"

    def write_formats(self, num_frames: int) -> None:
        """Write the other formats from what the log holds.

        Args:
            num_frames: frames of a span that the model was shown.
        """
        if self.log is not None and self.folder is not None and self.formats:
            recordings = read_recordings(self.log)
            write_formats(self.formats, recordings, self.folder, num_frames, self.embed_mb)
