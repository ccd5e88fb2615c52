"""Next tokens from logits on CUDA; `choice.py` says what is computed.

One pass over the logits sums up sections of each row; a second reads the one section of each row in
which the token lies. Cumulative sums are float64; they have one number a section, and one a token
of one section.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from r1omni.kernels.triton_rows import device_of

# Tokens of a section.
_SECTION = 4096


@triton.jit
def sums_kernel(
    logits,
    largest,
    totals,
    row_stride,
    V: tl.constexpr,
    TEMPERATURE: tl.constexpr,
    SECTIONS: tl.constexpr,
    SECTION: tl.constexpr,
):
    """One program a section of a row: its largest logit and the sum of its exponentials."""
    program = tl.program_id(0)
    row = (program // SECTIONS).to(tl.int64)
    at = program % SECTIONS * SECTION + tl.arange(0, SECTION)
    x = tl.load(logits + row * row_stride + at, mask=at < V, other=float("-inf")).to(tl.float32)
    x = x / TEMPERATURE
    high = tl.max(x, 0)
    safe = tl.where(high == float("-inf"), 0.0, high)
    tl.store(largest + program, high)
    tl.store(totals + program, tl.sum(tl.exp(x - safe), 0))


@triton.jit
def pick_kernel(
    logits,
    uniform,
    largest,
    totals,
    tokens,
    logps,
    row_stride,
    uniform_stride,
    V: tl.constexpr,
    TEMPERATURE: tl.constexpr,
    SECTIONS: tl.constexpr,
    SECTION: tl.constexpr,
    LINE: tl.constexpr,
):
    """One program a row: the section that the number falls into, and the token in it."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, LINE)
    inside = at < SECTIONS
    high = tl.load(largest + row * SECTIONS + at, mask=inside, other=float("-inf"))
    top = tl.max(high, 0)
    mass = tl.load(totals + row * SECTIONS + at, mask=inside, other=0.0) * tl.exp(high - top)
    mass = mass.to(tl.float64)
    total = tl.sum(mass, 0)
    threshold = tl.load(uniform + row * uniform_stride) * total
    passed = (tl.cumsum(mass, 0) <= threshold).to(tl.int32)
    # Not beyond the last section that holds anything, where roundoff would go further.
    last = tl.max(tl.where(mass > 0, at, 0), 0)
    section = tl.minimum(tl.sum(passed, 0), last)
    threshold -= tl.sum(tl.where(at < section, mass, 0.0), 0)
    spot = tl.arange(0, SECTION)
    index = section * SECTION + spot
    x = tl.load(logits + row * row_stride + index, mask=index < V, other=float("-inf"))
    x = x.to(tl.float32) / TEMPERATURE
    weight = tl.exp(x - top).to(tl.float64)
    passed = (tl.cumsum(weight, 0) <= threshold).to(tl.int32)
    last = tl.max(tl.where(weight > 0, spot, 0), 0)
    place = tl.minimum(tl.sum(passed, 0), last)
    logit = tl.max(tl.where(spot == place, x, float("-inf")), 0)
    tl.store(tokens + row, (section * SECTION + place).to(tl.int64))
    tl.store(logps + row, logit - top - tl.log(total.to(tl.float32)))


def choose(logits: Tensor, temperature: float, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """See `choice.choose`; the temperature is above 0."""
    rows, width = logits.shape
    sections = triton.cdiv(width, _SECTION)
    largest = logits.new_empty(rows, sections, dtype=torch.float32)
    totals = torch.empty_like(largest)
    tokens = logits.new_empty(rows, dtype=torch.long)
    logps = logits.new_empty(rows, dtype=torch.float32)
    stride = logits.stride(0)
    with device_of(logits):
        sums_kernel[(rows * sections,)](
            logits, largest, totals, stride, width, temperature, sections, _SECTION, num_warps=4
        )
        pick_kernel[(rows,)](
            logits, uniform, largest, totals, tokens, logps, stride, uniform.stride(0), width,
            temperature, sections, _SECTION, triton.next_power_of_2(sections), num_warps=8,
        )  # fmt: skip
    return tokens, logps
