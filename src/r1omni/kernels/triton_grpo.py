"""The clipped GRPO objective with a k3 penalty, and its gradient in the logits, on CUDA.

A term is w (-min(r A, clip(r, 1 - epsilon, 1 + epsilon_high) A) + beta k3), with r = exp(log p -
log p_old) and k3 = exp(d) - 1 - d, d = log p_ref - log p (arXiv 2402.03300, eq. 3 and 4). A term
depends on its row through log p alone, so once a row's log-sum-exp is known its gradient needs no
more than a second look at the row, which then comes from the L2 cache.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from r1omni.kernels.reference import MAX_LOG_DIFFERENCE
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

# exp of a larger number, times 0, would be NaN.
_MAX_LOG_DIFFERENCE = tl.constexpr(MAX_LOG_DIFFERENCE)


@triton.jit
def _policy_term(logp, old_logp, advantage, EPSILON: tl.constexpr, EPSILON_HIGH: tl.constexpr):
    """-min(r A, clip(r) A) and its derivative in log p. Comparisons let a NaN through."""
    LOW: tl.constexpr = 1.0 - EPSILON
    HIGH: tl.constexpr = 1.0 + EPSILON_HIGH
    difference = logp - old_logp
    bounded = tl.where(difference > _MAX_LOG_DIFFERENCE, _MAX_LOG_DIFFERENCE, difference)
    bounded = tl.where(bounded < -_MAX_LOG_DIFFERENCE, -_MAX_LOG_DIFFERENCE, bounded)
    ratio = tl.exp2(bounded * LOG2_E)
    clipped = tl.where(ratio > HIGH, HIGH, tl.where(ratio < LOW, LOW, ratio))
    free, held = ratio * advantage, clipped * advantage
    flat = (free > held) | (bounded != difference) & (difference == difference)
    return -tl.where(free > held, held, free), tl.where(flat, 0.0, -free)


@triton.jit
def _k3(logp, ref_logp):
    """exp(d) - 1 - d and its derivative in log p, 0 where d was held at its bound."""
    difference = ref_logp - logp
    held = difference > _MAX_LOG_DIFFERENCE
    d = tl.where(held, _MAX_LOG_DIFFERENCE, difference)
    # Near 0, where training spends its time, exp(d) - 1 - d cancels: eight terms of its series.
    series = 1.0 / 40320.0 + d * (1.0 / 362880.0)
    series = 1.0 / 720.0 + d * (1.0 / 5040.0 + d * series)
    series = 1.0 / 24.0 + d * (1.0 / 120.0 + d * series)
    series = d * d * (0.5 + d * (1.0 / 6.0 + d * series))
    power = tl.exp2(d * LOG2_E)
    near = tl.abs(d) < 0.5
    value = tl.where(near, series, power - 1.0 - d)
    slope = tl.where(near, -(d + series), 1.0 - power)
    return value, tl.where(held, 0.0, slope)


@triton.jit
def _gradient(values, chosen, largest, log2_total, coefficient, SCALE: tl.constexpr):
    """coefficient (chosen - p) of a tile, where chosen is 1 for the token and 0 for the others."""
    share = tl.exp2((values - largest) * SCALE - log2_total)
    return coefficient * (tl.where(chosen, 1.0, 0.0) - share)


@triton.jit
def loss_kernel(
    logits,
    token_ids,
    advantages,
    weights,
    old_logps,
    ref_logps,
    terms,
    logps,
    entropies,
    out,
    logits_stride,
    ids_stride,
    advantages_stride,
    weights_stride,
    old_stride,
    ref_stride,
    out_stride,
    V: tl.constexpr,
    TEMPERATURE: tl.constexpr,
    EPSILON: tl.constexpr,
    EPSILON_HIGH: tl.constexpr,
    BETA: tl.constexpr,
    LANES: tl.constexpr,
    DEPTH: tl.constexpr,
    NUM_STAGES: tl.constexpr,
):
    """One program a row."""
    TILE: tl.constexpr = LANES * DEPTH
    WHOLE: tl.constexpr = V // TILE * TILE
    SCALE: tl.constexpr = LOG2_E / TEMPERATURE
    index = tl.program_id(0).to(tl.int64)
    weight = tl.load(weights + index * weights_stride)
    if weight == 0.0:
        tl.store(terms + index, 0.0)
        tl.store(logps + index, 0.0)
        if entropies is not None:
            tl.store(entropies + index, 0.0)
        if out is not None:
            target = out + index * out_stride
            flat_columns = tl.arange(0, TILE)
            zeros = tl.zeros([TILE], out.dtype.element_ty)
            for start in tl.range(0, WHOLE, TILE):
                tl.store(target + start + flat_columns, zeros)
            rest = WHOLE + flat_columns
            tl.store(target + rest, zeros, mask=rest < V)
    else:
        row = logits + index * logits_stride
        token = tl.load(token_ids + index * ids_stride)
        logit, exists = chosen_logit(row, token, V)
        WITH_ENTROPY: tl.constexpr = entropies is not None
        largest, total, moment = row_statistics(
            row, V, TEMPERATURE, LANES, DEPTH, NUM_STAGES, WITH_ENTROPY, out is not None
        )
        log2_total = tl.log2(total)
        logp = (logit - largest) / TEMPERATURE - log2_total * LN_2
        logp = tl.where(exists, logp, float("nan"))
        old_logp = logp
        if old_logps is not None:
            old_logp = tl.load(old_logps + index * old_stride)
        advantage = tl.load(advantages + index * advantages_stride)
        term, slope = _policy_term(logp, old_logp, advantage, EPSILON, EPSILON_HIGH)
        if (ref_logps is not None) and (BETA != 0.0):
            penalty, penalty_slope = _k3(logp, tl.load(ref_logps + index * ref_stride))
            term += BETA * penalty
            slope += BETA * penalty_slope
        tl.store(terms + index, weight * term)
        tl.store(logps + index, logp)
        if entropies is not None:
            tl.store(entropies + index, (log2_total - moment / total) * LN_2)
        if out is not None:
            coefficient = weight * slope / TEMPERATURE
            target = out + index * out_stride
            # From the end: what was read last is the likeliest to be in the cache still.
            if WHOLE < V:
                values, columns = load_tile(row, WHOLE, V, LANES, DEPTH, True, False)
                chosen = columns == token
                tile = _gradient(values, chosen, largest, log2_total, coefficient, SCALE)
                tl.store(target + columns, tile, mask=columns < V, eviction_policy="evict_first")
            for start in tl.range(0, WHOLE, TILE, num_stages=NUM_STAGES):
                last = WHOLE - TILE - start
                values, columns = load_tile(row, last, V, LANES, DEPTH, False, False)
                chosen = columns == token
                tile = _gradient(values, chosen, largest, log2_total, coefficient, SCALE)
                tl.store(target + columns, tile, eviction_policy="evict_first")


def loss_and_grad(
    logits: Tensor,
    token_ids: Tensor,
    advantages: Tensor,
    weights: Tensor,
    old_logps: Tensor | None,
    ref_logps: Tensor | None,
    temperature: float,
    epsilon: float,
    epsilon_high: float,
    beta: float,
    out: Tensor | None,
    with_entropy: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted terms of the objective, log-probabilities, and the gradient of the terms' sum.

    Log ratios are held within +-20 and d below 20, without a gradient there. A row of weight 0
    reads nothing of the logits: its term, log-probability and gradient are 0. A row with a NaN, or
    with a token that does not exist, is NaN alone.

    Args:
        logits: float32, bfloat16 or float16 [T, V], last stride 1, any row stride.
        token_ids: long [T].
        advantages: float32 [T].
        weights: float32 [T]; mask and normaliser in one.
        old_logps: float32 [T] under the policy that sampled; None for a ratio of 1 that has a
            gradient.
        ref_logps: float32 [T] under the reference, or None; unused for beta 0.
        temperature: above 0.
        epsilon: how far below 1 a ratio has a gradient.
        epsilon_high: how far above 1.
        beta: weight of k3.
        out: float [T, V], last stride 1, for the gradient, or None; may be `logits` itself.
        with_entropy: whether entropies are wanted; they have no gradient.

    Returns:
        Terms, log-probabilities and entropies in nats, each float32 [T]; entropies are [0] if not
        wanted.
    """
    num_rows, num_columns = logits.shape
    terms = torch.empty(num_rows, dtype=torch.float32, device=logits.device)
    logps = torch.empty_like(terms)
    entropies = torch.empty_like(terms) if with_entropy else terms.new_empty(0)
    if num_rows == 0:
        return terms, logps, entropies
    config = row_config("grpo", logits.dtype, num_columns)
    with device_of(logits):
        loss_kernel[(num_rows,)](
            logits,
            token_ids,
            advantages,
            weights,
            old_logps,
            ref_logps,
            terms,
            logps,
            entropies if with_entropy else None,
            out,
            logits.stride(0),
            token_ids.stride(0),
            element_stride(advantages),
            element_stride(weights),
            element_stride(old_logps),
            element_stride(ref_logps),
            0 if out is None else out.stride(0),
            V=num_columns,
            TEMPERATURE=float(temperature),
            EPSILON=float(epsilon),
            EPSILON_HIGH=float(epsilon_high),
            BETA=float(beta),
            LANES=config.lanes,
            DEPTH=config.depth,
            NUM_STAGES=config.num_stages,
            num_warps=config.num_warps,
        )
    return terms, logps, entropies
