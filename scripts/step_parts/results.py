"""From the steps of all processes to what is written down: medians, spreads and ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any


def spread(values: Sequence[float], digits: int = 4) -> dict[str, float]:
    """Smallest, median and largest."""
    return {
        "min": round(min(values), digits),
        "median": round(median(values), digits),
        "max": round(max(values), digits),
    }


def timed(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Seconds by phase and memory of the steps that were timed; medians, and the highest memory."""
    own = [step for step in steps if step["kind"] == "timed"]
    names = dict.fromkeys(name for step in own for name in step["seconds"])
    return {
        "whole_s": spread([step["whole_s"] for step in own]),
        "seconds": {
            name: spread([step["seconds"].get(name, 0.0) for step in own]) for name in names
        },
        "peak_gib": round(max(step["peak_gib"] for step in own), 3),
        "peak_beyond_gib": round(max(step["peak_beyond_gib"] for step in own), 3),
    }


def take(entry: dict[str, Any], found: Mapping[str, Any]) -> None:
    """Add what a process found to what is known of its arm."""
    steps = found["steps"]
    entry.setdefault("timed", []).append([s for s in steps if s["kind"] == "timed"])
    # Of the first step: all arms have the same weights then.
    entry.setdefault("first_step", {k: round(v, 7) for k, v in steps[0]["figures"].items()})
    for step in steps:
        if step["kind"] == "counts":
            entry["counted"] = step["counts"] | {"clips": step["clips"]}
        if step["kind"] == "operations":
            entry.setdefault("counted", {})["operations"] = step["operations"]
    if "trl" in found:
        entry["trl"] = found["trl"]


def conclude(case: Mapping[str, Any]) -> dict[str, Any]:
    """A case as it is written: each arm's figures, beside ours and beside the least."""
    peak = case["peak_operations_per_s"]
    least = {name: count / peak for name, count in case["least"]["operations"].items()}
    ours = case["arms"].get("ours", {}).get("timed", [])
    arms = {}
    for name, entry in case["arms"].items():
        arms[name] = {key: value for key, value in entry.items() if key != "timed"}
        if not entry.get("timed"):
            continue
        arms[name] |= timed([step for steps in entry["timed"] for step in steps])
        arms[name]["rounds"] = len(entry["timed"])
        whole = arms[name]["whole_s"]["min"]
        arms[name]["times_least"] = round(whole / sum(least.values()), 2)
        arms[name]["phases_times_least"] = {
            phase: round(arms[name]["seconds"][phase]["min"] / seconds, 2)
            for phase, seconds in least.items()
        }
        # Round by round: what else the machine did meets both alike.
        ratios = {
            phase or "whole": spread(
                [
                    _median(own, phase) / _median(other, phase)
                    for own, other in zip(entry["timed"], ours, strict=False)
                ],
                2,
            )
            for phase in ("", *least)
            if ours
        }
        arms[name]["relative_to_ours"] = ratios
    return {**case, "least_s": {k: round(v, 5) for k, v in least.items()}, "arms": arms}


def _median(steps: Sequence[Mapping[str, Any]], phase: str) -> float:
    return median(step["seconds"][phase] if phase else step["whole_s"] for step in steps)
