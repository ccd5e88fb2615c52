"""What the runs took."""

from __future__ import annotations

from r1omni.analysis.markup import paragraph, row, section


def costs_section(seconds: dict[str, float], peak_memory_gib: float | None) -> str:
    """Seconds by stage and peak memory."""
    if not seconds:
        return section("costs", "Time and memory", paragraph("No times were recorded.", "gap"))
    total = sum(seconds.values())
    rows = [
        row(
            name,
            [_duration(value), f'<span class="bar" style="--share:{value / total:.3f}"></span>'],
        )
        for name, value in seconds.items()
    ]
    rows.append(row("in all", [_duration(total), ""], "subject"))
    memory = (
        "Peak memory is unknown."
        if peak_memory_gib is None
        else f"Peak memory of a process: {peak_memory_gib:.2f} GiB."
    )
    return section(
        "costs",
        "Time and memory",
        '<table class="figures costs"><caption class="hidden">Time by stage</caption><thead><tr>'
        '<th scope="col">Stage</th><th scope="col">Time</th><th scope="col">Share</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>",
        paragraph(memory + " Only finished commands count; wall-clock time.", "note"),
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"
