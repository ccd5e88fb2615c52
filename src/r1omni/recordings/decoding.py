"""Recordings decoded in processes of their own, beside the model's work, span by span in order.

A decoder is C code that is given files of any origin. One that crashes, hangs or asks for all
memory costs its recording: a worker that is given up is replaced, and the next recording goes on.
What is decoded ahead is bounded, so memory does not grow with the length of a recording.
"""

from __future__ import annotations

import multiprocessing
import queue
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from r1omni.media.config import MediaConfig
from r1omni.media.container import MediaError
from r1omni.media.processor import MediaProcessor
from r1omni.media.windows import Window
from r1omni.media.workers import MEMORY_LIMIT_BYTES, fork_server, how_ended, limit_worker
from r1omni.types import ClipMedia, Modality, R1OmniError

# Of a worker's first answer: it imports torch before.
_START_LIMIT_S = 120.0
# More than a clip of a training has: a long recording is surveyed whole, and an AVI file with
# reordered frames decoded from its beginning.
DECODE_LIMIT_S = 120.0


@dataclass(frozen=True)
class Plan:
    """What is to be decoded of one recording; `MediaProcessor.load_windows` says what it means.

    Attributes:
        path: the recording.
        modality, window_s, hop_s, intervals, skip, last: as there.
    """

    path: Path
    modality: Modality
    window_s: float | None = None
    hop_s: float | None = None
    intervals: tuple[tuple[float, float], ...] | None = None
    skip: int = 0
    last: tuple[float, float] | None = None


# What is decoded of a recording: its windows, then nothing or the error that ended it.
Decoded = Window | R1OmniError | None


def decoded(
    config: MediaConfig,
    plans: Sequence[Plan],
    num_workers: int,
    ahead: int,
    limit_s: float = DECODE_LIMIT_S,
) -> Generator[tuple[Plan, Decoded], None, None]:
    """What is decoded of each recording, in the order of the plans; each ends with no `Window`.

    Args:
        config: how clips are processed.
        plans: recordings.
        num_workers: processes; each has every `num_workers`-th recording. 0 decodes in this one,
            which a file that crashes or hangs the decoder then takes along.
        ahead: windows that a worker decodes before they are asked for.
        limit_s: seconds that one window may take, and finding out how long a recording is.
    """
    if num_workers == 0:
        processor = MediaProcessor(config)
        for plan in plans:
            yield from ((plan, item) for item in _items(processor, plan))
        return
    workers = [
        _Worker(config, plans[first::num_workers], ahead, limit_s)
        for first in range(min(num_workers, len(plans)))
    ]
    try:
        for index, plan in enumerate(plans):
            worker = workers[index % num_workers]
            while isinstance(item := worker.next(plan), Window):
                yield plan, item
            yield plan, item
    finally:
        for worker in workers:
            worker.end()


def _items(processor: MediaProcessor, plan: Plan) -> Iterator[Decoded]:
    try:
        yield from processor.load_windows(
            plan.path,
            plan.window_s,
            plan.hop_s,
            plan.modality,
            plan.intervals,
            plan.skip,
            plan.last,
        )
    except R1OmniError as error:
        yield error
    except MemoryError:
        yield MediaError(f"{plan.path}: needs more memory than there is for a decoder")
    else:
        yield None


class _Worker:
    """A process that decodes recordings one after the other, seen from the parent.

    A thread takes what it sends into a queue of bounded length; the pipe holds what is beyond.
    """

    def __init__(
        self, config: MediaConfig, plans: Sequence[Plan], ahead: int, limit_s: float
    ) -> None:
        self._config, self._limit_s, self._ahead = config, limit_s, ahead
        self._plans = deque(plans)
        self._process: multiprocessing.process.BaseProcess | None = None
        self._start()

    def _start(self) -> None:
        context = fork_server(__name__)
        self._connection, far_end = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_serve, args=(far_end, self._config, tuple(self._plans)), daemon=True
        )
        self._process.start()
        far_end.close()  # the process alone holds it: when it dies, the connection ends
        self._ready: queue.Queue[Decoded | _Lost] = queue.Queue(max(self._ahead, 1))
        self._stopped = threading.Event()
        arguments = self._connection, self._ready, self._stopped, self._limit_s
        threading.Thread(target=_receive, args=arguments, daemon=True).start()

    def next(self, plan: Plan) -> Decoded:
        """The next of what is decoded of a recording, the first that is not at its end."""
        item = self._ready.get()
        if isinstance(item, Window):
            return item
        assert self._plans[0] == plan
        self._plans.popleft()
        if not isinstance(item, _Lost):
            return item
        reason = self._why(item)
        self.end()
        if self._plans:
            self._start()
        return MediaError(f"{plan.path}: {reason}")

    def _why(self, lost: _Lost) -> str:
        if lost.is_late:
            return (
                f"was not read within {self._limit_s:g} s; convert or shorten the file, or raise "
                "the decode limit"
            )
        assert self._process is not None
        self._process.join(5)
        how = how_ended(self._process.exitcode or 0)
        return f"the decoder's process ended {how} on it; convert the file, or leave it out"

    def end(self) -> None:
        """Stop the process, whatever it is doing."""
        self._stopped.set()
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._process = None


@dataclass(frozen=True)
class _Lost:
    """A worker that died, or that was silent for too long."""

    is_late: bool


def _receive(
    connection: Connection,
    ready: queue.Queue[Decoded | _Lost],
    stopped: threading.Event,
    limit_s: float,
) -> None:
    """Take what a worker sends, until it ends, is late, or nobody asks any more."""
    patience_s = _START_LIMIT_S + limit_s
    item: Decoded | _Lost
    while not stopped.is_set():
        try:
            late = not connection.poll(patience_s)
            item = _Lost(is_late=True) if late else _unpacked(connection.recv())
        except (EOFError, OSError):
            item = _Lost(is_late=False)
        patience_s = limit_s
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.2)
            except queue.Full:
                continue
            break
        if isinstance(item, _Lost):
            break
    connection.close()


# Tensors would travel by file descriptors, which die with the worker that sent them.
_Array = NDArray[Any] | None
_Packed = tuple[tuple[float, float], _Array, _Array, tuple[str, ...], tuple[int, int]]


def _packed(item: Decoded) -> _Packed | R1OmniError | None:
    if not isinstance(item, Window):
        return item
    frames, mel = (
        None if tensor is None else tensor.numpy() for tensor in (item.media.frames, item.media.mel)
    )
    span, place = (item.start_s, item.end_s), (item.place, item.total)
    return span, frames, mel, item.media.warnings, place


def _unpacked(item: _Packed | R1OmniError | None) -> Decoded:
    if not isinstance(item, tuple):
        return item
    span, *arrays, warnings, place = item
    frames, mel = (None if array is None else torch.from_numpy(array) for array in arrays)
    return Window(*span, ClipMedia(frames, mel, warnings), *place)


def _serve(connection: Connection, config: MediaConfig, plans: Sequence[Plan]) -> None:
    """The worker: sends every window of every recording, and after each how it ended."""
    limit_worker(MEMORY_LIMIT_BYTES)
    processor = MediaProcessor(config)
    try:
        for plan in plans:
            for item in _items(processor, plan):
                connection.send(_packed(item))
    except BrokenPipeError:
        return  # the parent is gone
