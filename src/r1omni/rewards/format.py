"""Whether a completion has the asked form (R1-Omni, arXiv 2503.05379, section 2.3)."""

from __future__ import annotations

from typing import Any

from r1omni.rewards.registry import register
from r1omni.text.tags import parse_completion


@register("format")
def format_reward(
    completions: list[str], labels: list[str | None], **columns: list[Any]
) -> list[float | None]:
    """1 where a completion is one `<think>` and one `<answer>` block as asked, else 0.

    Args:
        completions: completions of the policy.
        labels: ignored.
        columns: ignored.
    """
    return [float(parse_completion(text).format_ok) for text in completions]
