"""R1-Omni: recognise the emotion in a video, and explain it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from r1omni.models.pipeline import R1Omni

__all__ = ["R1Omni"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Loading transformers takes seconds; `import r1omni` alone should not.
    if name == "R1Omni":
        from r1omni.models.pipeline import R1Omni

        return R1Omni
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
