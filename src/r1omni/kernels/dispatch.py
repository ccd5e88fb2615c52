"""How an operator computes: the one place that chooses between Triton and torch.

"auto" takes Triton on a CUDA device where it can be imported, and torch everywhere else and for
float64. An environment variable, `VARIABLE`, sets the choice of a process, `use` that of a block.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any

import torch
from torch import Tensor

IMPLEMENTATIONS = ("auto", "torch", "triton")
VARIABLE = "R1OMNI_KERNELS"
# What the Triton kernels read and write; they compute in float32.
TRITON_DTYPES = (torch.float32, torch.bfloat16, torch.float16)

_chosen: list[str] = []


class ArgumentError(ValueError):
    """A caller's mistake, as the docstrings say; every other ValueError is torch's."""


@contextmanager
def use(implementation: str) -> Iterator[None]:
    """Compute with "torch" or "triton", or choose by the device with "auto", within a block.

    Raises:
        ValueError: another name, or Triton where it is not installed.
    """
    _check(implementation)
    _chosen.append(implementation)
    try:
        yield
    finally:
        _chosen.pop()


def uses_triton(tensor: Tensor) -> bool:
    """Whether Triton computes with this tensor.

    Raises:
        ValueError: Triton is asked for, but the tensor is not on a CUDA device, or is float64.
    """
    choice = _chosen[-1] if _chosen else os.environ.get(VARIABLE, "auto")
    _check(choice)
    if choice == "triton" and not tensor.is_cuda:
        raise ArgumentError(
            f"the kernels were set to triton, but a tensor is on {tensor.device}; use auto or torch"
        )
    if choice == "triton" and tensor.dtype not in TRITON_DTYPES:
        raise ArgumentError(
            f"the kernels were set to triton, but a tensor is {tensor.dtype}; use auto or torch"
        )
    fits = tensor.is_cuda and tensor.dtype in TRITON_DTYPES
    return choice != "torch" and fits and _has_triton()


def operator(name: str, mutates_args: Sequence[str] = ()) -> Callable[[Callable[..., Any]], Any]:
    """`torch.library.custom_op` of which autocast changes nothing.

    Its body chooses every dtype itself: where sums are in float32, a product that autocast turns
    into bfloat16 does not fit them.
    """

    def made(body: Callable[..., Any]) -> Any:
        @wraps(body)
        def as_given(*arguments: Any) -> Any:
            device = next(a.device.type for a in arguments if isinstance(a, Tensor))
            with torch.autocast(device, enabled=False):
                return body(*arguments)

        return torch.library.custom_op(name, as_given, mutates_args=mutates_args)

    return made


def _check(implementation: str) -> None:
    if implementation not in IMPLEMENTATIONS:
        raise ArgumentError(
            f"kernels {implementation!r} are unknown; use one of {', '.join(IMPLEMENTATIONS)}"
        )
    if implementation == "triton" and not _has_triton():
        raise ArgumentError("triton is not installed; use the kernels auto or torch")


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None
