"""results.json and report.html of a set of tested runs.

python -m r1omni report --out OUT --runs HumanOmni=outputs/base R1-Omni=outputs/r1omni
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1omni.analysis.clips import clips_section
from r1omni.analysis.costs import costs_section
from r1omni.analysis.curves import curves_section
from r1omni.analysis.differences import Difference, differences
from r1omni.analysis.media import conditions_section
from r1omni.analysis.notes import notes_section
from r1omni.analysis.page import page
from r1omni.analysis.recall import confusion_section, recall_section
from r1omni.analysis.runs import EvaluatedRun, read_json, read_run, result_row
from r1omni.analysis.summary import summary_section
from r1omni.analysis.table import results_section
from r1omni.types import UsageError

PEAK_MEMORY = "peak_memory_gib"


@dataclass(frozen=True)
class Costs:
    """What the runs took.

    Attributes:
        seconds: by stage, in the order of the stages.
        peak_memory_gib: largest resident memory of any process, or None where unknown.
    """

    seconds: dict[str, float]
    peak_memory_gib: float | None


def write_report(
    runs: dict[str, Path],
    out: Path,
    world: Path | None = None,
    seconds: Path | None = None,
    *,
    tracking_uri: str = "sqlite:///mlflow.db",
) -> dict[str, Any]:
    """Write OUT/results.json and OUT/report.html.

    Args:
        runs: run folders by the model's name in the table; each was tested.
        out: folder to write.
        world: mini-world folder, for the ceilings.
        seconds: JSON file of seconds by stage, and `peak_memory_gib`.
        tracking_uri: MLflow store of the runs' curves.

    Returns:
        what results.json holds.

    Raises:
        UsageError: no run, a run that was not tested, or a file that cannot be read.
    """
    if not runs:
        raise UsageError("there is no run to report; name at least one NAME=FOLDER")
    evaluated = [read_run(model, folder) for model, folder in runs.items()]
    if not any(run.sets for run in evaluated):
        raise UsageError("no run has a test set with labels; there is nothing to report")
    world_facts = None if world is None else read_json(world / "world.json")
    costs = _read_costs(seconds)
    results = {
        "rows": [result_row(run) for run in evaluated],
        "seconds": costs.seconds,
        PEAK_MEMORY: costs.peak_memory_gib,
        "ceiling": None if world_facts is None else world_facts.get("ceiling"),
    }
    text = _render(evaluated, world_facts, costs, tracking_uri)
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    (out / "report.html").write_text(text, encoding="utf-8")
    return results


def table_text(results: dict[str, Any]) -> str:
    """The table for a terminal: WAR / UAR and the share of well-formed answers, in percent."""
    rows = results["rows"]
    names = [key for key in rows[0] if key != "model"]
    lines = [f"{'':16s}" + "".join(f"{name.upper():>26s}" for name in names)]
    lines.append(f"{'':16s}" + "".join(f"{'WAR / UAR   format':>26s}" for _ in names))
    for row in rows:
        cells = [row.get(name) for name in names]
        texts = [
            "-"
            if cell is None
            else f"{cell['war']:.1%} / {cell['uar']:.1%}   {cell['format_ok']:4.0%}"
            for cell in cells
        ]
        lines.append(f"{row['model']:16s}" + "".join(f"{text:>26s}" for text in texts))
    return "\n".join(lines)


def _read_costs(file: Path | None) -> Costs:
    content = {} if file is None else dict(read_json(file))
    peak = content.pop(PEAK_MEMORY, None)
    return Costs({name: float(value) for name, value in content.items()}, peak)


def _render(
    runs: list[EvaluatedRun],
    world: dict[str, Any] | None,
    costs: Costs,
    tracking_uri: str,
) -> str:
    found: list[Difference] = differences(runs)
    ceiling = (world or {}).get("ceiling") or {}
    return page(
        title="R1-Omni: results",
        sections=[
            summary_section(runs, found, world),
            results_section(runs, found, ceiling),
            conditions_section(runs, ceiling),
            recall_section(runs),
            confusion_section(runs),
            curves_section(runs, tracking_uri),
            clips_section(runs, synthetic=world is not None),
            costs_section(costs.seconds, costs.peak_memory_gib),
            notes_section(runs, found),
        ],
    )
