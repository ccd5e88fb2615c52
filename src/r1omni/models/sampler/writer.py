"""Tokens after the first: steps of a grid, and completions written to their ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from r1omni.kernels.choice import choose
from r1omni.kernels.dispatch import uses_triton
from r1omni.models.sampler.graphs import StepGraphs
from r1omni.models.sampler.grid import Grid, Storage, fewer_slots
from r1omni.models.sampler.layers import decode
from r1omni.models.sampler.settings import Sampled, Sampling, mask_after_end
from r1omni.models.sampler.weights import DecoderWeights, WeightReader


@dataclass(frozen=True)
class Pace:
    """What differs between devices in how completions are written.

    Attributes:
        period: tokens between two looks at which rows have ended. Looking means to wait for a GPU.
        columns: a step looks at this many of its own tokens, or twice, four times ... as many,
            those not written yet masked; None looks at those written.
        prompt: lengths of prompts are rounded up to a multiple of this.
        halve: grids only get smaller by halves.
    """

    period: int
    columns: int | None
    prompt: int
    halve: bool


# A graph has fixed shapes: few are used, and batches share them.
CUDA_PACE = Pace(period=8, columns=64, prompt=128, halve=True)
CPU_PACE = Pace(period=4, columns=None, prompt=1, halve=False)


def uses_graphs(device: torch.device, sampling: Sampling) -> bool:
    """Whether steps are recorded and replayed."""
    return device.type == "cuda" and sampling.cuda_graphs


class SamplerMemory:
    """What sampling keeps between calls on a CUDA device: buffers, copied weights and graphs.

    A copy of it is empty: graphs belong to the memory they were recorded over. A model lets go of
    it by `model.sampler_memory = None`.

    Args:
        copy_all: as of `WeightReader`.
    """

    def __init__(self, copy_all: bool = False) -> None:
        self.storage = Storage()
        self.reader = WeightReader(copy_all)
        self.graphs = StepGraphs()
        # On which a thread writes beside other work (`beside.py`).
        self.stream: torch.cuda.Stream | None = None

    def __deepcopy__(self, _: Any) -> SamplerMemory:
        return SamplerMemory()


class Steps:
    """Takes a grid from token to token, on a GPU by recorded steps.

    Args:
        weights: of the language model.
        sampling: how to draw.
        memory: where the grid and the recorded steps are.
        pace: of the device.
    """

    def __init__(
        self, weights: DecoderWeights, sampling: Sampling, memory: SamplerMemory, pace: Pace
    ) -> None:
        device = weights.head.device
        self.weights = weights
        self.sampling = sampling
        self.memory = memory
        self.pace = pace
        self.with_graphs = uses_graphs(device, sampling)
        self.with_triton = uses_triton(weights.head)
        self.addresses: tuple[int, ...] = ()
        self.ends = torch.tensor(sampling.end_ids, device=device)

    def begin(self) -> None:
        """Note where the grid lies: after it was made, and when its memory has grown."""
        self.addresses = (*self.weights.addresses(), *self.memory.storage.addresses())

    def advance(self, grid: Grid, step: int) -> None:
        """One more token for every row of the grid; `step` is the place of their newest."""
        temperature = self.sampling.temperature
        columns = self._columns(step + 1)
        if not self.with_graphs:
            advance(self.weights, grid, columns, temperature)
            return
        now = replace(grid)  # with the shapes of this step, should it be recorded later

        def run() -> None:
            advance(self.weights, now, columns, temperature)

        sizes = tuple(grid.own.shape), tuple(grid.prompt.shape)
        shape = (*sizes, columns, temperature, self.with_triton)
        self.memory.graphs.run(shape, self.addresses, run)

    def _columns(self, written: int) -> int:
        columns = self.pace.columns
        if columns is None:
            return written
        while columns < written:
            columns *= 2
        return min(columns, self.sampling.max_new_tokens)


class Writer:
    """Writes completions to their ends; rows that have ended leave the grid."""

    def __init__(self, steps: Steps, grid: Grid) -> None:
        self.steps = steps
        self.grid = grid
        self.sampling = steps.sampling
        # Nothing moves while completions are written: a smaller grid lies in the same memory.
        steps.begin()
        # Which completion each row of the grid is; beyond the last where it is none.
        self.owner = list(range(len(grid.token)))
        self.num_rows = len(self.owner)
        self.ids = torch.full((self.num_rows + 1, grid.ids.shape[1]), self.sampling.pad_id)
        self.ids = self.ids.to(grid.token.device)
        self.logps = torch.zeros(self.ids.shape, dtype=torch.float32, device=self.ids.device)

    def write(self) -> Sampled:
        """All completions."""
        for _ in self.parts():
            pass
        return self.finished()

    def parts(self) -> Iterator[Tensor]:
        """The next tokens of all rows, long [N, k]; what is behind an end token says nothing."""
        last = self.sampling.max_new_tokens - 1
        checked = 0
        for step in range(last + 1):
            if step == last or step - checked + 1 == self.steps.pace.period:
                goes_on = self._leave(checked, step + 1)
                yield self.ids[:-1, checked : step + 1]
                if not goes_on or step == last:
                    return
                checked = step + 1
            self.steps.advance(self.grid, step)

    def _leave(self, start: int, stop: int) -> bool:
        """Record tokens `start` to `stop`, and let go of rows that ended there.

        Returns:
            whether any row goes on.
        """
        grid = self.grid
        owner = torch.tensor(self.owner, device=grid.ids.device)
        self.ids[owner, start:stop] = grid.ids[:, start:stop]
        self.logps[owner, start:stop] = grid.logps[:, start:stop]
        ended = torch.isin(grid.ids[:, start:stop], self.steps.ends).any(dim=1).tolist()
        going = [
            slot
            for slot, (end, row) in enumerate(zip(ended, self.owner, strict=True))
            if not end and row < self.num_rows
        ]
        if not going:
            return False
        slots, real = fewer_slots(going, grid.shape, halve=self.steps.pace.halve)
        if len(slots) * len(slots[0]) < len(self.owner):
            grid.narrow(slots, stop - 1, self.steps.memory.storage)
            self.owner = [
                self.owner[slot] if is_real else self.num_rows
                for line, reals in zip(slots, real, strict=True)
                for slot, is_real in zip(line, reals, strict=True)
            ]
        else:
            for slot, end in enumerate(ended):
                self.owner[slot] = self.num_rows if end else self.owner[slot]
        return True

    def finished(self) -> Sampled:
        """What `parts` has written, when it has come to its end."""
        ids, logps = self.ids[:-1], self.logps[:-1]
        mask = mask_after_end(ids, self.sampling.end_ids)
        longest = int(mask.sum(dim=1).max())
        ids, mask, logps = ids[:, :longest], mask[:, :longest], logps[:, :longest]
        return Sampled(
            ids.masked_fill(~mask, self.sampling.pad_id), mask, logps.masked_fill(~mask, 0.0)
        )


def advance(weights: DecoderWeights, grid: Grid, columns: int, temperature: float) -> None:
    """One step: the newest tokens are read, the next are drawn and recorded.

    All shapes are known beforehand and nothing waits for the device, so this can be recorded.

    Args:
        weights: of the language model.
        grid: the rows; changed in place.
        columns: how many of its own tokens a row looks at, at least those written.
        temperature: of the sampling.
    """
    length = grid.prompt.shape[4]
    place = grid.step - grid.starts
    grid.bias.index_fill_(1, grid.step + length, 0.0)
    logits = decode(
        weights,
        F.embedding(grid.token, weights.embedding),
        grid.turns[grid.lengths + place],
        grid.prompt,
        grid.own,
        grid.step,
        grid.bias[:, : length + columns],
    )
    grid.step.add_(1)
    uniform = None
    if grid.uniforms is not None:
        uniform = grid.uniforms.gather(1, place.add_(1).unsqueeze(1)).squeeze(1)
    token, logps = choose(logits, temperature, uniform)
    grid.token.copy_(token)
    grid.ids.index_copy_(1, grid.step, token[:, None])
    grid.logps.index_copy_(1, grid.step, logps[:, None])
