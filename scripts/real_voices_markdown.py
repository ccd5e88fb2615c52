"""How the page of real voices writes tables, shares and differences."""

from __future__ import annotations

from collections.abc import Sequence

NONE = "-"
Lines = list[str]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Lines:
    """Markdown."""
    return [
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def percent(value: float | None, interval: Sequence[float] | None = None) -> str:
    """A share in percent, with its interval where there is one."""
    if value is None:
        return NONE
    ends = "" if interval is None else f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"
    return f"{100 * value:.1f}{ends}"


def points(value: float | None, interval: Sequence[float] | None = None) -> str:
    """A difference of shares in points, with its sign and interval."""
    if value is None:
        return NONE
    ends = "" if interval is None else f" ({100 * interval[0]:+.1f} to {100 * interval[1]:+.1f})"
    return f"{100 * value:+.1f}{ends}"
