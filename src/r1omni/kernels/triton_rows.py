"""What the row kernels share: reading tiles, and log-sum-exp and entropy of a row in one pass.

Each lane of a tile keeps its own maximum and sums; lanes meet once a row. So the loop has no
barrier, and warps run ahead of each other. Exponentials are powers of two of (x - maximum) *
log2(e) / temperature, so the temperature enters in one place only, and the largest logit is exact.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


def device_of(tensor: Tensor) -> contextlib.AbstractContextManager[Any]:
    """The device of `tensor` made the current one: Triton launches there."""
    return torch.cuda.device_of(tensor)


def element_stride(tensor: Tensor | None) -> int:
    """Stride of a tensor [T]; 0 for none, and for one value expanded."""
    return 0 if tensor is None else tensor.stride(0)


@triton.jit
def load_tile(
    row,
    start,
    V: tl.constexpr,
    LANES: tl.constexpr,
    DEPTH: tl.constexpr,
    MASKED: tl.constexpr,
    KEEP: tl.constexpr,
):
    """float32 [DEPTH, LANES] of a row from `start` on, and the columns. -inf beyond the row.

    KEEP asks the L2 cache to hold what was read, for a second pass.
    """
    columns = start + tl.arange(0, DEPTH)[:, None] * LANES + tl.arange(0, LANES)[None, :]
    policy: tl.constexpr = "evict_last" if KEEP else "evict_first"
    if MASKED:
        values = tl.load(
            row + columns, mask=columns < V, other=float("-inf"), eviction_policy=policy
        )
    else:
        values = tl.load(row + columns, eviction_policy=policy)
    return values.to(tl.float32), columns


@triton.jit
def _fold(values, largest, total, moment, SCALE: tl.constexpr, WITH_ENTROPY: tl.constexpr):
    """Take a tile [DEPTH, LANES] into the maximum and the sums [LANES] of each lane."""
    higher = tl.maximum(largest, tl.max(values, axis=0))
    # A lane that has seen nothing but -inf has no maximum to measure from.
    pivot = tl.where(higher == float("-inf"), 0.0, higher)
    drop = (largest - pivot) * SCALE
    shrink = tl.exp2(drop)
    distance = (values - pivot[None, :]) * SCALE
    share = tl.exp2(distance)
    if WITH_ENTROPY:
        # 0 * -inf is no share's part of an entropy.
        part = tl.where(share == 0.0, 0.0, share * distance)
        moved = tl.where(shrink == 0.0, 0.0, moment + drop * total)
        moment = moved * shrink + tl.sum(part, axis=0)
    return higher, total * shrink + tl.sum(share, axis=0), moment


@triton.jit
def row_statistics(
    row,
    V: tl.constexpr,
    TEMPERATURE: tl.constexpr,
    LANES: tl.constexpr,
    DEPTH: tl.constexpr,
    NUM_STAGES: tl.constexpr,
    WITH_ENTROPY: tl.constexpr,
    KEEP: tl.constexpr,
):
    """Statistics of the V logits at `row`: largest, total, moment, three float32 scalars.

    total = sum exp((x - largest) / T); moment = sum of the same times (x - largest) / T * log2(e),
    0 if not asked. A NaN makes total NaN, and so does +inf; only -inf leaves a total of 0.
    """
    TILE: tl.constexpr = LANES * DEPTH
    WHOLE: tl.constexpr = V // TILE * TILE
    SCALE: tl.constexpr = LOG2_E / TEMPERATURE
    largest = tl.full([LANES], float("-inf"), tl.float32)
    total = tl.zeros([LANES], tl.float32)
    moment = tl.zeros([LANES], tl.float32)
    for start in tl.range(0, WHOLE, TILE, num_stages=NUM_STAGES):
        values, _ = load_tile(row, start, V, LANES, DEPTH, False, KEEP)
        largest, total, moment = _fold(values, largest, total, moment, SCALE, WITH_ENTROPY)
    if WHOLE < V:
        values, _ = load_tile(row, WHOLE, V, LANES, DEPTH, True, KEEP)
        largest, total, moment = _fold(values, largest, total, moment, SCALE, WITH_ENTROPY)
    highest = tl.max(largest, axis=0)
    pivot = tl.where(highest == float("-inf"), 0.0, highest)
    drop = (largest - pivot) * SCALE
    shrink = tl.exp2(drop)
    row_total = tl.sum(total * shrink, axis=0)
    row_moment = 0.0
    if WITH_ENTROPY:
        moved = tl.where(shrink == 0.0, 0.0, moment + drop * total)
        row_moment = tl.sum(moved * shrink, axis=0)
    return pivot, row_total, row_moment


@triton.jit
def chosen_logit(row, token, V: tl.constexpr):
    """The logit of one token in float32, and whether the token exists; nothing is read if not."""
    exists = (token >= 0) & (token < V)
    return tl.load(row + token, mask=exists, other=0.0).to(tl.float32), exists
