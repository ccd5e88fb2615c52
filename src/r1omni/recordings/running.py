"""The command `analyze`: what it is given, and how it goes on where it stopped."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from r1omni.models.answering import Question
from r1omni.models.config import read_config
from r1omni.models.folders import find_model_folder
from r1omni.models.pipeline import R1Omni
from r1omni.recordings.analyzing import Analyzer, Asked, failures_line
from r1omni.recordings.decoding import DECODE_LIMIT_S
from r1omni.recordings.finding import find_recordings, named_paths
from r1omni.recordings.given_intervals import intervals_of
from r1omni.recordings.log import Log
from r1omni.recordings.output import Output
from r1omni.types import Dtype, R1OmniError, Terminated


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
    num_asked = len(recordings) + len(missing)
    if output.log is not None:
        print(output.told(num_asked, len(failures)), file=sys.stderr)
    if failures:
        raise R1OmniError(failures_line(failures, num_asked))


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
