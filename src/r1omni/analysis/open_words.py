"""Answers in free words, grades of a judge and MER-UniBench, as they were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from r1omni.analysis.runs import EvaluatedRun, find_subject, set_title

# Section of results.json -> what it holds there.
_KEPT = ("open_vocabulary", "judge", "judge_settings", "unibench")


def measured(runs: Sequence[EvaluatedRun]) -> dict[str, dict[str, Any]]:
    """What a report keeps of these figures: by their name, then by model; only what there is."""
    found = {key: {r.model: r.measured[key] for r in runs if key in r.measured} for key in _KEPT}
    return {key: by_model for key, by_model in found.items() if by_model}


def open_words_section(runs: Sequence[EvaluatedRun]) -> Section | None:
    """Scores of free words on wheels of emotions; None where no run has any."""
    known = [run for run in runs if run.measured.get("open_vocabulary")]
    if not known:
        return None
    figures = ("precision", "recall", "f1", "hit_rate")
    rows = []
    for run, name, condition, found in _entries(known, "open_vocabulary"):
        shares = [cell(percent(found[f]), between(found["intervals"][f])) for f in figures]
        counts = [
            _words(found[f"words_{whose}"], found[f"unknown_{whose}"])
            for whose in ("answered", "reference")
        ]
        cells = (Cell(str(found["n"])), *shares, *counts)
        rows.append(_row(runs, run, cells, name, condition))
    sources = sorted({found["source"] for _, _, _, found in _entries(known, "open_vocabulary")})
    table = Table(
        "Answers in free words, on wheels of emotions",
        ["Clips", "EW precision", "EW recall", "EW F1", "Hit rate", "Words", "Of reference"],
        rows,
        first="Model and set",
    )
    note = (
        "In percent, with 95% bootstrap intervals: words of an answer and of a reference are "
        "compared as clusters of wheels of emotions, and averaged over the wheels "
        f"({', '.join(sources)}). Words: how many an answer has on average, and how many of them "
        "no wheel knows. A hit rate alone is best for an answer that lists everything."
    )
    return Section("open-words", "Answers in free words", [table, Text(note, "note")])


def judge_section(runs: Sequence[EvaluatedRun]) -> Section | None:
    """Grades that a judge gave to reasonings; None where no run has any."""
    known = [run for run in runs if run.measured.get("judge")]
    if not known:
        return None
    rows = []
    for run, name, condition, found in _entries(known, "judge"):
        mean = found["mean"]
        ends = found["interval"]
        told = "" if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"
        grade = NOT_MEASURED if mean is None else cell(f"{mean:.3f}", told)
        counts = [found[key] for key in ("n", "judged", "malformed", "failed", "not_applicable")]
        cells = (grade, *(Cell(str(count)) for count in counts))
        rows.append(_row(runs, run, cells, name, condition))
    table = Table(
        "Mean grades, and how many answers have one",
        ["Mean grade", "Answers", "Judged", "Malformed", "Failed", "Not asked"],
        rows,
        first="Model and set",
    )
    judges = [(run.model, run.measured.get("judge_settings") or {}) for run in known]
    named = "; ".join(
        f"{model} by {settings.get('model', 'unknown')}" for model, settings in judges
    )
    note = (
        "Grades lie between 0 and 1, with 95% bootstrap intervals; malformed answers count as 0 "
        "and were not shown to the judge, failed ones and those it was not asked about have no "
        f"grade. Judged: {named}. A grade is another model's opinion, and grades of different "
        "judges or templates are not to be compared."
    )
    return Section("judge", "Grades of a judge", [table, Text(note, "note")])


def unibench_section(runs: Sequence[EvaluatedRun]) -> Section | None:
    """A table in the manner of MER-UniBench; None where no run has it."""
    known = [run for run in runs if run.measured.get("unibench")]
    if not known:
        return None
    tables = [run.measured["unibench"] for run in known]
    names = list(dict.fromkeys(name for found in tables for name in found["figures"]))
    rows = []
    for run, found in zip(known, tables, strict=True):
        mean = found["mean"]
        cells = [_unibench_cell(found["figures"].get(name)) for name in names]
        last = NOT_MEASURED if mean is None else Cell(percent(mean))
        rows.append(_row(runs, run, (*cells, last)))
    table = Table(
        "What MER-UniBench measures on each set",
        [*(set_title(name) for name in names), "Mean"],
        rows,
    )
    missing = "; ".join(
        f"{run.model} lacks {', '.join(found['missing'])}"
        for run, found in zip(known, tables, strict=True)
    )
    note = (
        "In percent: the hit rate where clips have one of a few classes, EW F1 where they have "
        f"free words. It is no result of the whole benchmark: {missing}."
    )
    return Section("unibench", "In the manner of MER-UniBench", [table, Text(note, "note")])


def _entries(
    runs: Sequence[EvaluatedRun], key: str
) -> list[tuple[EvaluatedRun, str, str, Mapping[str, Any]]]:
    """Run, set, condition and figures, set by set, so that models stand below each other."""
    names = dict.fromkeys(name for run in runs for name in run.measured[key])
    return [
        (run, name, condition, found)
        for name in names
        for run in runs
        for condition, found in run.measured[key].get(name, {}).items()
    ]


def _row(
    runs: Sequence[EvaluatedRun],
    run: EvaluatedRun,
    cells: tuple[Cell, ...],
    name: str | None = None,
    condition: str = "full",
) -> Row:
    """The row of a model, or of a model on one set under a condition."""
    where = "" if name is None else f" on {set_title(name)}"
    shown = "" if condition == "full" else f", {condition}"
    mark = "subject" if run is find_subject(list(runs)) else ""
    return Row(f"{run.model}{where}{shown}", cells, mark)


def _words(count: float, unknown: float | None) -> Cell:
    return cell(f"{count:.1f}", "" if unknown is None else f"{percent(unknown)}% unknown")


def _unibench_cell(entry: Mapping[str, Any] | None) -> Cell:
    if entry is None:
        return NOT_MEASURED
    measure = "EW F1" if entry["measure"] == "f1" else "hit rate"
    return cell(percent(entry["value"]), f"{measure}, {entry['n']} clips")
