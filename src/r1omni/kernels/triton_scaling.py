"""Multiplying a large tensor by a number that only the device knows, in place, on CUDA."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from r1omni.kernels.triton_rows import device_of

_BLOCK = 4096


@triton.jit
def scale_kernel(values, factor, size, BLOCK: tl.constexpr):
    """values [size] *= factor, unless that is 1: then nothing else is read."""
    number = tl.load(factor).to(tl.float32)
    if number != 1.0:
        place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = place < size
        scaled = tl.load(values + place, mask=inside, other=0.0).to(tl.float32) * number
        tl.store(values + place, scaled, mask=inside)


def scale(values: Tensor, factor: Tensor) -> None:
    """values *= factor, in place and without waiting for the device.

    Args:
        values: float32, bfloat16 or float16, contiguous.
        factor: float, 0-dimensional, on the same device.
    """
    size = values.numel()
    if size == 0:
        return
    with device_of(values):
        scale_kernel[(-(-size // _BLOCK),)](values, factor, size, BLOCK=_BLOCK, num_warps=4)
