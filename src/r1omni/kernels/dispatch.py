"""The one place that chooses between Triton and torch.

"auto" takes Triton on a CUDA device where it can be imported, and torch everywhere else. The
environment variable R1OMNI_KERNELS sets the choice of a process, `use` that of a block.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from torch import Tensor

IMPLEMENTATIONS = ("auto", "torch", "triton")
VARIABLE = "R1OMNI_KERNELS"

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
        ValueError: Triton is asked for, but the tensor is not on a CUDA device.
    """
    choice = _chosen[-1] if _chosen else os.environ.get(VARIABLE, "auto")
    _check(choice)
    if choice == "triton" and not tensor.is_cuda:
        raise ArgumentError(
            f"the kernels were set to triton, but a tensor is on {tensor.device}; use auto or torch"
        )
    return choice != "torch" and tensor.is_cuda and _has_triton()


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
