"""Recall by class, and confusion matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from r1omni.analysis.page import Cell, Row, Section, Table, Text, percent
from r1omni.analysis.runs import EvaluatedRun, find_subject, set_names, set_title
from r1omni.metrics.recognition import OTHER

# The 97.5th percentile of the normal distribution.
_Z = 1.959964


def wilson_interval(num_right: int, n: int) -> tuple[float, float]:
    """95% interval of a share (Wilson's score interval)."""
    share, z2 = num_right / n, _Z**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = _Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, centre - reach), min(1.0, centre + reach)


def recall_section(runs: list[EvaluatedRun]) -> Section:
    """One table a test set: classes by models."""
    note = (
        "In percent: of the clips of a class, how many were recognised. Small print: 95% Wilson "
        "interval, which takes clips as independent. Classes with few clips have wide intervals."
    )
    tables = [_recall_table(name, runs) for name in set_names(runs)]
    return Section("recall", "Recall by class", [*tables, Text(note, "note")])


def _recall_table(name: str, runs: list[EvaluatedRun]) -> Table:
    tested = [run for run in runs if name in run.sets]
    first = tested[0].sets[name].full
    rows = [
        Row(
            label,
            (
                Cell(str(sum(first["confusion"][index]))),
                *(_recall_cell(run.sets[name].full, index) for run in tested),
            ),
        )
        for index, label in enumerate(first["labels"])
    ]
    return Table(
        f"Recall by class on {set_title(name)}",
        ["Clips", *(run.model for run in tested)],
        rows,
        first="Class",
        title=set_title(name),
        subject=find_subject(runs).model,
        kind="figures recall",
    )


def _recall_cell(result: dict[str, Any], index: int) -> Cell:
    counts = result["confusion"][index]
    n, right = sum(counts), counts[index]
    if n == 0:
        return Cell("–", kind="none", title="no clip")
    low, high = wilson_interval(right, n)
    ends = f"{percent(low, 0)} to {percent(high, 0)}"
    return Cell(percent(right / n, 0), (ends,), share=right / n)


@dataclass(frozen=True)
class Matrix:
    """How often each class was taken for each.

    Attributes:
        model: whose answers they are.
        caption: the same for those who cannot see it.
        columns: classes, then what is none of the set.
        rows: a class each; cells are shaded by their share of the row.
    """

    model: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Matrices:
    """Matrices side by side."""

    template: ClassVar[str] = "matrices"
    matrices: Sequence[Matrix]


def confusion_section(runs: list[EvaluatedRun], name: str = "dfew") -> Section:
    """One matrix a model on one test set, the first one where `name` was not tested."""
    names = set_names(runs)
    name = name if name in names else names[0]
    note = (
        "Rows: the true class. Columns: the answer; the last one holds answers that are "
        "unreadable or no class of the set. Numbers count clips; the shade is the share of the "
        "row. Framed: right."
    )
    matrices = Matrices([_matrix(run, name) for run in runs if name in run.sets])
    title = f"What is taken for what on {set_title(name)}"
    return Section("confusion", title, [matrices, Text(note, "note")])


def _matrix(run: EvaluatedRun, name: str) -> Matrix:
    result = run.sets[name].full
    labels = result["labels"]
    return Matrix(
        run.model,
        f"Confusions of {run.model} on {set_title(name)}: rows are true classes, columns answers",
        [*labels, OTHER],
        [
            Row(label, tuple(_matrix_cell(n, sum(counts), i == at) for at, n in enumerate(counts)))
            for i, (label, counts) in enumerate(zip(labels, result["confusion"], strict=True))
        ],
    )


def _matrix_cell(count: int, total: int, is_right: bool) -> Cell:
    share = count / total if total else 0.0
    kinds = {"right": is_right, "strong": share > 0.85, "zero": count == 0}
    return Cell(
        str(count), share=share, kind=" ".join(kind for kind, holds in kinds.items() if holds)
    )
