"""Whether a completion has the answer format (R1-Omni, arXiv 2503.05379, section 2.3)."""

from __future__ import annotations

from typing import Any

from r1omni.rewards.registry import register
from r1omni.text.answers import read_answers


@register("format")
def format_reward(
    completions: list[str],
    labels: list[str | None],
    *,
    ended: list[bool] | None = None,
    **columns: list[Any],
) -> list[float | None]:
    """1 where a completion is one `<think>` and one `<answer>` block as asked, else 0.

    The form is that of `parse_completion`; one that the limit of tokens cut has no form.

    Args:
        completions: completions of the policy.
        labels: ignored.
        ended: for each completion whether an end token closed it; None takes all as ended.
        columns: ignored.
    """
    return [float(answer.format_ok) for answer in read_answers(completions, ended)]
