"""Pages that a script writes and a person goes on: what stands below a mark is kept."""

from __future__ import annotations

from pathlib import Path

MARK = "<!-- Written by hand from here on: the script that wrote the rest keeps it. -->"


def write_above(page: Path, text: str) -> None:
    """Write a page anew but for what stands below its mark.

    Args:
        page: may be missing, or without a mark; then there is nothing to keep.
        text: Markdown, the part above the mark.
    """
    kept = ""
    if page.exists():
        kept = page.read_text(encoding="utf-8").partition(MARK)[2]
    page.write_text(f"{text.rstrip()}\n\n{MARK}\n\n{kept.lstrip()}", encoding="utf-8")
