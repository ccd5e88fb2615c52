"""Small pieces of HTML that every section uses."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from r1omni.metrics.resampling import Interval


def section(anchor: str, title: str, *parts: str) -> str:
    """A titled section of the page; `parts` are HTML."""
    body = "\n".join(part for part in parts if part)
    return (
        f'<section id="{anchor}" aria-labelledby="{anchor}-title">\n'
        f'<h2 id="{anchor}-title">{escape(title)}</h2>\n{body}\n</section>'
    )


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{escape(text)}</p>"


def scrollable(table: str, label: str) -> str:
    """A wide table that scrolls by itself, so that the page does not."""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">{table}</div>'
    )


def row(header: str, cells: Iterable[str], kind: str = "") -> str:
    """A table row: `header` is plain text, `cells` are the HTML of the data cells."""
    attribute = f' class="{kind}"' if kind else ""
    data = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr{attribute}><th scope="row">{escape(header)}</th>{data}</tr>'


def group_row(title: str, span: int) -> str:
    """A row over all `span` columns that names those below it; plain text."""
    return f'<tr class="group"><th scope="rowgroup" colspan="{span}">{escape(title)}</th></tr>'


def percent(share: float, digits: int = 1) -> str:
    """A share as the digits of a percentage, without the sign."""
    return f"{100 * share:.{digits}f}"


def signed(share: float) -> str:
    """A difference of shares in points, with its sign."""
    return f"{100 * share:+.1f}".replace("-", "−")


def between(interval: Interval | list[float] | None, sign: bool = False) -> str:
    """An interval in percent as "low to high", or ""."""
    if interval is None:
        return ""
    write = signed if sign else percent
    return f"{write(interval[0])} to {write(interval[1])}"


def small(text: str) -> str:
    """Small print under a figure, or nothing."""
    return f"<small>{escape(text)}</small>" if text else ""


def joined(words: list[str]) -> str:
    """Words as English lists them."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
