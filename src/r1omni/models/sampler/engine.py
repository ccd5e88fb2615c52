"""Sampling completions: one pass over each prompt, G completions from its keys and values.

Every completion draws from a random stream of its own, so what is sampled does not depend on the
batch it was sampled in, on the number of ranks, or on what was sampled before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.nn import functional as F

from r1omni.kernels.choice import choose
from r1omni.kernels.dispatch import uses_triton
from r1omni.models.omni import OmniModel
from r1omni.models.sampler.graphs import StepGraphs
from r1omni.models.sampler.grid import Grid, Storage, fewer_slots, first_tokens
from r1omni.models.sampler.layers import decode
from r1omni.models.sampler.prompts import ReadPrompts, read_prompts
from r1omni.models.sampler.settings import Hear, Sampled, Sampling, mask_after_end
from r1omni.models.sampler.weights import DecoderWeights, WeightReader
from r1omni.streams import uniform_streams


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


def pace_of(device: torch.device) -> Pace:
    """How completions are written on a device."""
    return CUDA_PACE if device.type == "cuda" else CPU_PACE


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

    def __deepcopy__(self, _: Any) -> SamplerMemory:
        return SamplerMemory()


@torch.no_grad()
def generate(
    model: OmniModel,
    prompts: Sequence[Tensor] | ReadPrompts,
    sampling: Sampling,
    *,
    group_size: int = 1,
    seeds: Sequence[int] | None = None,
    hear: Hear | None = None,
) -> Sampled:
    """Sample `group_size` completions of every prompt.

    Products are computed in the weights' dtype, or in that of autocast inside autocast.

    Args:
        model: the policy.
        prompts: B embedded prompts [P_i, D], or such that were read already (`read_prompts`).
        sampling: how to draw.
        group_size: G.
        seeds: N seeds of `stream_seed`, group members side by side; needed when the temperature
            is above 0.
        hear: called while completions are written with the next tokens of all rows, long [N, k];
            what is behind an end token says nothing. What it raises ends the sampling.

    Raises:
        ValueError: a positive temperature without N seeds.
        R1OmniError: a CUDA graph cannot be recorded.
    """
    with_graphs = model.device.type == "cuda" and sampling.cuda_graphs
    memory = _kept_memory(model) if with_graphs else SamplerMemory()
    writer = _begun(model, prompts, sampling, group_size, seeds, memory)
    with torch.autocast(model.device.type, enabled=False):
        return writer.write(hear)


@torch.no_grad()
def generate_stream(
    model: OmniModel,
    prompts: Sequence[Tensor] | ReadPrompts,
    sampling: Sampling,
    *,
    group_size: int = 1,
    seeds: Sequence[int] | None = None,
) -> Iterator[Tensor]:
    """The completions of `generate`, piece by piece while they are written.

    The model may be used meanwhile: nothing is kept in the memory that other calls share, so on a
    CUDA device graphs are recorded for this call alone.

    Args, Raises: as for `generate`.

    Yields:
        the next tokens of all rows, long [N, k], padded where a row has ended; k is at most the
        period of the device's `Pace`. Side by side they are `Sampled.ids`.
    """
    writer = _begun(model, prompts, sampling, group_size, seeds, SamplerMemory())
    parts = writer.parts()
    going = torch.ones(len(prompts) * group_size, 1, dtype=torch.bool, device=model.device)
    while True:
        with torch.autocast(model.device.type, enabled=False):
            part = next(parts, None)
        if part is None:
            return
        mask = mask_after_end(part, sampling.end_ids) & going
        going = going & ~torch.isin(part, writer.ends).any(dim=1, keepdim=True)
        yield part.masked_fill(~mask, sampling.pad_id)[:, : int(mask.sum(dim=1).max())]


def _begun(
    model: OmniModel,
    prompts: Sequence[Tensor] | ReadPrompts,
    sampling: Sampling,
    group_size: int,
    seeds: Sequence[int] | None,
    memory: SamplerMemory,
) -> _Writer:
    """The prompts read, and the first token of every row drawn."""
    num_rows = len(prompts) * group_size
    uniforms = None
    if sampling.temperature > 0:
        if seeds is None or len(seeds) != num_rows:
            raise ValueError(f"sampling needs one seed a completion, {num_rows} in all")
        uniforms = uniform_streams(seeds, sampling.max_new_tokens).to(model.device)
    pace = pace_of(model.device)
    weights = memory.reader.read(model)
    read = prompts if isinstance(prompts, ReadPrompts) else read_prompts(model, prompts)
    grid = first_tokens(
        model, weights, read, group_size, sampling, uniforms, memory.storage, pace.prompt
    )
    with_graphs = model.device.type == "cuda" and sampling.cuda_graphs
    with torch.autocast(model.device.type, enabled=False):
        return _Writer(weights, grid, sampling, memory, pace, with_graphs)


def _kept_memory(model: OmniModel) -> SamplerMemory:
    if model.sampler_memory is None:
        model.sampler_memory = SamplerMemory(copy_all=isinstance(model, FSDPModule))
    return model.sampler_memory


class _Writer:
    """Writes completions to their ends; rows that have ended leave the grid."""

    def __init__(
        self,
        weights: DecoderWeights,
        grid: Grid,
        sampling: Sampling,
        memory: SamplerMemory,
        pace: Pace,
        with_graphs: bool,
    ) -> None:
        self.weights = weights
        self.grid = grid
        self.sampling = sampling
        self.memory = memory
        self.pace = pace
        self.with_graphs = with_graphs
        self.with_triton = uses_triton(grid.logps)
        # Nothing moves while completions are written: a smaller grid lies in the same memory.
        self.addresses = (*weights.addresses(), *memory.storage.addresses())
        self.ends = torch.tensor(sampling.end_ids, device=grid.token.device)
        # Which completion each row of the grid is; beyond the last where it is none.
        self.owner = list(range(len(grid.token)))
        self.num_rows = len(self.owner)
        self.ids = torch.full((self.num_rows + 1, grid.ids.shape[1]), sampling.pad_id)
        self.ids = self.ids.to(grid.token.device)
        self.logps = torch.zeros(self.ids.shape, dtype=torch.float32, device=self.ids.device)

    def write(self, hear: Hear | None = None) -> Sampled:
        for part in self.parts():
            if hear is not None:
                hear(part)
        return self._finished()

    def parts(self) -> Iterator[Tensor]:
        """The next tokens of all rows, long [N, k]; what is behind an end token says nothing."""
        last = self.sampling.max_new_tokens - 1
        checked = 0
        for step in range(last + 1):
            if step == last or step - checked + 1 == self.pace.period:
                goes_on = self._leave(checked, step + 1)
                yield self.ids[:-1, checked : step + 1]
                if not goes_on or step == last:
                    return
                checked = step + 1
            self._advance(step)

    def _advance(self, step: int) -> None:
        """One more token for every row of the grid; `step` is the place of their newest."""
        grid, temperature = self.grid, self.sampling.temperature
        columns = self._columns(step + 1)

        def run() -> None:
            advance(self.weights, grid, columns, temperature)

        if not self.with_graphs:
            run()
            return
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

    def _leave(self, start: int, stop: int) -> bool:
        """Record tokens `start` to `stop`, and let go of rows that ended there.

        Returns:
            whether any row goes on.
        """
        grid = self.grid
        owner = torch.tensor(self.owner, device=grid.ids.device)
        self.ids[owner, start:stop] = grid.ids[:, start:stop]
        self.logps[owner, start:stop] = grid.logps[:, start:stop]
        ended = torch.isin(grid.ids[:, start:stop], self.ends).any(dim=1).tolist()
        going = [
            slot
            for slot, (end, row) in enumerate(zip(ended, self.owner, strict=True))
            if not end and row < self.num_rows
        ]
        if not going:
            return False
        slots, real = fewer_slots(going, grid.shape, halve=self.pace.halve)
        if len(slots) * len(slots[0]) < len(self.owner):
            grid.narrow(slots, stop - 1, self.memory.storage)
            self.owner = [
                self.owner[slot] if is_real else self.num_rows
                for line, reals in zip(slots, real, strict=True)
                for slot, is_real in zip(line, reals, strict=True)
            ]
        else:
            for slot, end in enumerate(ended):
                self.owner[slot] = self.num_rows if end else self.owner[slot]
        return True

    def _finished(self) -> Sampled:
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
    position = grid.lengths + grid.step
    grid.bias.index_fill_(1, grid.step + length, 0.0)
    logits = decode(
        weights,
        F.embedding(grid.token, weights.embedding),
        grid.turns[position],
        grid.prompt,
        grid.own,
        grid.step,
        grid.bias[:, : length + columns],
    )
    grid.step.add_(1)
    uniform = None
    if grid.uniforms is not None:
        uniform = grid.uniforms.index_select(1, grid.step).squeeze(1)
    token, logps = choose(logits, temperature, uniform)
    grid.token.copy_(token)
    grid.ids.index_copy_(1, grid.step, token[:, None])
    grid.logps.index_copy_(1, grid.step, logps[:, None])
