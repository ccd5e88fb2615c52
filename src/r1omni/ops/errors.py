"""The kernels know nothing of r1omni's errors; what they refuse becomes one of ours here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from r1omni.types import UsageError


@contextmanager
def usage_errors() -> Iterator[None]:
    """Raise UsageError where a block raises ValueError."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from error
