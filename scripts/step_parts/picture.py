"""The plot of `scripts/benchmark_step.py`: seconds by phase of every arm, and how a step grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# How arms and phases are called on the plot and in the tables.
TITLES = {
    "ours": "ours",
    "fused_always": "fused loss on",
    "fused_never": "fused loss off",
    "sampled_ahead": "sampling beside the update",
    "towers_each_step": "towers in every step",
    "library_cache": "the library's cache",
    "prompt_per_completion": "a prompt a completion",
    "plain_rows": "padded rows",
    "full_logits": "logits of all tokens",
    "memory_given_back": "freed memory given back",
    "flex": "FlexAttention",
    "without_triton": "without Triton",
    "without_graphs": "without CUDA graphs",
    "release": "the release",
    "trl": "TRL",
    "trl_rows": "TRL, features given, head at completions",
}
PHASES = {
    "towers": "tab:red",
    "sampling": "tab:green",
    "reference": "tab:orange",
    "update": "tab:blue",
    "rest": "0.7",
}
_AXES = {"group_size": "completions a prompt", "prompt_tokens": "tokens of the prompt",
         "completion": "tokens of a completion"}  # fmt: skip
_COLORS = {"ours": "tab:green", "release": "tab:red"}


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Draw what was timed; a case that was only counted has no panel.

    Args:
        report: what the script writes.
        path: of the PNG.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cases = {
        name: case
        for name, case in report["cases"].items()
        if any("whole_s" in arm for arm in case["arms"].values())
    }
    growth = [row for row in report["growth"] if "whole_s" in row]
    rows = len(cases) + bool(growth)
    figure, grid = plt.subplots(
        max(1, rows), 3, figsize=(13, 3.6 * max(1, rows)), layout="constrained", squeeze=False
    )
    for line in grid:
        for panel in line:
            panel.axis("off")
    for (name, case), line in zip(cases.items(), grid, strict=False):
        own = figure.add_subplot(line[0].get_gridspec()[list(cases).index(name), :])
        _arms(own, name, case)
    if growth:
        for panel, (axis, title) in zip(grid[-1], _AXES.items(), strict=True):
            panel.axis("on")
            _growth(panel, growth, axis, title)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _arms(panel: Any, name: str, case: Mapping[str, Any]) -> None:
    timed = {arm: found for arm, found in case["arms"].items() if "whole_s" in found}
    for place, found in enumerate(timed.values()):
        left = 0.0
        for phase, color in PHASES.items():
            seconds = found["seconds"].get(phase, {"median": 0.0})["median"]
            panel.barh(place, seconds, left=left, color=color, label=phase if not place else None)
            left += seconds
        low, high = found["whole_s"]["min"], found["whole_s"]["max"]
        panel.plot([low, high], [place, place], color="black", linewidth=1)
    panel.axvline(sum(case["least_s"].values()), color="black", linestyle=":", label="the least")
    panel.set_yticks(range(len(timed)), [TITLES[arm] for arm in timed])
    panel.invert_yaxis()
    size, prompts = name.split(", ")
    panel.set_title(f"{size}, {prompts} prompt{'s' if prompts != '1' else ''} a step: seconds")
    panel.legend(fontsize="small")


def _growth(panel: Any, growth: Sequence[Mapping[str, Any]], axis: str, title: str) -> None:
    changed = {"prompt_tokens": "more_words"}.get(axis, axis)
    for arm in dict.fromkeys(row["arm"] for row in growth):
        own = [row for row in growth if row["arm"] == arm and row["axis"] in ("base", changed)]
        own.sort(key=lambda row: row[axis])
        seconds = [row["whole_s"]["median"] for row in own]
        where = [row[axis] for row in own]
        panel.plot(where, seconds, "o-", color=_COLORS.get(arm), label=TITLES[arm])
    panel.set_xlabel(title)
    panel.set_ylabel("seconds a step")
    panel.set_ylim(bottom=0)
    panel.legend(fontsize="small")
