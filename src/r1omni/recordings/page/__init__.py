"""A page to look through analyzed recordings; docs/page.md says how to make and read it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from r1omni.pages import CHARTS, CHARTS_STYLE, MEDIA_SOURCES, render
from r1omni.recordings.formats.files import FileNames, whole_file
from r1omni.recordings.page.content import Content, content, row
from r1omni.recordings.records import Recording
from r1omni.types import EMBED_MB, UsageError

# Beyond either, every recording has a page of its own beside an index.
MAX_RECORDINGS = 40
MAX_BYTES = 60_000_000
PAGES_FOLDER = "pages"

_SHARED = ("dom.js", "emotions.js", "table.js")
_LIST = (*_SHARED, "listing.js", "overview.js")
# What shows recordings, on other pages, too: `showRecordings` of main.js.
SCRIPTS = (
    CHARTS, *_SHARED, "listing.js", "charts.js", "lanes.js", "answer.js", "player.js",
    "answers.js", "main.js",
)  # fmt: skip
STYLES = (CHARTS_STYLE, "recordings.css")


def write(
    recordings: Iterable[Recording],
    folder: Path,
    embed: bool | int = False,
    num_frames: int | None = None,
) -> list[Path]:
    """Write `index.html`, and a page a recording below `pages/` where there are many.

    Up to `MAX_RECORDINGS` recordings, whose parts of the page have up to `MAX_BYTES` together, are
    in one page. Recordings are gone through once, and of each only a row stays in memory.

    Args:
        recordings: what to show.
        folder: where to; it is made.
        embed: whether recordings are in the page, and not only linked: up to so many megabytes
            each, `EMBED_MB` for True.
        num_frames: frames of each span that the model was shown; the pictures of a span are then
            some of them. Without it they are spread over the span.

    Returns:
        the files that were written, `index.html` first.

    Raises:
        UsageError: `embed` is less than nothing.
        OSError: a file cannot be written.
    """
    embed_mb = EMBED_MB if embed is True else int(embed)
    if embed_mb < 0:
        raise UsageError(f"embed must be at least 0 MB, not {embed_mb}")
    folder.mkdir(parents=True, exist_ok=True)
    names, rows = FileNames(), []
    with tempfile.TemporaryFile("w+", encoding="ascii") as spool:
        for number, recording in enumerate(recordings, 1):
            name = names.of(recording.path)
            made = content(recording, name, folder, embed_mb, num_frames)
            spool.write(json.dumps(made, separators=(",", ":")) + "\n")
            rows.append(row(recording, f"{PAGES_FOLDER}/{number:05d}.html"))
        is_one = len(rows) <= MAX_RECORDINGS and spool.tell() <= MAX_BYTES
        spool.seek(0)
        return (_one_page if is_one else _many_pages)(spool, rows, folder)


def _one_page(spool: IO[str], rows: list[Content], folder: Path) -> list[Path]:
    written: list[Path] = []
    for entry in rows:
        entry["page"] = ""
    near = dict.fromkeys(("index", "before", "after"), "")
    _write(folder / "index.html", written, "recordings.html", rows, spool, base="", **near)
    return written


def _many_pages(spool: IO[str], rows: list[Content], folder: Path) -> list[Path]:
    written: list[Path] = []
    (folder / PAGES_FOLDER).mkdir(exist_ok=True)
    _write(folder / "index.html", written, "overview.html", rows)
    links = [entry["page"] for entry in rows]
    for place, (entry, line) in enumerate(zip(rows, spool, strict=True)):
        near = {
            "index": "../index.html",
            "before": Path(links[place - 1]).name if place else "",
            "after": Path(links[place + 1]).name if place + 1 < len(links) else "",
        }
        own = [entry | {"page": ""}]
        page = folder / links[place]
        _write(page, written, "recordings.html", own, [line], base="../", **near)
    return written


def _write(
    file: Path,
    written: list[Path],
    template: str,
    rows: list[Content],
    contents: Iterable[str] = (),
    **values: Any,
) -> None:
    is_list = template == "overview.html"
    parts: Iterator[str] = render(
        __name__,
        template,
        scripts=_LIST if is_list else (*SCRIPTS, "start.js"),
        styles=("recordings.css",) if is_list else STYLES,
        media=MEDIA_SOURCES,
        rows=rows,
        contents=(line.rstrip("\n") for line in contents),
        **values,
    )
    with whole_file(file, written) as partial, partial.open("w", encoding="utf-8") as out:
        out.writelines(parts)
