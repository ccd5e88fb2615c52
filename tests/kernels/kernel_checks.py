"""Checks of the Triton kernels that hold on any device, for the interpreter and for CUDA.

A check takes a device and the dtype of the logits, and compares with float64. Inputs are rounded
to that dtype first, so that only what is written in it may be off by its rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Check = Callable[[str, torch.dtype], None]
CHECKS: dict[str, Check] = {}

# Relative and absolute error of a gradient written in each dtype.
GRADIENT_ERROR = {
    torch.float32: (3e-5, 1e-8),
    torch.bfloat16: (2**-8, 1e-8),
    torch.float16: (2**-10, 1e-7),
}
NAN, INF = float("nan"), float("inf")
WIDTHS = (1, 127, 1000, 2000)
FULL_WIDTHS = (151_936, 151_937)


def check(function: Check) -> Check:
    CHECKS[function.__name__] = function
    return function


# Inputs -------------------------------------------------------------------------------------


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def some_logits(rows: int, width: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Logits far below 0, where a padded column of 0 would outweigh the whole row."""
    return (random(rows, width, seed=seed, scale=3.0) - 40.0).to(dtype)


def some_ids(rows: int, width: int) -> Tensor:
    """First and last column among them."""
    ids = torch.randint(width, (rows,), generator=torch.Generator().manual_seed(1))
    ids[0], ids[-1] = 0, width - 1
    return ids


def between_poison(logits: Tensor, device: str) -> Tensor:
    """The same logits with NaN before, between and after the rows."""
    rows, width = logits.shape
    buffer = torch.full((rows + 2, width + 5), NAN, dtype=logits.dtype, device=device)
    view = buffer[1:-1, 2 : 2 + width]
    view.copy_(logits)
    return view


def close(actual: Tensor, expected: Tensor, relative: float = 1e-5, absolute: float = 1e-5) -> None:
    torch.testing.assert_close(
        actual.cpu().double(), expected, rtol=relative, atol=absolute, equal_nan=True
    )


def close_gradient(actual: Tensor, expected: Tensor, with_entropy: bool = False) -> None:
    assert not actual.isnan().any(), "poison was left, or a row leaked"
    relative, absolute = GRADIENT_ERROR[actual.dtype]
    if with_entropy:
        absolute += 2e-6  # log p + H cancels
    if actual.shape[1] == 1:
        absolute = 1e-5  # 1 - p is 0, and p as good as a float32 log-sum-exp of 80 allows
    close(actual, expected, relative, absolute)
