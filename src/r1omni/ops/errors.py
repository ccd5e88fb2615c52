"""The kernels know nothing of r1omni's errors; what they refuse becomes one of ours here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from r1omni.kernels.dispatch import ArgumentError
from r1omni.types import UsageError


@contextmanager
def usage_errors() -> Iterator[None]:
    """Raise UsageError where the kernels refuse an argument; other errors are not the user's."""
    try:
        yield
    except ArgumentError as error:
        raise UsageError(str(error)) from error
