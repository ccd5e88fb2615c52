"""The state of completions that are being written: a grid of groups and their rows.

Everything a step reads or writes lies here, at places that do not change from token to token, so a
step can be recorded once and replayed. Where a step stands is a number on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from r1omni.kernels.choice import choose
from r1omni.models.omni import OmniModel
from r1omni.models.packed import Embedded
from r1omni.models.sampler.layers import product
from r1omni.models.sampler.prompts import ReadPrompts
from r1omni.models.sampler.settings import Sampling
from r1omni.models.sampler.weights import DecoderWeights, pair_order


class Storage:
    """Named memory that is taken once and then used again, whatever shapes are asked for."""

    def __init__(self) -> None:
        self._flat: dict[str, Tensor] = {}

    def take(
        self, name: str, shape: Sequence[int], dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        """[*shape], not initialised, from the memory of this name, which grows if it must."""
        size = torch.Size(shape).numel()
        flat = self._flat.get(name)
        if flat is None or flat.numel() < size or (flat.dtype, flat.device) != (dtype, device):
            flat = self._flat[name] = torch.empty(size, dtype=dtype, device=device)
        return flat[:size].view(*shape)

    def addresses(self) -> tuple[int, ...]:
        """Where everything that was taken begins."""
        return tuple(flat.data_ptr() for flat in self._flat.values())


@dataclass
class Grid:
    """B groups of G rows; n = B * G, row g of group b is at b * G + g.

    Attributes:
        prompt: keys and values of the prompts, [layers, 2, B, Hkv, P, d]; keys in the order of
            `weights.pair_order`.
        own: those of the rows, [layers, 2, B, Hkv, G, C, d].
        bias: [B, P + C], 0 where a row of the group may look, else minus infinity.
        lengths: long [n], tokens of each row's prompt.
        starts: long [n], the place of each row's first token in `ids`.
        token: long [n], the newest token of each row, whose keys are not written yet.
        uniforms: float64 [n, C], the random numbers of each row, from its first token on; None
            takes the best token.
        ids: long [n, C], the tokens that were drawn, those of one step in one column.
        logps: float32 [n, C], their log-probabilities.
        step: long [1], the place of `token` in `ids`.
        turns: complex64 [P + C, d / 2], rotary positions.
    """

    prompt: Tensor
    own: Tensor
    bias: Tensor
    lengths: Tensor
    starts: Tensor
    token: Tensor
    uniforms: Tensor | None
    ids: Tensor
    logps: Tensor
    step: Tensor
    turns: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """B and G."""
        return self.own.shape[2], self.own.shape[4]

    def narrow(self, slots: Sequence[Sequence[int]], written: int, storage: Storage) -> None:
        """Keep some rows, moved together at the start of the same memory.

        Args:
            slots: B' lists of G' rows of one group each; a row may stand in place of one that is
                missing, and is then computed twice.
            written: columns of `own` that hold something.
            storage: where the grid was taken from.
        """
        members = self.shape[1]
        flat = torch.tensor(slots, device=self.token.device)  # [B', G']
        group, member = flat[:, 0] // members, flat % members
        moved = self.own[..., :written, :].transpose(3, 4)  # [layers, 2, B, G, Hkv, C, d]
        moved = moved[:, :, group[:, None], member]  # a copy, before its memory is written again
        shape = list(self.own.shape)
        shape[2], shape[4] = flat.shape
        self.own = storage.take("own", shape, self.own.dtype, self.own.device)
        self.own[..., :written, :].copy_(moved.transpose(3, 4))
        if len(group) < len(self.bias):
            kept = self.prompt[:, :, group]
            self.prompt = storage.take("prompt", kept.shape, kept.dtype, kept.device)
            self.prompt.copy_(kept)
            self.bias = self._keep("bias", group, storage)
        rows = flat.flatten()
        for name in ("lengths", "starts", "token", "uniforms", "ids", "logps"):
            if getattr(self, name) is not None:
                setattr(self, name, self._keep(name, rows, storage))

    def forget(self, count: int, written: int) -> None:
        """Let go of the first columns, in which no row that goes on has anything.

        Args:
            count: so many; their `ids` and `logps` are lost, those of others stay where they were.
            written: columns of `own` that hold something.
        """
        length = self.prompt.shape[4]
        kept = self.own[..., count:written, :].clone()
        self.own[..., : written - count, :] = kept
        seen = self.bias[:, length + count : length + written].clone()
        self.bias[:, length:] = float("-inf")
        self.bias[:, length : length + written - count] = seen
        self.step.sub_(count)
        # A row that has ended may be older; it is not looked at any more.
        self.starts.sub_(count).clamp_(min=0)

    def lengthen(self, model: OmniModel, length: int, storage: Storage) -> None:
        """Make room for longer prompts.

        Args:
            model: the policy.
            length: P from now on.
            storage: where the grid was taken from.
        """
        before = self.prompt.shape[4]
        prompt, bias = self.prompt.clone(), self.bias.clone()
        shape = list(prompt.shape)
        shape[4] = length
        self.prompt = storage.take("prompt", shape, prompt.dtype, prompt.device).zero_()
        self.prompt[..., :before, :] = prompt
        wide = (len(bias), length + bias.shape[1] - before)
        self.bias = storage.take("bias", wide, bias.dtype, bias.device)
        self.bias[:, :before] = bias[:, :before]
        self.bias[:, before:length] = float("-inf")
        self.bias[:, length:] = bias[:, before:]
        turns = _turns(model, wide[1])
        self.turns = storage.take("turns", turns.shape, turns.dtype, turns.device).copy_(turns)

    def read_again(self, groups: Sequence[int], last: Tensor) -> ReadPrompts:
        """The prompts of some groups as the library's model has read them.

        Args:
            groups: b places.
            last: float [b, D], the states of their last tokens.
        """
        where = torch.tensor(groups, device=self.token.device)
        length = self.prompt.shape[4]
        mask = self.bias[where, :length] == 0
        embedded = Embedded(last.new_empty(len(where), length, 0), mask, mask.long().cumsum(1) - 1)
        back = pair_order(self.prompt.shape[5], self.token.device).argsort()
        cache = DynamicCache()
        for index, layer in enumerate(self.prompt):
            cache.update(layer[0, where][..., back], layer[1, where], index)
        return ReadPrompts(embedded, cache, last)

    def _keep(self, name: str, rows: Tensor, storage: Storage) -> Tensor:
        old: Tensor = getattr(self, name)
        kept = old[rows]
        return storage.take(name, kept.shape, old.dtype, old.device).copy_(kept)


def empty_grid(
    model: OmniModel,
    weights: DecoderWeights,
    shape: tuple[int, int],
    length: int,
    sampling: Sampling,
    storage: Storage,
) -> Grid:
    """A grid in which nothing has begun.

    Args:
        model: the policy.
        weights: of its language model.
        shape: B and G.
        length: P, at least that of the longest prompt that begins first.
        sampling: how to draw.
        storage: where the grid lies.
    """
    device, dtype = model.device, weights.dtype
    (batch, members), columns = shape, sampling.max_new_tokens
    rows = batch * members

    def take(name: str, *shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return storage.take(name, shape, dtype, device)

    # Zeros: what is masked must still be a number.
    inner, layers = (weights.num_kv_heads, weights.head_dim), len(weights.layers)
    prompt = take("prompt", layers, 2, batch, inner[0], length, inner[1]).zero_()
    own = take("own", layers, 2, batch, inner[0], members, columns, inner[1]).zero_()
    turns = _turns(model, length + columns)
    uniforms = None
    if sampling.temperature > 0:
        uniforms = take("uniforms", rows, columns, dtype=torch.float64).zero_()
    return Grid(
        prompt=prompt,
        own=own,
        bias=take("bias", batch, length + columns).fill_(float("-inf")),
        lengths=take("lengths", rows, dtype=torch.long).zero_(),
        starts=take("starts", rows, dtype=torch.long).zero_(),
        token=take("token", rows, dtype=torch.long).zero_(),
        uniforms=uniforms,
        ids=take("ids", rows, columns, dtype=torch.long),
        logps=take("logps", rows, columns, dtype=torch.float32),
        step=take("step", 1, dtype=torch.long).zero_(),
        turns=take("turns", *turns.shape, dtype=turns.dtype).copy_(turns),
    )


def begin(
    grid: Grid,
    groups: Sequence[int],
    column: int,
    weights: DecoderWeights,
    read: ReadPrompts,
    sampling: Sampling,
    uniforms: Tensor | None,
) -> None:
    """Put prompts into some groups of a grid, and draw the first token of their rows.

    Args:
        grid: its prompts are at least as long as the longest of these; changed in place.
        groups: b places of groups; what was there is overwritten.
        column: the value of `grid.step`.
        weights: of the language model.
        read: b prompts.
        sampling: how to draw.
        uniforms: float64 [b * G, C], the random numbers; None takes the best token.
    """
    device, members = grid.token.device, grid.shape[1]
    mask = read.embedded.mask
    padded = mask.shape[1]
    where = torch.tensor(groups, device=device)
    rows = (where[:, None] * members + torch.arange(members, device=device)).flatten()
    order = pair_order(weights.head_dim, device)
    cache_layers: list[Any] = read.cache.layers
    for place, layer in zip(grid.prompt, cache_layers, strict=True):
        place[0, ..., :padded, :].index_copy_(0, where, layer.keys[..., order].to(place.dtype))
        place[1, ..., :padded, :].index_copy_(0, where, layer.values.to(place.dtype))
    grid.bias[where] = float("-inf")
    shown = torch.where(mask, 0.0, float("-inf")).to(grid.bias.dtype)
    grid.bias[:, :padded].index_copy_(0, where, shown)
    grid.lengths[rows] = mask.sum(dim=1).repeat_interleave(members)
    grid.starts[rows] = column
    if grid.uniforms is not None and uniforms is not None:
        grid.uniforms[rows] = uniforms
    with torch.autocast(device.type, enabled=False):
        logits = product(read.last.to(weights.dtype), weights.head)
    first = None if uniforms is None else uniforms[:, 0]
    token, logps = choose(logits.repeat_interleave(members, dim=0), sampling.temperature, first)
    grid.token[rows] = token
    grid.ids[rows, column] = token
    grid.logps[rows, column] = logps


def _turns(model: OmniModel, length: int) -> Tensor:
    """The library's rotary positions as complex64 [length, d / 2], in the embeddings' precision."""
    positions = torch.arange(length, device=model.device)[None]
    like = torch.empty(0, dtype=model.dtype, device=model.device)
    cosines, sines = model.language_model.rotary_emb(like, positions)
    half = sines.shape[-1] // 2
    return torch.complex(cosines[0, :, :half].float(), sines[0, :, :half].float())


def fewer_slots(
    live: Sequence[int], shape: tuple[int, int], *, halve: bool
) -> tuple[list[list[int]], list[list[bool]]]:
    """A smaller grid for the rows that go on.

    Args:
        live: the rows that go on, in order; at least one.
        shape: B and G of the grid they are in.
        halve: take only grids of G / 2^k rows a group, and of a power of two, or B, groups, so
            that few shapes occur.

    Returns:
        B' lists of G' rows, and which of them are real; the others stand in for a row of their
        group, or for a group.
    """
    batch, members = shape
    groups: dict[int, list[int]] = {}
    for slot in live:
        groups.setdefault(slot // members, []).append(slot)
    kept = list(groups.values())
    width = max(len(rows) for rows in kept)
    height = len(kept)
    if halve:
        halved = members
        while (halved + 1) // 2 >= width and halved > 1:
            halved = (halved + 1) // 2
        width = halved
        height = min(1 << (height - 1).bit_length(), batch)
    slots = [rows + rows[:1] * (width - len(rows)) for rows in kept]
    real = [[True] * len(rows) + [False] * (width - len(rows)) for rows in kept]
    for _ in range(height - len(kept)):
        slots.append(kept[0][:1] * width)
        real.append([False] * width)
    return slots, real
