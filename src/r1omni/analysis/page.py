"""What the page of results is made of; `templates/parts.html` says how each kind of part looks.

Sections say what is told, in plain text and numbers. They hold no HTML: the templates escape
whatever they are given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from r1omni.metrics.resampling import Interval
from r1omni.pages import CHARTS, CHARTS_STYLE, render

Ends = Interval | Sequence[float] | None


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: the figure.
        small: lines of small print under it.
        mark: a sign behind it.
        share: draws a bar of this share, or shades a cell of a matrix.
        kind: class of the style sheet.
        title: told where the pointer rests.
    """

    text: str
    small: tuple[str, ...] = ()
    mark: str = ""
    share: float | None = None
    kind: str = ""
    title: str = ""


NOT_MEASURED = Cell("–", kind="none", title="not measured")


@dataclass(frozen=True)
class Row:
    """A row of a table; of kind "group" it is a heading over all columns."""

    title: str
    cells: tuple[Cell, ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table that scrolls by itself.

    Attributes:
        caption: what it holds, for those who cannot see it.
        columns: their headings; under each of `groups` where there are some.
        rows: each has a cell a column.
        first: heading of the rows' titles.
        groups: headings over `columns`, each with its small print.
        last: headings of columns behind the groups.
        title: a heading over the table.
        subject: the column that stands out.
        kind: class of the style sheet: "figures" and what else it is.
    """

    template: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Row]
    first: str = "Model"
    groups: Sequence[tuple[str, str]] = ()
    last: Sequence[str] = ()
    title: str = ""
    subject: str = ""
    kind: str = "figures"


@dataclass(frozen=True)
class Text:
    """A paragraph; kinds: "note", "gap" (what is missing), "lead", "care"."""

    template: ClassVar[str] = "text"
    text: str
    kind: str = ""


@dataclass(frozen=True)
class Title:
    """A heading within a section."""

    template: ClassVar[str] = "title"
    text: str


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    template: ClassVar[str] = "points"
    texts: Sequence[str]


@dataclass(frozen=True)
class Section:
    """A titled section of the page.

    Attributes:
        anchor: where links lead to.
        title: its heading.
        parts: what is in it, in order; None stands for nothing.
    """

    anchor: str
    title: str
    parts: Sequence[object]


_LEAD = "An audio-visual language model that recognises the emotion in a video and explains itself."


def write_page(
    title: str,
    sections: Iterable[Section | None],
    lead: str = _LEAD,
    scripts: Sequence[str] = (CHARTS, "curves.js"),
) -> str:
    """The whole page; a section that is None is left out.

    Args:
        title: heading.
        sections: in their order.
        lead: below the heading.
        scripts: that its parts need.
    """
    return "".join(
        render(
            "r1omni.analysis",
            "report.html",
            scripts=scripts,
            styles=(*([CHARTS_STYLE] if CHARTS in scripts else []), "report.css"),
            # The length of a bar and the shade of a cell are attributes.
            styled=True,
            title=title,
            lead=lead,
            sections=[section for section in sections if section is not None],
        )
    )


def percent(share: float, digits: int = 1) -> str:
    """A share as the digits of a percentage, without the sign."""
    return f"{100 * share:.{digits}f}"


def signed(share: float) -> str:
    """A difference of shares in points, with its sign."""
    return f"{100 * share:+.1f}".replace("-", "−")


def between(interval: Ends, sign: bool = False) -> str:
    """An interval in percent as "low to high", or ""."""
    if interval is None:
        return ""
    write = signed if sign else percent
    return f"{write(interval[0])} to {write(interval[1])}"


def cell(text: str, *small: str, mark: str = "") -> Cell:
    """A cell with those lines of small print that say something."""
    return Cell(text, tuple(line for line in small if line), mark)


def share_cell(share: float | None) -> Cell:
    """A share in percent, or that it was not measured."""
    return NOT_MEASURED if share is None else Cell(percent(share))


def joined(words: list[str]) -> str:
    """Words as English lists them."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
