"""CUDA graphs of the decoding step: recorded once a shape, replayed at every token.

A step of a small model starts several hundred operations, each of which takes the GPU less time
than it takes the host to start it. A graph starts them all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch

from r1omni.types import R1OmniError


class StepGraphs:
    """Graphs by shape; all of them over the same memory.

    What is recorded reads and writes at fixed addresses. When these change, all graphs go.

    Attributes:
        records: record what is missing at once. Nothing else may be given to the GPU meanwhile, so
            a thread that samples beside other work turns it off, and what was missing is recorded
            afterwards (`record_missing`).
    """

    def __init__(self) -> None:
        self.records = True
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._missing: dict[Hashable, Callable[[], None]] = {}
        self._addresses: tuple[int, ...] = ()
        self._pool: Any = None
        self._stream: torch.cuda.Stream | None = None

    def run(self, shape: Hashable, addresses: tuple[int, ...], step: Callable[[], None]) -> None:
        """One step: replayed, or the first time computed and then recorded for the next.

        Args:
            shape: everything that the step's operations depend on beside the memory's contents.
            addresses: where that memory lies.
            step: computes the step; must not wait for the GPU.

        Raises:
            R1OmniError: the step cannot be recorded.
        """
        if addresses != self._addresses:
            self._graphs.clear()
            self._missing.clear()
            self._pool, self._addresses = None, addresses
        graph = self._graphs.get(shape)
        if graph is not None:
            graph.replay()
            return
        if not self.records:
            step()
            self._missing[shape] = step
            return
        stream = self._recording_stream()
        # Computed before it is recorded: libraries set themselves up at a first call, which is not
        # allowed within a recording. Recording computes nothing, so this is a step like any other.
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            step()
        torch.cuda.current_stream().wait_stream(stream)
        self._graphs[shape] = self._record(step)

    def record_missing(self) -> None:
        """Record the steps that were computed while `records` was off; this computes nothing.

        Raises:
            R1OmniError: a step cannot be recorded.
        """
        while self._missing:
            shape, step = self._missing.popitem()
            self._graphs[shape] = self._record(step)

    def _recording_stream(self) -> torch.cuda.Stream:
        if self._stream is None:
            self._stream = torch.cuda.Stream()
        return self._stream

    def _record(self, step: Callable[[], None]) -> torch.cuda.CUDAGraph:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        try:
            # thread_local: a thread that copies batches to the GPU meanwhile does no harm.
            with torch.cuda.graph(
                graph,
                pool=self._pool,
                stream=self._recording_stream(),
                capture_error_mode="thread_local",
            ):
                step()
        except RuntimeError as error:
            raise R1OmniError(
                f"the decoding step could not be recorded as a CUDA graph ({error}); sample "
                "with cuda_graphs=False"
            ) from error
        return graph
