"""The small steps of decoding one token a row, on CUDA; `decoding.py` says what they compute.

Their work is little: what counts is that there are few of them, since each takes at least two
microseconds. Sums are float32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from r1omni.kernels.triton_rows import device_of

# Keys of a tile.
_KEYS = 64
# Parts a prompt is read in, at most, and programs that fill a GPU about twice.
_PARTS = 8
_PROGRAMS = 256
# Elements of a program of `gated_kernel`.
_ELEMENTS = 1024


@triton.jit
def norm_kernel(
    hidden,
    delta,
    weight,
    out,
    EPS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program a row: hidden += delta, out = RMSNorm(hidden)."""
    row = tl.program_id(0).to(tl.int64) * WIDTH
    at = tl.arange(0, BLOCK)
    inside = at < WIDTH
    x = tl.load(hidden + row + at, mask=inside, other=0.0).to(tl.float32)
    if delta is not None:
        x += tl.load(delta + row + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(hidden + row + at, x.to(hidden.dtype.element_ty), mask=inside)
    mean = tl.sum(x * x, 0) / WIDTH
    x *= tl.rsqrt(mean + EPS)
    x *= tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row + at, x.to(out.dtype.element_ty), mask=inside)


@triton.jit
def rotate_kernel(
    fused,
    turns,
    column,
    query,
    own,
    NUM_ROWS: tl.constexpr,
    MEMBERS: tl.constexpr,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program a row and head: queries and keys are turned, keys and values kept."""
    ALL: tl.constexpr = HEADS + 2 * KV_HEADS
    REPEATS: tl.constexpr = HEADS // KV_HEADS
    program = tl.program_id(0)
    row = (program // ALL).to(tl.int64)
    head = program % ALL
    group = row // MEMBERS
    member = row % MEMBERS
    at = tl.arange(0, BLOCK)
    inside = at < WIDTH
    source = fused + program.to(tl.int64) * WIDTH
    x = tl.load(source + at, mask=inside, other=0.0).to(tl.float32)
    if head < HEADS + KV_HEADS:
        # The other number of the pair; a + i b times cos + i sin.
        beside = tl.load(source + (at ^ 1), mask=inside, other=0.0).to(tl.float32)
        turn = turns + row * WIDTH + at // 2 * 2
        cosine = tl.load(turn, mask=inside, other=0.0)
        sine = tl.load(turn + 1, mask=inside, other=0.0)
        x = x * cosine + tl.where(at % 2 == 0, -beside, beside) * sine
    if head < HEADS:
        asked = (group * KV_HEADS + head // REPEATS) * MEMBERS + member
        tl.store(
            query + (asked * REPEATS + head % REPEATS) * WIDTH + at,
            x.to(query.dtype.element_ty),
            mask=inside,
        )
    else:
        # Keys before values: head - HEADS counts through both.
        is_value = (head - HEADS) // KV_HEADS
        kept = (is_value * (NUM_ROWS // MEMBERS) + group) * KV_HEADS + (head - HEADS) % KV_HEADS
        place = (kept * MEMBERS + member) * COLUMNS + tl.load(column)
        tl.store(own + place * WIDTH + at, x.to(own.dtype.element_ty), mask=inside)


@triton.jit
def _keys_of_a_part(
    query,
    keys,
    values,
    bias,
    start,
    stop,
    at,
    inside,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    KEYS: tl.constexpr,
    TILES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Weighted sum of values, largest score and sum of weights of queries over some keys."""
    largest = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, BLOCK], tl.float32)
    for tile in range(TILES):
        index = start + tile * KEYS + tl.arange(0, KEYS)
        there = index < stop
        spot = index[:, None] * WIDTH + at[None, :]
        whole = there[:, None] & inside[None, :]
        key = tl.load(keys + spot, mask=whole, other=0.0)
        shift = tl.load(bias + index, mask=there, other=float("-inf")).to(tl.float32)
        scores = tl.dot(query, tl.trans(key), input_precision=PRECISION) + shift[None, :]
        now = tl.maximum(largest, tl.max(scores, 1))
        # Where nothing may be looked at yet, all differences are of infinities.
        safe = tl.where(now == float("-inf"), 0.0, now)
        weights = tl.exp(scores - safe[:, None])
        rest = tl.exp(largest - safe)
        total = total * rest + tl.sum(weights, 1)
        value = tl.load(values + spot, mask=whole, other=0.0)
        mixed = mixed * rest[:, None] + tl.dot(
            weights.to(value.dtype), value, input_precision=PRECISION
        )
        largest = now
    return mixed, largest, total


@triton.jit
def prompt_kernel(
    query,
    keys,
    values,
    bias,
    mixed_parts,
    largest_parts,
    total_parts,
    bias_stride,
    KV_HEADS: tl.constexpr,
    QUERIES: tl.constexpr,
    LENGTH: tl.constexpr,
    PARTS: tl.constexpr,
    PART_TILES: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    KEYS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One program a key head of a group, some of its queries, and a part of its prompt."""
    CHUNKS: tl.constexpr = (QUERIES + ROWS - 1) // ROWS
    program = tl.program_id(0)
    part = program % PARTS
    chunk = program // PARTS % CHUNKS
    pair = (program // PARTS // CHUNKS).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < WIDTH
    rows = chunk * ROWS + tl.arange(0, ROWS)
    asked = (rows < QUERIES)[:, None] & inside[None, :]
    place = (pair * QUERIES + rows)[:, None] * WIDTH + at[None, :]
    q = tl.load(query + place, mask=asked, other=0.0)
    offset = pair * LENGTH * WIDTH
    mixed, largest, total = _keys_of_a_part(
        q, keys + offset, values + offset, bias + pair // KV_HEADS * bias_stride,
        part * PART_TILES * KEYS, LENGTH, at, inside,
        WIDTH, ROWS, BLOCK, KEYS, PART_TILES, PRECISION,
    )  # fmt: skip
    line = (pair * QUERIES + rows) * PARTS + part
    tl.store(mixed_parts + line[:, None] * WIDTH + at[None, :], mixed, mask=asked)
    tl.store(largest_parts + line, largest, mask=rows < QUERIES)
    tl.store(total_parts + line, total, mask=rows < QUERIES)


@triton.jit
def own_kernel(
    query,
    keys,
    values,
    bias,
    mixed_parts,
    largest_parts,
    total_parts,
    out,
    bias_stride,
    keys_stride,
    KV_HEADS: tl.constexpr,
    MEMBERS: tl.constexpr,
    REPEATS: tl.constexpr,
    LENGTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    PARTS: tl.constexpr,
    TILES: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    KEYS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One program a key head of a row: its own keys, joined with the parts of the prompt."""
    index = tl.program_id(0).to(tl.int64)
    member = index % MEMBERS
    pair = index // MEMBERS
    group = pair // KV_HEADS
    at = tl.arange(0, BLOCK)
    inside = at < WIDTH
    rows = tl.arange(0, ROWS)
    asked = (rows < REPEATS)[:, None] & inside[None, :]
    lines = index * REPEATS + rows
    q = tl.load(query + lines[:, None] * WIDTH + at[None, :], mask=asked, other=0.0)
    offset = index * keys_stride
    mixed, largest, total = _keys_of_a_part(
        q, keys + offset, values + offset, bias + group * bias_stride + LENGTH,
        0, COLUMNS, at, inside, WIDTH, ROWS, BLOCK, KEYS, TILES, PRECISION,
    )  # fmt: skip
    for part in range(PARTS):
        line = lines * PARTS + part
        there = rows < REPEATS
        high = tl.load(largest_parts + line, mask=there, other=float("-inf"))
        weight = tl.load(total_parts + line, mask=there, other=0.0)
        other = tl.load(mixed_parts + line[:, None] * WIDTH + at[None, :], mask=asked, other=0.0)
        now = tl.maximum(largest, high)
        safe = tl.where(now == float("-inf"), 0.0, now)
        mine, its = tl.exp(largest - safe), tl.exp(high - safe)
        mixed = mixed * mine[:, None] + other * its[:, None]
        total = total * mine + weight * its
        largest = now
    result = mixed / total[:, None]
    # As [n, H d]: the row's heads side by side.
    place = ((group * MEMBERS + member) * KV_HEADS + pair % KV_HEADS) * REPEATS + rows
    spot = place[:, None] * WIDTH + at[None, :]
    tl.store(out + spot, result.to(out.dtype.element_ty), mask=asked)


@triton.jit
def gated_kernel(fused, out, WIDTH: tl.constexpr, BLOCK: tl.constexpr, TILES: tl.constexpr):
    """One program a tile of a row: silu(gate) * up."""
    program = tl.program_id(0)
    row = (program // TILES).to(tl.int64)
    at = program % TILES * BLOCK + tl.arange(0, BLOCK)
    inside = at < WIDTH
    gate = tl.load(fused + row * 2 * WIDTH + at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(fused + row * 2 * WIDTH + WIDTH + at, mask=inside, other=0.0).to(tl.float32)
    x = gate / (1 + tl.exp(-gate)) * up
    tl.store(out + row * WIDTH + at, x.to(out.dtype.element_ty), mask=inside)


# Launches -----------------------------------------------------------------------------------


def norm(
    hidden: Tensor, delta: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype
) -> Tensor:
    """See `decoding.add_and_norm`; `hidden` is changed in place."""
    out = torch.empty_like(hidden, dtype=dtype)
    width = hidden.shape[-1]
    with device_of(hidden):
        norm_kernel[(len(hidden),)](
            hidden, delta, weight, out, eps, width, triton.next_power_of_2(width), num_warps=4
        )
    return out


def rotate(fused: Tensor, turns: Tensor, own: Tensor, column: Tensor, heads: int) -> Tensor:
    """See `decoding.rotate_and_keep`."""
    _, batch, kv_heads, members, columns, width = own.shape
    query = fused.new_empty(batch, kv_heads, members, heads // kv_heads, width)
    programs = len(fused) * (heads + 2 * kv_heads)
    with device_of(fused):
        rotate_kernel[(programs,)](
            fused, torch.view_as_real(turns), column, query, own,
            len(fused), members, heads, kv_heads, columns, width,
            triton.next_power_of_2(width), num_warps=1,
        )  # fmt: skip
    return query


def attend(query: Tensor, prompt: Tensor, own: Tensor, bias: Tensor) -> Tensor:
    """See `decoding.attend`."""
    batch, kv_heads, members, repeats, width = query.shape
    length, columns, pairs = prompt.shape[3], own.shape[4], batch * kv_heads
    queries = members * repeats
    tiles = triton.cdiv(length, _KEYS)
    most = 32 if query.dtype == torch.float32 else 64  # more would not fit into the registers
    rows = min(most, max(16, triton.next_power_of_2(queries)))
    chunks = triton.cdiv(queries, rows)
    wanted = max(1, min(_PARTS, _PROGRAMS // (pairs * chunks), tiles))
    part_tiles = triton.cdiv(tiles, wanted)
    parts = triton.cdiv(tiles, part_tiles)
    block = max(16, triton.next_power_of_2(width))
    precision = "ieee" if query.dtype == torch.float32 else "tf32"
    statistics = query.new_empty(2, pairs * queries, parts, dtype=torch.float32)
    mixed = query.new_empty(pairs * queries, parts, width, dtype=torch.float32)
    out = query.new_empty(batch * members, kv_heads * repeats * width)
    with device_of(query):
        prompt_kernel[(pairs * chunks * parts,)](
            query, prompt[0], prompt[1], bias, mixed, statistics[0], statistics[1],
            bias.stride(0), kv_heads, queries, length, parts, part_tiles, width,
            rows, block, _KEYS, precision, num_warps=4,
        )  # fmt: skip
        own_kernel[(pairs * members,)](
            query, own[0], own[1], bias, mixed, statistics[0], statistics[1], out,
            bias.stride(0), own.stride(3), kv_heads, members, repeats, length, columns, parts,
            triton.cdiv(columns, _KEYS), width, max(16, triton.next_power_of_2(repeats)), block,
            _KEYS, precision, num_warps=4,
        )  # fmt: skip
    return out


def gated(fused: Tensor) -> Tensor:
    """See `decoding.gated`."""
    width = fused.shape[-1] // 2
    out = fused.new_empty(len(fused), width)
    tiles = triton.cdiv(width, _ELEMENTS)
    with device_of(fused):
        gated_kernel[(len(fused) * tiles,)](fused, out, width, _ELEMENTS, tiles, num_warps=4)
    return out
