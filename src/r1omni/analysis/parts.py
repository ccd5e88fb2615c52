"""Recognition by the speaker's sex and by the intensity of the take, where they are known."""

from __future__ import annotations

from html import escape
from typing import Any

from r1omni.analysis.markup import between, paragraph, percent, row, scrollable, section, small
from r1omni.analysis.runs import EvaluatedRun, find_subject, set_names, set_title
from r1omni.analysis.table import NOT_MEASURED


def parts_section(runs: list[EvaluatedRun]) -> str:
    """One table a test set that knows either: values by models; "" where none does."""
    tables = [
        f"<h3>{escape(set_title(name))}</h3>"
        + scrollable(_table(name, runs), f"Recognition by part of {set_title(name)}")
        for name in set_names(runs)
        if _values(name, runs)
    ]
    if not tables:
        return ""
    return section(
        "parts",
        "By sex of the speaker and intensity of the take",
        *tables,
        paragraph(
            "WAR in percent, and its 95% bootstrap interval over speakers; then UAR, over the "
            "classes that the part has. Parts differ in their clips: neutral, say, may have no "
            "strong take.",
            "note",
        ),
    )


def _values(name: str, runs: list[EvaluatedRun]) -> list[tuple[str, str]]:
    """The pairs of field and value that any run has on a set."""
    known = [run.sets[name].breakdown for run in runs if name in run.sets]
    pairs = [(f, value) for fields in known for f, parts in fields.items() for value in parts]
    return list(dict.fromkeys(pairs))


def _table(name: str, runs: list[EvaluatedRun]) -> str:
    tested = [run for run in runs if name in run.sets]
    subject = find_subject(runs)
    heads = "".join(
        f'<th scope="col"{" class=subject" if run is subject else ""}>{escape(run.model)}</th>'
        for run in tested
    )
    rows = []
    for field, value in _values(name, runs):
        parts = [run.sets[name].breakdown.get(field, {}).get(value) for run in tested]
        first = next(part for part in parts if part is not None)
        rows.append(row(f"{field}: {value}", [str(first["n"]), *map(_cell, parts)]))
    return (
        f'<table class="figures"><caption class="hidden">Recognition by part of '
        f'{escape(set_title(name))}</caption><thead><tr><th scope="col">Part</th>'
        f'<th scope="col">Clips</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )


def _cell(part: dict[str, Any] | None) -> str:
    if part is None:
        return NOT_MEASURED
    return (
        percent(part["war"])
        + small(between(part["war_interval"]))
        + small(f"UAR {percent(part['uar'])}")
    )
