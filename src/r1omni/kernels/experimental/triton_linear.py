"""Log-probabilities straight from hidden states and head weights, without logits in memory.

A program holds 128 tokens and walks over a section of the vocabulary: a tile of logits is made in
registers, taken into the log-sum-exp of its section, and forgotten. A second kernel joins the
sections, always in one order. What is kept is two numbers a token and section, 2.4 MB for 4,096
tokens and 151,936 words, where logits would be 1.2 GB in bfloat16.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from r1omni.kernels.triton_rows import LN_2, LOG2_E, device_of
from r1omni.kernels.triton_tables import linear_config

# Tokens of a program that joins sections.
_JOINED_TOKENS = 32


@triton.jit
def sections_kernel(
    hidden,
    weight,
    token_ids,
    largest,
    totals,
    chosen,
    num_tokens,
    hidden_stride,
    weight_stride,
    ids_stride,
    V: tl.constexpr,
    D: tl.constexpr,
    TEMPERATURE: tl.constexpr,
    TOKENS: tl.constexpr,
    WORDS: tl.constexpr,
    DEPTH: tl.constexpr,
    SECTION: tl.constexpr,
    NUM_STAGES: tl.constexpr,
):
    """One program TOKENS tokens and SECTION words of the vocabulary."""
    SCALE: tl.constexpr = LOG2_E / TEMPERATURE
    # Neighbours share the section: its weights come from memory once and from the cache after.
    blocks = tl.cdiv(num_tokens, TOKENS)
    section = tl.program_id(0) // blocks
    tokens = (tl.program_id(0) % blocks).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    inside = tokens < num_tokens
    ids = tl.load(token_ids + tokens * ids_stride, mask=inside, other=-1)
    # Words are counted from the section's first, in int32. An id that does not exist may wrap
    # around into the section; the kernel that joins them makes it NaN.
    first = section.to(tl.int64) * SECTION
    ids = (ids - first).to(tl.int32)
    num_words = V - section * SECTION
    section_weight = weight + first * weight_stride
    words = tl.arange(0, WORDS)
    depths = tl.arange(0, DEPTH)
    hidden_tile = hidden + tokens[:, None] * hidden_stride + depths[None, :]
    highest = tl.full([TOKENS], float("-inf"), tl.float32)
    total = tl.zeros([TOKENS], tl.float32)
    for offset in tl.range(0, SECTION, WORDS):
        present = offset + words < num_words
        weight_tile = section_weight + (offset + words)[None, :].to(tl.int64) * weight_stride
        weight_tile += depths[:, None]
        logits = tl.zeros([TOKENS, WORDS], tl.float32)
        for start in tl.range(0, D, DEPTH, num_stages=NUM_STAGES):
            if D % DEPTH == 0:
                left = tl.load(hidden_tile + start, mask=inside[:, None], other=0.0)
                right = tl.load(weight_tile + start, mask=present[None, :], other=0.0)
            else:
                known = start + depths < D
                left = tl.load(
                    hidden_tile + start, mask=inside[:, None] & known[None, :], other=0.0
                )
                right = tl.load(
                    weight_tile + start, mask=present[None, :] & known[:, None], other=0.0
                )
            logits = tl.dot(left, right, logits, input_precision="ieee")
        # A word beyond the vocabulary has no logit; 0 would be one.
        logits = tl.where(present[None, :], logits, float("-inf"))
        mine = (offset + words)[None, :] == ids[:, None]
        found = (ids >= offset) & (ids < offset + WORDS)
        tl.store(chosen + tokens, tl.sum(tl.where(mine, logits, 0.0), axis=1), mask=found & inside)
        higher = tl.maximum(highest, tl.max(logits, axis=1))
        pivot = tl.where(higher == float("-inf"), 0.0, higher)
        shares = tl.exp2((logits - pivot[:, None]) * SCALE)
        total = total * tl.exp2((highest - pivot) * SCALE) + tl.sum(shares, axis=1)
        highest = higher
    place = section.to(tl.int64) * num_tokens + tokens
    tl.store(largest + place, highest, mask=inside)
    tl.store(totals + place, total, mask=inside)


@triton.jit
def join_kernel(
    largest,
    totals,
    chosen,
    token_ids,
    logps,
    num_tokens,
    ids_stride,
    V: tl.constexpr,
    TEMPERATURE: tl.constexpr,
    SECTIONS: tl.constexpr,
    ROWS: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """One program TOKENS tokens: log-sum-exps of SECTIONS sections become one."""
    SCALE: tl.constexpr = LOG2_E / TEMPERATURE
    tokens = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    inside = tokens < num_tokens
    sections = tl.arange(0, ROWS)
    place = sections[:, None].to(tl.int64) * num_tokens + tokens[None, :]
    given = (sections[:, None] < SECTIONS) & inside[None, :]
    part_largest = tl.load(largest + place, mask=given, other=float("-inf"))
    part_total = tl.load(totals + place, mask=given, other=0.0)
    highest = tl.max(part_largest, axis=0)
    pivot = tl.where(highest == float("-inf"), 0.0, highest)
    total = tl.sum(part_total * tl.exp2((part_largest - pivot[None, :]) * SCALE), axis=0)
    ids = tl.load(token_ids + tokens * ids_stride, mask=inside, other=-1)
    exists = (ids >= 0) & (ids < V)
    logit = tl.load(chosen + tokens, mask=inside & exists, other=0.0)
    logp = (logit - pivot) / TEMPERATURE - tl.log2(total) * LN_2
    tl.store(logps + tokens, tl.where(exists, logp, float("nan")), mask=inside)


def forward(hidden: Tensor, weight: Tensor, token_ids: Tensor, temperature: float) -> Tensor:
    """Log-probability of one token a row: log softmax(hidden weight^T / temperature)[id].

    Logits are float32 sums and never rounded. There is no backward pass.

    Args:
        hidden: bfloat16, float16 or float32 [T, D], last stride 1.
        weight: of the same dtype, [V, D], last stride 1.
        token_ids: long [T]; one outside 0 to V - 1 has the log-probability NaN.
        temperature: above 0.

    Returns:
        float32 [T].
    """
    num_tokens, depth = hidden.shape
    num_words = weight.shape[0]
    logps = torch.empty(num_tokens, dtype=torch.float32, device=hidden.device)
    if num_tokens == 0:
        return logps
    config = linear_config(hidden.dtype, num_words)
    num_sections = triton.cdiv(num_words, config.section)
    chosen = torch.empty_like(logps)
    largest, totals = torch.empty(
        2, num_sections, num_tokens, dtype=torch.float32, device=hidden.device
    )
    with device_of(hidden):
        sections_kernel[(triton.cdiv(num_tokens, config.tokens) * num_sections,)](
            hidden,
            weight,
            token_ids,
            largest,
            totals,
            chosen,
            num_tokens,
            hidden.stride(0),
            weight.stride(0),
            token_ids.stride(0),
            V=num_words,
            D=depth,
            TEMPERATURE=float(temperature),
            TOKENS=config.tokens,
            WORDS=config.words,
            DEPTH=config.depth,
            SECTION=config.section,
            NUM_STAGES=config.num_stages,
            num_warps=config.num_warps,
        )
        join_kernel[(triton.cdiv(num_tokens, _JOINED_TOKENS),)](
            largest,
            totals,
            chosen,
            token_ids,
            logps,
            num_tokens,
            token_ids.stride(0),
            V=num_words,
            TEMPERATURE=float(temperature),
            SECTIONS=num_sections,
            ROWS=triton.next_power_of_2(num_sections),
            TOKENS=_JOINED_TOKENS,
            num_warps=4,
        )
    return logps
