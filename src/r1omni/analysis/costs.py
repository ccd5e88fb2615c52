"""What the runs took."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from r1omni.analysis.page import Cell, Row, Section, Table, Text
from r1omni.analysis.runs import read_json
from r1omni.types import UsageError


@dataclass(frozen=True)
class Costs:
    """What the runs took.

    Attributes:
        seconds: by stage, in the order in which the stages ended.
        elapsed_seconds: of all stages on the clock; less than their sum where some ran side by
            side. None where unknown.
        peak_memory_gib: largest resident memory of any process, or None where unknown.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    elapsed_seconds: float | None = None
    peak_memory_gib: float | None = None


def read_costs(file: Path) -> Costs:
    """Read costs from JSON.

    Raises:
        UsageError: no such file, or another form.
    """
    content = read_json(file)
    try:
        return Costs(**content)
    except TypeError as error:
        raise UsageError(
            f"{file}: not the costs of a table; they have the keys seconds, elapsed_seconds and "
            "peak_memory_gib"
        ) from error


def costs_section(costs: Costs) -> Section:
    """Seconds by stage and peak memory."""
    anchor, title = "costs", "Time and memory"
    if not costs.seconds:
        return Section(anchor, title, [Text("No times were recorded.", "gap")])
    total = sum(costs.seconds.values())
    rows = [
        Row(name, (Cell(_duration(value)), Cell("", share=value / total)))
        for name, value in costs.seconds.items()
    ]
    if costs.elapsed_seconds is not None:
        rows.append(
            Row("on the clock", (Cell(_duration(costs.elapsed_seconds)), Cell("")), "subject")
        )
    memory = (
        "Peak memory is unknown."
        if costs.peak_memory_gib is None
        else f"Peak memory of a process: {costs.peak_memory_gib:.2f} GiB."
    )
    table = Table("Time by stage", ["Time", "Share"], rows, first="Stage", kind="figures costs")
    note = Text(memory + " Only finished commands count; some ran side by side.", "note")
    return Section(anchor, title, [table, note])


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"
