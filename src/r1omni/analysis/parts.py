"""Recognition by part of a set: sex, intensity, language and the like, where they are known."""

from __future__ import annotations

from typing import Any

from r1omni.analysis.page import (
    NOT_MEASURED,
    Cell,
    Row,
    Section,
    Table,
    Text,
    between,
    cell,
    percent,
)
from r1omni.analysis.runs import EvaluatedRun, find_subject, set_names, set_title
from r1omni.metrics.breakdown import MIN_CLIPS, MIN_SPEAKERS, SPEAKER


def parts_section(runs: list[EvaluatedRun]) -> Section | None:
    """One table a test set that knows any of them: values by models; None where none does."""
    tables = [_table(name, runs) for name in set_names(runs) if _values(name, runs)]
    if not tables:
        return None
    note = (
        "WAR in percent, and its 95% bootstrap interval over speakers; then UAR, over the classes "
        "that the part has. Parts differ in their clips: neutral, say, may have no strong take. "
        f"†: too small to say, fewer than {MIN_CLIPS} clips or {MIN_SPEAKERS} speakers. Single "
        "speakers are in results.json."
    )
    title = "By part of a set"
    return Section("parts", title, [*tables, Text(note, "note")])


def _values(name: str, runs: list[EvaluatedRun]) -> list[tuple[str, str]]:
    """The pairs of field and value that any run has on a set."""
    known = [run.sets[name].breakdown for run in runs if name in run.sets]
    pairs = [
        (field, value)
        for fields in known
        for field, parts in fields.items()
        if field != SPEAKER  # there may be hundreds
        for value in parts
    ]
    return list(dict.fromkeys(pairs))


def _table(name: str, runs: list[EvaluatedRun]) -> Table:
    tested = [run for run in runs if name in run.sets]
    rows = []
    for field, value in _values(name, runs):
        parts = [run.sets[name].breakdown.get(field, {}).get(value) for run in tested]
        first = next(part for part in parts if part is not None)
        rows.append(Row(f"{field}: {value}", (Cell(str(first["n"])), *map(_cell, parts))))
    return Table(
        f"Recognition by part of {set_title(name)}",
        ["Clips", *(run.model for run in tested)],
        rows,
        first="Part",
        title=set_title(name),
        subject=find_subject(runs).model,
    )


def _cell(part: dict[str, Any] | None) -> Cell:
    if part is None:
        return NOT_MEASURED
    # Version 0.1 did not say of a part whether it is too small.
    mark = "†" if part.get("too_small") else ""
    uar = f"UAR {percent(part['uar'])}"
    return cell(percent(part["war"]), between(part["war_interval"]), uar, mark=mark)
