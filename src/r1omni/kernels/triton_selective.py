"""Log-probability of one token a row, entropy, and their gradient, on CUDA.

With T the temperature and p = softmax(logits / T): log p[id] = (x[id] - m) / T - log s, where m is
the largest logit and s = sum exp((x - m) / T). The forward pass reads the logits once; the
backward pass reads them once and writes their gradient, in place if asked.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from r1omni.kernels.triton_rows import (
    LN_2,
    LOG2_E,
    chosen_logit,
    device_of,
    element_stride,
    load_tile,
    row_statistics,
)
from r1omni.kernels.triton_tables import row_config


@triton.jit
def forward_kernel(
    logits,
    token_ids,
    logps,
    lses,
    entropies,
    logits_stride,
    ids_stride,
    V: tl.constexpr,
    TEMPERATURE: tl.constexpr,
    WITH_ENTROPY: tl.constexpr,
    LANES: tl.constexpr,
    DEPTH: tl.constexpr,
    NUM_STAGES: tl.constexpr,
):
    """One program a row."""
    # 14,134 rows of a vocabulary of 151,936 are more than an int32 can count.
    index = tl.program_id(0).to(tl.int64)
    row = logits + index * logits_stride
    logit, exists = chosen_logit(row, tl.load(token_ids + index * ids_stride), V)
    largest, total, moment = row_statistics(
        row, V, TEMPERATURE, LANES, DEPTH, NUM_STAGES, WITH_ENTROPY, False
    )
    log_total = tl.log2(total) * LN_2
    logp = (logit - largest) / TEMPERATURE - log_total
    tl.store(logps + index, tl.where(exists, logp, float("nan")))
    tl.store(lses + index, largest / TEMPERATURE + log_total)
    if WITH_ENTROPY:
        # Both terms are above 0: nothing cancels.
        tl.store(entropies + index, log_total - moment / total * LN_2)


@triton.jit
def backward_kernel(
    logits,
    token_ids,
    lses,
    entropies,
    grad_logps,
    grad_entropies,
    out,
    logits_stride,
    ids_stride,
    grad_logps_stride,
    grad_entropies_stride,
    out_stride,
    V: tl.constexpr,
    TEMPERATURE: tl.constexpr,
    LANES: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """One program a tile of a row."""
    TILE: tl.constexpr = LANES * DEPTH
    TILES: tl.constexpr = (V + TILE - 1) // TILE
    program = tl.program_id(0)
    index = (program // TILES).to(tl.int64)
    start = program % TILES * TILE
    slope = tl.full([], 0.0, tl.float32)
    entropy_slope = tl.full([], 0.0, tl.float32)
    if grad_logps is not None:
        slope = tl.load(grad_logps + index * grad_logps_stride).to(tl.float32)
    if grad_entropies is not None:
        entropy_slope = tl.load(grad_entropies + index * grad_entropies_stride).to(tl.float32)
    target = out + index * out_stride
    if (slope == 0.0) & (entropy_slope == 0.0):
        # A masked token: nothing to read, and no NaN of its row comes through.
        columns = start + tl.arange(0, DEPTH)[:, None] * LANES + tl.arange(0, LANES)[None, :]
        zeros = tl.zeros([DEPTH, LANES], out.dtype.element_ty)
        tl.store(target + columns, zeros, mask=columns < V)
    else:
        lse = tl.load(lses + index)
        token = tl.load(token_ids + index * ids_stride)
        row = logits + index * logits_stride
        values, columns = load_tile(row, start, V, LANES, DEPTH, True, False)
        # Divided as the forward pass divides: of a certain token nothing but 0 is left.
        logp = values / TEMPERATURE - lse
        share = tl.exp2(logp * LOG2_E)
        # The chosen token's part is added in float32: 1 - p is small where p is near 1.
        gradient = slope * (tl.where(columns == token, 1.0, 0.0) - share)
        if grad_entropies is not None:
            part = share * (logp + tl.load(entropies + index))
            gradient -= entropy_slope * tl.where(share == 0.0, 0.0, part)
        tl.store(target + columns, gradient * (1.0 / TEMPERATURE), mask=columns < V)


def forward(
    logits: Tensor, token_ids: Tensor, temperature: float, with_entropy: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities of chosen tokens, log-sum-exps and entropies of softmax(logits / T).

    A NaN or +inf makes its own row NaN; -inf rules a token out.

    Args:
        logits: float32, bfloat16 or float16 [T, V], last stride 1, any row stride.
        token_ids: long [T]; one outside 0 to V - 1 has the log-probability NaN.
        temperature: above 0.
        with_entropy: whether entropies are wanted.

    Returns:
        Log-probabilities, log-sum-exps of logits / temperature, and entropies, each float32 [T];
        entropies are [0] if not wanted.
    """
    num_rows, num_columns = logits.shape
    logps = torch.empty(num_rows, dtype=torch.float32, device=logits.device)
    lses = torch.empty_like(logps)
    entropies = torch.empty_like(logps) if with_entropy else logps.new_empty(0)
    if num_rows == 0:
        return logps, lses, entropies
    config = row_config("forward", logits.dtype, num_columns)
    with device_of(logits):
        forward_kernel[(num_rows,)](
            logits,
            token_ids,
            logps,
            lses,
            entropies if with_entropy else None,
            logits.stride(0),
            token_ids.stride(0),
            V=num_columns,
            TEMPERATURE=float(temperature),
            WITH_ENTROPY=with_entropy,
            LANES=config.lanes,
            DEPTH=config.depth,
            NUM_STAGES=config.num_stages,
            num_warps=config.num_warps,
        )
    return logps, lses, entropies


def backward(
    logits: Tensor,
    token_ids: Tensor,
    lse: Tensor,
    entropy: Tensor | None,
    grad_logps: Tensor | None,
    grad_entropy: Tensor | None,
    temperature: float,
    out: Tensor,
) -> None:
    """Write the gradient of `forward` in the logits to `out`.

    With p the softmax, H the entropy, and gl and gh the incoming gradients:
    (gl (1[v = id] - p_v) - gh p_v (log p_v + H)) / temperature. A row whose incoming gradients are
    all 0 reads nothing of the logits and gets 0, whatever they are. An id that does not exist has
    no v of its own.

    Args:
        logits: as in `forward`.
        token_ids: long [T].
        lse: float32 [T], contiguous, from `forward`.
        entropy: float32 [T], contiguous; unused without `grad_entropy`.
        grad_logps: float32 [T] of any stride, or None.
        grad_entropy: float32 [T] of any stride, or None.
        temperature: above 0.
        out: float [T, V], last stride 1; may be `logits` itself.
    """
    num_rows, num_columns = logits.shape
    if num_rows == 0:
        return
    config = row_config("backward", logits.dtype, num_columns)
    with device_of(logits):
        backward_kernel[(num_rows * triton.cdiv(num_columns, config.tile),)](
            logits,
            token_ids,
            lse,
            None if grad_entropy is None else entropy,
            grad_logps,
            grad_entropy,
            out,
            logits.stride(0),
            token_ids.stride(0),
            element_stride(grad_logps),
            element_stride(grad_entropy),
            out.stride(0),
            V=num_columns,
            TEMPERATURE=float(temperature),
            LANES=config.lanes,
            DEPTH=config.depth,
            num_warps=config.num_warps,
            # x / T - lse in one operation would not round x / T as the forward pass did, and leave
            # a certain token a gradient.
            enable_fp_fusion=False,
        )
