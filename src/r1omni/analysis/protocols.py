"""The protocol beside figures, as a table: what was measured, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from r1omni.analysis.page import NOT_MEASURED, Cell, Row, Section, Table, Text
from r1omni.analysis.runs import EvaluatedRun, find_subject, set_names, set_title
from r1omni.metrics.protocol import protocol_items


def protocol_table(
    caption: str, protocols: Mapping[str, Mapping[str, Any]], subject: str = ""
) -> Table | None:
    """A row an item that is known of any system, a column a system; None where nothing is known.

    Args:
        caption: of the table.
        protocols: by system, as `protocol_of` makes them; empty where none was recorded.
        subject: the system that stands out.
    """
    items = {who: protocol_items(p) if p else {} for who, p in protocols.items()}
    names = list(dict.fromkeys(name for own in items.values() for name in own))
    if not names:
        return None
    rows = [Row(name, tuple(_cell(own.get(name)) for own in items.values())) for name in names]
    return Table(
        caption, list(items), rows, first="Protocol", title=caption, subject=subject,
        kind="figures protocol",
    )  # fmt: skip


def _cell(words: str | None) -> Cell:
    return NOT_MEASURED if words is None else Cell(words)


def protocols_section(runs: list[EvaluatedRun]) -> Section | None:
    """The protocols of all test sets; None where an earlier version tested."""
    tables = []
    for name in set_names(runs):
        protocols = {run.model: run.sets[name].protocol for run in runs if name in run.sets}
        found = protocol_table(set_title(name), protocols, find_subject(runs).model)
        if found is not None and any(protocols.values()):
            tables.append(found)
    if not tables:
        return None
    note = (
        "What is recorded of each test. Figures of different data, folds, classes, questions or "
        "settings are not of one ranking. One fold is one fold: a published mean over five is "
        "another figure."
    )
    return Section("protocols", "How it was measured", [*tables, Text(note, "note")])
