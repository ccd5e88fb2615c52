"""What is asked of the device that computes: a precision that is right, and a CPU's memory."""

from __future__ import annotations

import ctypes
import logging
import os

import torch
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.utilities import rank_zero_only

from r1omni.types import UsageError

_logger = logging.getLogger(__name__)

# As trainer.precision names them; 32 and bf16 are Lightning's older names.
PRECISIONS = ("32-true", "bf16-mixed")
_SAME_PRECISION = {"32": "32-true", "bf16": "bf16-mixed"}
# Options of glibc's malloc (malloc.h): the size from which a block is had from the kernel alone and
# goes back to it when it is freed, and how much free memory at the end of the heap goes back. The
# block's is the most that every glibc takes; -1 is never.
_MMAP_THRESHOLD, _LARGEST_BLOCK = -3, 32 * 2**20
_TRIM_THRESHOLD, _NEVER = -1, -1
# How a user's own choice of these begins: variables, and entries of the list in GLIBC_TUNABLES.
_CHOICES = ("MALLOC_MMAP_", "MALLOC_TRIM_", "glibc.malloc.")


def check_precision(precision: str | int | None, plugin: Precision | None = None) -> None:
    """Refuse a precision in which a model is trained, or answers, wrongly.

    With weights in half precision (16-true, bf16-true) most updates are lost to rounding, and
    rotary frequencies confuse positions beyond a few hundred; 16-mixed scales gradients, which are
    then clipped scaled; of others nobody knows.

    Args:
        precision: as trainer.precision has it; None is Lightning's default, 32-true.
        plugin: what Lightning made of it, or was given in its place.

    Raises:
        UsageError: naming what to use instead.
    """
    name = "32-true" if precision is None else str(precision)
    known = _SAME_PRECISION.get(name, name) in PRECISIONS
    if known and (plugin is None or type(plugin) in (Precision, MixedPrecision)):
        return
    found = type(plugin).__name__ if known else name
    raise UsageError(
        f"trainer.precision {found} would give wrong results; use bf16-mixed (float32 weights, "
        "products in bfloat16) or 32-true"
    )


def is_mixed(precision: str | int | None) -> bool:
    """Whether products are in bfloat16 and weights in float32, by the name of a precision."""
    return _SAME_PRECISION.get(str(precision), precision) == "bf16-mixed"


@rank_zero_only
def warn_of_slow_bfloat16(precision: str | int | None, device: torch.device) -> None:
    """Say so where products in bfloat16 take longer than in float32.

    Args:
        precision: as `check_precision` has it.
        device: that computes.
    """
    has_it = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if is_mixed(precision) and device.type == "cpu" and not has_it:
        _logger.warning(
            "trainer.precision bf16-mixed is slower than 32-true on this CPU, which has neither "
            "avx512_bf16 nor amx_bf16; figures are those of a CPU that has"
        )


def keep_freed_memory(device: torch.device) -> None:
    """Have a CPU's process keep the memory that it frees, in blocks of up to 32 MiB, until it ends.

    A step allocates the same sizes again and again. By default glibc gives them back to the kernel
    and has them from it again, zeroed page by page. Larger blocks still go back: kept, they leave
    holes that the next ones may not fit in. Nothing is done where malloc is not glibc's, or where
    the environment tunes it.

    Args:
        device: that computes; a GPU's memory is torch's to keep.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "").split(":")
    chosen = any(name.startswith(_CHOICES) for name in (*os.environ, *tunables))
    if device.type != "cpu" or chosen:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK)
        mallopt(_TRIM_THRESHOLD, _NEVER)
