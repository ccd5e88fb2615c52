"""results.json and report.html of a set of tested runs.

python -m r1omni report --out OUT --runs HumanOmni=outputs/base R1-Omni=outputs/r1omni
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from r1omni.analysis.answers import (
    Paired,
    answers_section,
    answers_text,
    dependence_section,
    paired_of,
    paired_results,
)
from r1omni.analysis.clips import clips_section
from r1omni.analysis.costs import Costs, costs_section, read_costs
from r1omni.analysis.curves import curves_section
from r1omni.analysis.differences import Difference, differences
from r1omni.analysis.explanations import explanations_section
from r1omni.analysis.media import conditions_section
from r1omni.analysis.notes import notes_section
from r1omni.analysis.open_words import (
    judge_section,
    measured,
    open_words_section,
    unibench_section,
)
from r1omni.analysis.page import write_page
from r1omni.analysis.parts import parts_section
from r1omni.analysis.protocols import protocols_section
from r1omni.analysis.recall import confusion_section, recall_section
from r1omni.analysis.runs import EvaluatedRun, read_json, read_run, result_row
from r1omni.analysis.summary import summary_section
from r1omni.analysis.table import results_section
from r1omni.types import UsageError


def write_report(
    runs: dict[str, Path],
    out: Path,
    world: Path | None = None,
    costs: Path | None = None,
) -> dict[str, Any]:
    """Write OUT/results.json and OUT/report.html.

    Args:
        runs: run folders by the model's name in the table; each was tested.
        out: folder to write.
        world: mini-world folder, for the ceilings.
        costs: JSON file of what the runs took, of the form of `Costs`.

    Returns:
        what results.json holds.

    Raises:
        UsageError: no run, a run that was not tested, a file that cannot be read, or an `out` with
            results that are not of a report.
    """
    if not runs:
        raise UsageError("there is no run to report; name at least one NAME=FOLDER")
    _refuse_results_of_others(out)
    evaluated = [read_run(model, folder) for model, folder in runs.items()]
    if not any(run.sets for run in evaluated):
        raise UsageError("no run has a test set with labels; there is nothing to report")
    world_facts = None if world is None else read_json(world / "world.json")
    spent = Costs() if costs is None else read_costs(costs)
    paired = {run.model: paired_of(run) for run in evaluated}
    results = {
        "rows": [result_row(run) for run in evaluated],
        "runs": {run.model: run.provenance or None for run in evaluated},
        **asdict(spent),
        "ceiling": None if world_facts is None else world_facts.get("ceiling"),
        **paired_results(paired),
        **measured(evaluated),
    }
    text = _render(evaluated, paired, world_facts, spent)
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    (out / "report.html").write_text(text, encoding="utf-8")
    return results


def table_text(results: dict[str, Any]) -> str:
    """The table for a terminal, in percent: WAR / UAR, and the shares in form and supported.

    Below it, where they were measured: direct answers, and answers that conditions change.
    """
    rows = results["rows"]
    names = [key for key in rows[0] if key != "model"]
    head = "WAR / UAR   format   supported"
    lines = [f"{'':16s}" + "".join(f"{name.upper():>40s}" for name in names)]
    lines.append(f"{'':16s}" + "".join(f"{head:>40s}" for _ in names))
    for row in rows:
        cells = [row.get(name) for name in names]
        texts = [
            "-"
            if cell is None
            else f"{cell['war']:.1%} / {cell['uar']:.1%}   {_share(cell['format_ok'], 0):>6s}"
            f"   {_share(cell.get('supported')):>9s}"
            for cell in cells
        ]
        lines.append(f"{row['model']:16s}" + "".join(f"{text:>40s}" for text in texts))
    more = answers_text(results)
    return "\n".join([*lines, *(["", more] if more else [])])


def _share(value: float | None, digits: int = 1) -> str:
    """A share in percent; "-" where it was not measured."""
    return "-" if value is None else f"{value:.{digits}%}"


def _refuse_results_of_others(out: Path) -> None:
    """What `test` or `score` wrote is not replaced by a report, which has files of that name."""
    file = out / "results.json"
    if file.exists() and "rows" not in read_json(file):
        raise UsageError(f"--out {out}: holds other results.json; choose another folder")


def _render(
    runs: list[EvaluatedRun],
    paired: Paired,
    world: dict[str, Any] | None,
    costs: Costs,
) -> str:
    found: list[Difference] = differences(runs)
    ceiling = (world or {}).get("ceiling") or {}
    return write_page(
        title="R1-Omni: results",
        sections=[
            summary_section(runs, found, world),
            results_section(runs, found, ceiling),
            conditions_section(runs, ceiling),
            explanations_section(runs),
            judge_section(runs),
            open_words_section(runs),
            unibench_section(runs),
            dependence_section(runs, paired),
            answers_section(runs, paired),
            recall_section(runs),
            parts_section(runs),
            confusion_section(runs),
            curves_section(runs),
            clips_section(runs, synthetic=world is not None),
            costs_section(costs),
            protocols_section(runs),
            notes_section(runs, found, synthetic=world is not None),
        ],
    )
