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

from r1omni.kernels.choice import choose
from r1omni.models.omni import OmniModel
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
        token: long [n], the newest token of each row, whose keys are not written yet.
        uniforms: float64 [n, C], the random numbers of each row; None takes the best token.
        ids: long [n, C], the tokens that were drawn.
        logps: float32 [n, C], their log-probabilities.
        step: long [1], the place of `token` in `ids`.
        turns: complex64 [P + C, d / 2], rotary positions.
    """

    prompt: Tensor
    own: Tensor
    bias: Tensor
    lengths: Tensor
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
        for name in ("lengths", "token", "uniforms", "ids", "logps"):
            if getattr(self, name) is not None:
                setattr(self, name, self._keep(name, rows, storage))

    def _keep(self, name: str, rows: Tensor, storage: Storage) -> Tensor:
        old: Tensor = getattr(self, name)
        kept = old[rows]
        return storage.take(name, kept.shape, old.dtype, old.device).copy_(kept)


def first_tokens(
    model: OmniModel,
    weights: DecoderWeights,
    read: ReadPrompts,
    group_size: int,
    sampling: Sampling,
    uniforms: Tensor | None,
    storage: Storage,
    multiple: int,
) -> Grid:
    """The grid after the first token of every row; prompts are read by the library's model.

    Args:
        model: the policy.
        weights: of its language model.
        read: B prompts.
        group_size: G.
        sampling: how to draw.
        uniforms: float64 [N, C], the random numbers; None takes the best token.
        storage: where the grid lies.
        multiple: lengths of prompts are rounded up to a multiple of this.
    """
    device = model.device
    embedded, hidden = read.embedded, read.last.to(weights.dtype)
    batch, padded = embedded.mask.shape
    kept = -(-padded // multiple) * multiple
    columns, rows = sampling.max_new_tokens, batch * group_size

    def take(name: str, *shape: int, dtype: torch.dtype) -> Tensor:
        return storage.take(name, shape, dtype, device)

    inner = (weights.num_kv_heads, weights.head_dim)
    prompt = take("prompt", len(weights.layers), 2, batch, inner[0], kept, inner[1],
                  dtype=weights.dtype)  # fmt: skip
    prompt[..., padded:, :] = 0  # masked, but what is no number would go through a mask
    order = pair_order(weights.head_dim, device)
    cache_layers: list[Any] = read.cache.layers
    for place, layer in zip(prompt, cache_layers, strict=True):
        place[0, ..., :padded, :].copy_(layer.keys[..., order])
        place[1, ..., :padded, :].copy_(layer.values)
    own = take("own", len(weights.layers), 2, batch, inner[0], group_size, columns, inner[1],
               dtype=weights.dtype)  # fmt: skip
    own.zero_()
    bias = take("bias", batch, kept + columns, dtype=weights.dtype)
    bias.fill_(float("-inf"))
    bias[:, :padded].masked_fill_(embedded.mask, 0.0)
    turns = _turns(model, embedded.embeds, kept + columns)
    grid = Grid(
        prompt=prompt,
        own=own,
        bias=bias,
        lengths=take("lengths", rows, dtype=torch.long),
        token=take("token", rows, dtype=torch.long),
        uniforms=None if uniforms is None else take("uniforms", rows, columns, dtype=torch.float64),
        ids=take("ids", rows, columns, dtype=torch.long),
        logps=take("logps", rows, columns, dtype=torch.float32),
        step=take("step", 1, dtype=torch.long),
        turns=take("turns", *turns.shape, dtype=turns.dtype).copy_(turns),
    )
    grid.lengths.copy_(embedded.mask.sum(dim=1).repeat_interleave(group_size))
    grid.step.zero_()
    if grid.uniforms is not None and uniforms is not None:
        grid.uniforms.copy_(uniforms)
    with torch.autocast(device.type, enabled=False):
        logits = product(hidden, weights.head).repeat_interleave(group_size, dim=0)
    first = None if uniforms is None else uniforms[:, 0]
    token, grid.logps[:, 0] = choose(logits, sampling.temperature, first)
    grid.ids[:, 0] = token
    grid.token.copy_(token)
    return grid


def _turns(model: OmniModel, like: Tensor, length: int) -> Tensor:
    """The library's rotary positions as complex64 [length, d / 2], in the precision of `like`."""
    positions = torch.arange(length, device=model.device)[None]
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
