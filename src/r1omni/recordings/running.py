"""The command `analyze`: what it is given, where its answers go, and how it goes on."""

from __future__ import annotations

import contextlib
import fcntl
import json
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from r1omni.models.answering import Question
from r1omni.models.config import read_config
from r1omni.models.folders import find_model_folder
from r1omni.models.pipeline import R1Omni
from r1omni.recordings.analyzing import Analyzer, Asked, failures_line
from r1omni.recordings.decoding import DECODE_LIMIT_S
from r1omni.recordings.finding import find_recordings, named_paths
from r1omni.recordings.formats import check_formats, write_formats
from r1omni.recordings.given_intervals import intervals_of
from r1omni.recordings.log import (
    LOG,
    Log,
    LogState,
    cut_torn_line,
    drop_failed,
    read_recordings,
    settings_file,
)
from r1omni.types import Dtype, R1OmniError, Terminated, UsageError


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

    def write_formats(self, num_frames: int) -> None:
        """Write the other formats from what the log holds.

        Args:
            num_frames: frames of a span that the model was shown.
        """
        if self.log is not None and self.folder is not None and self.formats:
            recordings = read_recordings(self.log)
            write_formats(self.formats, recordings, self.folder, num_frames, self.embed_mb)


def analyze(
    words: Sequence[str],
    model: str,
    question: Question,
    output: Output,
    *,
    window_s: float | None = None,
    hop_s: float | None = None,
    intervals: Path | None = None,
    tier: str | None = None,
    device: str = "cpu",
    dtype: Dtype = "float32",
    batch_size: int = 8,
    num_workers: int = 1,
    limit_s: float = DECODE_LIMIT_S,
) -> None:
    """Analyze recordings, and write what is said about them.

    Args:
        words: files, folders, patterns, or "-".
        model: model folder, or repository of the hub.
        question: to the model.
        output: where to.
        window_s, hop_s: of windows.
        intervals: a file of intervals, or a folder that has one for each recording.
        tier: of a file that has several.
        device, dtype: of the model.
        batch_size: spans that are answered at once.
        num_workers: processes that decode.
        limit_s: seconds that one window may take them.

    Raises:
        UsageError: wrong use.
        R1OmniError: recordings that could not be analyzed, after all others were.
        Terminated: the process was told to end; all answers so far are written.
    """
    recordings, missing, notes = find_recordings(named_paths(words), num_workers)
    for note in notes:
        print(note, file=sys.stderr)
    spans = None
    if intervals is not None:
        spans, without = intervals_of(intervals, tier, recordings)
        missing = {**missing, **without}
        recordings = [path for path in recordings if path in spans]
    asked = Asked(question, window_s, hop_s, spans, dtype)
    with output.opened([*recordings, *missing]) as state, told_to_end():
        folder = find_model_folder(model)
        digest = folder.digest()
        hashes = {str(path): asked.hash(path) for path in (*recordings, *missing)}
        state.check(output.log, digest, asked.row(), hashes)
        if not state.records:
            output.tell_settings(asked.row())
        parts = (folder.main, folder.vision_tower, folder.audio_tower, folder.text_tower)
        num_frames = read_config(*parts).media.num_frames
        todo = [path for path in recordings if not state.is_complete(path)]
        # What was begun comes first: its records stand at the end of the log.
        todo.sort(key=lambda path: not state.num_records(path))
        new = {path: why for path, why in missing.items() if not state.is_complete(path)}
        failures = {name: why for name, why in state.errors.items() if name in hashes}
        if todo or new:
            omni = R1Omni.from_pretrained(model, device=device, dtype=dtype)
            log = Log(output.log)
            analyzer = Analyzer(
                omni, asked, log, digest, hashes, batch_size, num_workers, limit_s,
                shows_progress=sys.stderr.isatty(),
            )  # fmt: skip
            try:
                plans = [asked.plan(path, state.num_records(path), state.last) for path in todo]
                begun = [plan for plan in plans if plan.skip]
                analyzer.run(begun)
                for path, why in new.items():
                    analyzer.fail(path, why)
                analyzer.run(plans[len(begun) :])
            except (KeyboardInterrupt, Terminated) as end:
                signum = end.signum if isinstance(end, Terminated) else signal.SIGINT
                word = "interrupted" if signum == signal.SIGINT else "terminated"
                if output.log is not None:
                    word += f"; what was answered is in {output.log}, and --resume goes on"
                raise Terminated(word, signum) from end
            finally:
                failures |= analyzer.failures
                log.close()
                output.write_formats(num_frames)
        else:
            output.write_formats(num_frames)
    if failures:
        raise R1OmniError(failures_line(failures, len(recordings) + len(missing)))


@contextlib.contextmanager
def told_to_end() -> Iterator[None]:
    """Within it SIGTERM ends the process as an exception does, after the record that is written."""

    def end(signum: int, frame: FrameType | None) -> None:
        raise Terminated("terminated", signum)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
