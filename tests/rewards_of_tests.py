"""A reward function as a user would bring it: by its import path."""

from __future__ import annotations

from typing import Any


def length(
    completions: list[str], labels: list[str | None], **columns: list[Any]
) -> list[float | None]:
    """Longer is better."""
    return [len(text) / 100 for text in completions]
