"""Completions written by a thread, beside what the thread that began them computes meanwhile."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from types import TracebackType

import torch

from r1omni.models.sampler.settings import Sampled
from r1omni.models.sampler.writer import Writer


class WritingBeside:
    """A thread that writes begun completions for the length of a block.

    It reads what the writer holds and nothing of the model, so it does not matter when it runs: the
    completions are those of `Writer.write`. On a CUDA device it has a stream of its own. That waits
    for what was given to the caller's stream before the block, and `result` has the caller's
    stream wait for it; the hosts wait for the device as often as in `Writer.write`. Steps that are
    met for the first time are computed there, and recorded as graphs by `result`: nothing else may
    use the GPU while a graph is recorded.

    Args:
        writer: begun (`engine.begun`) with a memory that copies all weights.

    Attributes:
        seconds: that the thread took; 0 before its end.
    """

    def __init__(self, writer: Writer) -> None:
        self.seconds = 0.0
        self._writer = writer
        self._given_up = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sampling")

    def __enter__(self) -> WritingBeside:
        memory, device = self._writer.steps.memory, self._writer.grid.token.device
        self._ready: torch.cuda.Event | None = None
        if device.type == "cuda":
            if memory.stream is None:
                memory.stream = torch.cuda.Stream(device)
            self._ready = torch.cuda.current_stream(device).record_event()
        memory.graphs.records = False
        self._future = self._thread.submit(copy_context().run, self._write)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._given_up.set()  # says nothing to a thread that is done
        self._thread.shutdown()
        self._writer.steps.memory.graphs.records = True

    def _write(self) -> Sampled:
        start = time.perf_counter()
        stream = self._writer.steps.memory.stream
        # What a thread begins with: gradients, no autocast, the default stream of the first device.
        with torch.no_grad(), nullcontext() if stream is None else torch.cuda.stream(stream):
            if stream is not None and self._ready is not None:
                stream.wait_event(self._ready)
            for _ in self._writer.parts():
                if self._given_up.is_set():
                    raise CancelledError
            sampled = self._writer.finished()
        self.seconds = time.perf_counter() - start
        return sampled

    def result(self) -> Sampled:
        """The completions, when they are written.

        Raises:
            Exception: what ended the thread.
            R1OmniError: a CUDA graph cannot be recorded.
        """
        sampled = self._future.result()
        memory = self._writer.steps.memory
        if memory.stream is not None:
            own = torch.cuda.current_stream(sampled.ids.device)
            own.wait_stream(memory.stream)
            for tensor in (sampled.ids, sampled.mask, sampled.logps):
                tensor.record_stream(own)  # the memory is the other stream's
            memory.graphs.record_missing()
        return sampled
