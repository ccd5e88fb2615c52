"""A reward function as a user would bring it: by its import path."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

_calls = 0


def length(
    completions: list[str], labels: list[str | None], **columns: list[Any]
) -> list[float | None]:
    """Longer is better."""
    return [len(text) / 100 for text in completions]


def held(completions: list[str], labels: list[str | None], **columns: Any) -> list[float]:
    """`length`; at the call that HOLD_AT numbers it makes the file HOLD_MARK and waits."""
    global _calls
    _calls += 1
    if os.environ.get("HOLD_AT") == str(_calls):
        Path(os.environ["HOLD_MARK"]).touch()
        time.sleep(60)
    return length(completions, labels, **columns)


def coarse(completions: list[str], labels: list[str | None], **columns: Any) -> list[float]:
    """Few values, so that some groups have rewards that are all alike."""
    return [float(len(text) % 4 == 0) for text in completions]


def sure(
    completions: list[str],
    labels: list[str | None],
    *,
    direct_confidence: list[dict[str, float]],
    **columns: Any,
) -> list[float]:
    """Some completions earn how sure the policy is of its direct answer."""
    return [
        max(shares.values()) * (len(text) % 4)
        for text, shares in zip(completions, direct_confidence, strict=True)
    ]


def kept(completions: list[str], labels: list[str | None], *, file: str, **columns: Any) -> Any:
    """Nothing for anything; a line of `file` has the hash of what was scored at once."""
    scored = zip(
        columns["sample_ids"], completions, columns["completion_lengths"], columns["ended"],
        strict=True,
    )  # fmt: skip
    words = json.dumps([[name, text, int(n), bool(e)] for name, text, n, e in scored])
    with Path(file).open("a", encoding="utf-8") as lines:
        lines.write(hashlib.sha256(words.encode()).hexdigest()[:12] + "\n")
    return [0.0] * len(completions)
