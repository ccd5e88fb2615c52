"""Sampling completions: one pass over each prompt, G completions from its keys and values.

Every completion draws from a random stream of its own, so what is sampled does not depend on the
batch it was sampled in, on the number of ranks, or on what was sampled before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from r1omni.models.omni import OmniModel
from r1omni.models.sampler.continuous import Ended, Hear, NextPrompts, Rows, written
from r1omni.models.sampler.grid import begin, empty_grid
from r1omni.models.sampler.prompts import ReadPrompts, read_prompts
from r1omni.models.sampler.settings import Sampled, Sampling, mask_after_end
from r1omni.models.sampler.writer import (
    CPU_PACE,
    CUDA_PACE,
    Pace,
    SamplerMemory,
    Steps,
    Writer,
    uses_graphs,
)
from r1omni.streams import uniform_streams


def pace_of(device: torch.device) -> Pace:
    """How completions are written on a device."""
    return CUDA_PACE if device.type == "cuda" else CPU_PACE


@torch.no_grad()
def generate(
    model: OmniModel,
    prompts: Sequence[Tensor] | ReadPrompts,
    sampling: Sampling,
    *,
    group_size: int = 1,
    seeds: Sequence[int] | None = None,
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

    Raises:
        ValueError: a positive temperature without N seeds.
        R1OmniError: a CUDA graph cannot be recorded.
    """
    memory = _kept_memory(model) if uses_graphs(model.device, sampling) else SamplerMemory()
    writer = begun(model, prompts, sampling, group_size, seeds, memory)
    with torch.autocast(model.device.type, enabled=False):
        return writer.write()


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
    writer = begun(model, prompts, sampling, group_size, seeds, SamplerMemory())
    parts = writer.parts()
    going = torch.ones(len(prompts) * group_size, 1, dtype=torch.bool, device=model.device)
    while True:
        with torch.autocast(model.device.type, enabled=False):
            part = next(parts, None)
        if part is None:
            return
        mask = mask_after_end(part, sampling.end_ids) & going
        going = going & ~torch.isin(part, writer.steps.ends).any(dim=1, keepdim=True)
        yield part.masked_fill(~mask, sampling.pad_id)[:, : int(mask.sum(dim=1).max())]


@torch.no_grad()
def generate_each(
    model: OmniModel,
    more: NextPrompts,
    sampling: Sampling,
    num_rows: int,
    *,
    seed_of: Callable[[int], int] | None = None,
    hear: Hear | None = None,
) -> Iterator[Ended | None]:
    """One completion of each prompt of a stream; where one has ended, the next prompt begins.

    Completions are those of `generate`, to the token. Memory is that of `num_rows` prompts and
    completions, however many there are.

    Args:
        model: the policy.
        more: asked for the next prompts whenever some rows are free.
        sampling: how to draw.
        num_rows: completions that are written at once, at most.
        seed_of: by the place of a prompt, from 0, the seed of its completion (`stream_seed`);
            needed when the temperature is above 0.
        hear: called while completions are written; what it raises ends them.

    Yields:
        completions that have ended, soon after they have; None where `more` gave no prompt and
        nothing is being written.

    Raises:
        ValueError: a positive temperature without seeds.
        R1OmniError: a CUDA graph cannot be recorded.
    """
    if sampling.temperature > 0 and seed_of is None:
        raise ValueError("sampling needs the seed of each completion")
    if not uses_graphs(model.device, sampling):
        rows = Rows(model, sampling, SamplerMemory(), pace_of(model.device), num_rows, seed_of)
        yield from written(rows, more, hear)
        return
    memory = _kept_memory(model)
    # Whoever samples with this model before the end takes memory of its own.
    model.sampler_memory = None
    try:
        rows = Rows(model, sampling, memory, pace_of(model.device), num_rows, seed_of)
        yield from written(rows, more, hear)
    finally:
        model.sampler_memory = memory


@torch.no_grad()
def begun(
    model: OmniModel,
    prompts: Sequence[Tensor] | ReadPrompts,
    sampling: Sampling,
    group_size: int,
    seeds: Sequence[int] | None,
    memory: SamplerMemory,
) -> Writer:
    """The prompts read, and the first token of every row drawn.

    What is left to write reads the model no more, if the memory copies all weights.

    Args, Raises: as for `generate`; `memory` is used by nobody else until all is written.
    """
    num_rows = len(prompts) * group_size
    uniforms = None
    if sampling.temperature > 0:
        if seeds is None or len(seeds) != num_rows:
            raise ValueError(f"sampling needs one seed a completion, {num_rows} in all")
        uniforms = uniform_streams(seeds, sampling.max_new_tokens).to(model.device)
    pace = pace_of(model.device)
    weights = memory.reader.read(model)
    read = prompts if isinstance(prompts, ReadPrompts) else read_prompts(model, prompts)
    length = -(-read.embedded.mask.shape[1] // pace.prompt) * pace.prompt
    shape = (len(prompts), group_size)
    grid = empty_grid(model, weights, shape, length, sampling, memory.storage)
    begin(grid, range(len(prompts)), 0, weights, read, sampling, uniforms)
    return Writer(Steps(weights, sampling, memory, pace), grid)


def _kept_memory(model: OmniModel) -> SamplerMemory:
    if model.sampler_memory is None:
        model.sampler_memory = SamplerMemory(copy_all=isinstance(model, FSDPModule))
    return model.sampler_memory
