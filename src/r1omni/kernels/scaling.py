"""The last step of a loss that has computed its gradient already: times the incoming gradient."""

from __future__ import annotations

from torch import Tensor

from r1omni.kernels.dispatch import operator, uses_triton


# The gradient itself is handed on: a copy of [T, V] would double what the operator saves.
@operator("r1omni::scale_", mutates_args=("gradient",))
def scale_(gradient: Tensor, slope: Tensor) -> None:
    """gradient *= slope, in place; nothing is written for a slope of 1.

    Autograd's count of versions refuses to read `gradient` a second time.

    Args:
        gradient: float, any shape, contiguous.
        slope: float, 0-dimensional.
    """
    if uses_triton(gradient):
        from r1omni.kernels import triton_scaling

        triton_scaling.scale(gradient, slope)
    elif gradient.is_cuda or float(slope) != 1:  # reading the slope would wait for the device
        gradient.mul_(slope.to(gradient.dtype))


@scale_.register_fake
def _(gradient: Tensor, slope: Tensor) -> None:
    return None
