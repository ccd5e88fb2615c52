"""What is looked at while an arm makes its steps: time, memory, counts."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import torch

from r1omni.models.omni import OmniModel
from step_parts.counting import Counting, Operations, TowerCounts
from step_parts.work import Phases, synchronize

Kind = Literal["warm", "counts", "operations", "timed"]
GIB = 2**30


class Watch:
    """Looks at steps one after the other, at each for one thing.

    Args:
        device: that computes.
        kinds: what the first step is looked at for, the second, and so on; a warm one for nothing.

    Attributes:
        models: of which clips through the towers are counted; set before the first step.
        kind: what the step that runs, or ran last, is looked at for; not there before the first.
        phases: of the step that runs.
        found: figures of all steps that have ended.
    """

    def __init__(self, device: str, kinds: Sequence[Kind]) -> None:
        self.device, self.kinds = device, tuple(kinds)
        self.models: tuple[OmniModel, ...] = ()
        self.phases = Phases(device)
        self.found: list[dict[str, Any]] = []

    @property
    def num_steps(self) -> int:
        return len(self.kinds)

    def begin(self) -> None:
        """A step begins."""
        self.kind = self.kinds[len(self.found)]
        self.phases = Phases(self.device)
        self._stack = ExitStack()
        self._towers = self._stack.enter_context(TowerCounts(*self.models))
        self._stack.enter_context(self.phases.towers(*self.models))
        gc.collect()
        self._held = restart_peak(self.device)
        if self.kind == "counts":
            self._counting = self._stack.enter_context(Counting(self.device))
        if self.kind == "operations":
            self._operations = self._stack.enter_context(Operations())
        synchronize(self.device)
        self._started = time.perf_counter()

    def end(self, figures: dict[str, float]) -> None:
        """It has ended; `figures` is what it computed."""
        synchronize(self.device)
        whole = time.perf_counter() - self._started
        peak = memory_peak(self.device)
        self._stack.close()
        found: dict[str, Any] = {"kind": self.kind, "figures": figures}
        if self.kind == "timed":
            seconds = dict(self.phases.seconds)
            seconds["rest"] = whole - sum(seconds.values())
            found |= {"whole_s": whole, "seconds": seconds, "peak_gib": peak / GIB}
            found["peak_beyond_gib"] = (peak - self._held) / GIB
        if self.kind == "counts":
            clips = self._towers
            found |= {"counts": self._counting.counts, "clips": [clips.video, clips.audio]}
        if self.kind == "operations":
            found["operations"] = self._operations.total
        self.found.append(found)


def restart_peak(device: str) -> float:
    """Forget the highest memory so far; returns the bytes in use now."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")
    return memory_peak(device)


def memory_peak(device: str) -> float:
    """Highest bytes since `restart_peak`: allocated on the GPU, or resident in this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])
