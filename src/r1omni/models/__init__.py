"""The shared multimodal model: architecture, sampling, model folders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from r1omni.models.config import OmniConfig
from r1omni.models.omni import OmniModel

if TYPE_CHECKING:
    from r1omni.models.pipeline import R1Omni

__all__ = ["OmniConfig", "OmniModel", "R1Omni"]


def __getattr__(name: str) -> Any:
    # The model alone runs without a decoder; the pipeline reads files.
    if name == "R1Omni":
        from r1omni.models.pipeline import R1Omni

        return R1Omni
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
