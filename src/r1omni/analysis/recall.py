"""Recall by class, and confusion matrices."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from r1omni.analysis.markup import paragraph, percent, row, scrollable, section, small
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


def recall_section(runs: list[EvaluatedRun]) -> str:
    """One table a test set: classes by models."""
    tables = [
        f"<h3>{escape(set_title(name))}</h3>"
        + scrollable(_recall_table(name, runs), f"Recall by class on {set_title(name)}")
        for name in set_names(runs)
    ]
    return section(
        "recall",
        "Recall by class",
        *tables,
        paragraph(
            "In percent: of the clips of a class, how many were recognised. Small print: 95% "
            "Wilson interval, which takes clips as independent. Classes with few clips have wide "
            "intervals.",
            "note",
        ),
    )


def _recall_table(name: str, runs: list[EvaluatedRun]) -> str:
    tested = [run for run in runs if name in run.sets]
    first = tested[0].sets[name].full
    subject = find_subject(runs)
    heads = "".join(
        f'<th scope="col"{" class=subject" if run is subject else ""}>{escape(run.model)}</th>'
        for run in tested
    )
    rows = [
        row(
            label,
            [str(sum(first["confusion"][index]))]
            + [_recall_cell(run.sets[name].full, index) for run in tested],
        )
        for index, label in enumerate(first["labels"])
    ]
    return (
        f'<table class="figures recall"><caption class="hidden">Recall on {escape(set_title(name))}'
        f'</caption><thead><tr><th scope="col">Class</th><th scope="col">Clips</th>{heads}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _recall_cell(result: dict[str, Any], index: int) -> str:
    counts = result["confusion"][index]
    n, right = sum(counts), counts[index]
    if n == 0:
        return '<span class="none" title="no clip">–</span>'
    low, high = wilson_interval(right, n)
    bar = f'<span class="bar" style="--share:{right / n:.3f}"></span>'
    return f"{percent(right / n, 0)} {small(f'{percent(low, 0)} to {percent(high, 0)}')}{bar}"


def confusion_section(runs: list[EvaluatedRun], name: str = "dfew") -> str:
    """One matrix a model on one test set, the first one where `name` was not tested."""
    names = set_names(runs)
    name = name if name in names else names[0]
    matrices = "".join(
        f"<figure><figcaption><strong>{escape(run.model)}</strong></figcaption>"
        f"{scrollable(_matrix(run, name), f'Confusions of {run.model}')}</figure>"
        for run in runs
        if name in run.sets
    )
    return section(
        "confusion",
        f"What is taken for what on {set_title(name)}",
        f'<div class="grid2">{matrices}</div>',
        paragraph(
            "Rows: the true class. Columns: the answer; the last one holds answers that are "
            "unreadable or no class of the set. Numbers count clips; the shade is the share of the "
            "row. Framed: right.",
            "note",
        ),
    )


def _matrix(run: EvaluatedRun, name: str) -> str:
    result = run.sets[name].full
    labels = result["labels"]
    heads = "".join(
        f'<th scope="col"><span>{escape(label)}</span></th>' for label in (*labels, OTHER)
    )
    rows = "".join(
        f'<tr><th scope="row">{escape(label)}</th>'
        + "".join(
            _matrix_cell(count, sum(counts), index == column) for column, count in enumerate(counts)
        )
        + "</tr>"
        for index, (label, counts) in enumerate(zip(labels, result["confusion"], strict=True))
    )
    return (
        f'<table class="matrix"><caption class="hidden">Confusions of {escape(run.model)} on '
        f"{escape(set_title(name))}: rows are true classes, columns answers</caption>"
        f"<thead><tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _matrix_cell(count: int, total: int, is_right: bool) -> str:
    share = count / total if total else 0.0
    kinds = " ".join(
        kind
        for kind, holds in (("right", is_right), ("strong", share > 0.85), ("zero", count == 0))
        if holds
    )
    return f'<td class="{kinds}" style="--heat:{100 * share:.0f}%">{count}</td>'
