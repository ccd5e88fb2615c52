"""What the ablation of training recipes measured: figures of a run, the rule, the tables.

A run is a line of `results.jsonl`: {"arm", "seed", "split", "sets": {set: {figure: value}},
"cpu_seconds", "folder"}. A figure that does not exist (a precision where nothing is named) is None.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Line = Mapping[str, Any]

PAPER, COLD_START = "paper", "cold_start"
# Seeds that a choice needs.
MIN_SEEDS = 4
# What differs by less is the same: means of equal figures differ by roundoff.
_SAME = 1e-9

# Figure -> its heading, the factor that it is shown with, and decimals.
FIGURES: dict[str, tuple[str, float, int]] = {
    "war": ("WAR", 100, 1),
    "uar": ("UAR", 100, 1),
    "supported": ("supported", 100, 1),
    "contradicted_among_right": ("contradicted among right", 100, 1),
    "right_and_supported": ("right for the right reason", 100, 1),
    "cue_precision_video": ("cue precision, face", 100, 1),
    "cue_recall_video": ("cue recall, face", 100, 1),
    "cue_precision_audio": ("cue precision, voice", 100, 1),
    "cue_recall_audio": ("cue recall, voice", 100, 1),
    "invented_muted": ("invented when muted", 100, 1),
    "invented_blanked": ("invented when blanked", 100, 1),
    "think_minus_direct": ("think minus direct, points of WAR", 100, 1),
    "ece": ("ECE", 100, 1),
    "words": ("words of reasoning", 1, 1),
    "cpu_seconds": ("CPU seconds of training", 1, 0),
}


def read_lines(file: Path) -> list[Line]:
    """The runs of a `results.jsonl`."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def read_figures(folder: Path) -> dict[str, dict[str, float | None]]:
    """Set name -> figures, of a `test` with the conditions full, muted, blanked in both modes.

    Args:
        folder: the one with `results.json` and `predictions/`.
    """
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    found = {}
    for name, conditions in results["sets"].items():
        explained = results["explanations"][name]
        full, modes = explained["full"], results["answer_modes"][name]["full"]
        figures: dict[str, float | None] = {
            "war": conditions["full"]["war"],
            "uar": conditions["full"]["uar"],
            "supported": full["supported"],
            "contradicted_among_right": full["among_right"]["contradicted"],
            "right_and_supported": full["right_and_supported"],
        }
        for medium in ("video", "audio"):
            for figure in ("precision", "recall"):
                cues = full["cues"].get(medium, {})
                figures[f"cue_{figure}_{medium}"] = cues.get(figure)
        for condition in ("muted", "blanked"):
            figures[f"invented_{condition}"] = explained[condition]["invented"]["share"]
        figures["think_minus_direct"] = modes["think_minus_direct"]["war_difference"]
        figures["ece"] = modes["think"]["ece"]
        figures["words"] = _mean_words(folder / "predictions" / f"{name}.full.jsonl")
        found[name] = figures
    return found


def _mean_words(predictions: Path) -> float:
    lines = predictions.read_text(encoding="utf-8").splitlines()
    return statistics.mean(len((json.loads(line)["reasoning"] or "").split()) for line in lines)


def values(lines: Iterable[Line], arm: str, figure: str, sets: Sequence[str]) -> list[float | None]:
    """A figure of an arm, one value a seed: the mean over the sets, None where one lacks it."""
    found: list[float | None] = []
    for line in sorted(lines, key=lambda line: line["seed"] or 0):
        if line["arm"] != arm:
            continue
        if figure == "cpu_seconds":
            found.append(line[figure])
            continue
        each = [line["sets"][name][figure] for name in sets]
        found.append(None if None in each else statistics.mean(each))
    return found


def standard_error(sample: Sequence[float]) -> float:
    """Of the mean over seeds; two or more values."""
    return statistics.stdev(sample) / len(sample) ** 0.5


@dataclass(frozen=True)
class Choice:
    """What the rule says.

    Attributes:
        arm: the recommended recipe, or None where the rule cannot be applied yet.
        reason: why, in a sentence.
    """

    arm: str | None
    reason: str


def choose(lines: Sequence[Line], order: Sequence[str], sets: Sequence[str]) -> Choice:
    """The rule, written before any run: see "Training recipes" in docs/explanations.md.

    The highest mean of right for the right reason, among the recipes whose mean WAR is not more
    than one standard error below that of the paper's recipe. The standard error is that of the
    paper's WAR over its seeds. Figures are means over the validation sets. A recipe takes part with
    the paper's seeds, no fewer and no more, at least `MIN_SEEDS`. Of recipes that are level the
    first in `order` is taken. The paper's recipe takes part, so that it stays where nothing better
    keeps its accuracy. The cold start does not.

    Args:
        lines: of `results.jsonl`, of validation.
        order: all arms, the simpler ones first.
        sets: names of the validation sets.
    """
    seeds = {
        arm: sorted(line["seed"] for line in lines if line["arm"] == arm)
        for arm in order
        if arm != COLD_START
    }
    wanted = seeds.get(PAPER, [])
    if len(wanted) < MIN_SEEDS:
        return Choice(None, f"the paper's recipe has {len(wanted)} of at least {MIN_SEEDS} seeds")
    means = {
        figure: {
            arm: statistics.mean(_known(values(lines, arm, figure, sets)))
            for arm, found in seeds.items()
            if found == wanted
        }
        for figure in ("war", "right_and_supported")
    }
    war, good = means["war"], means["right_and_supported"]
    floor = war[PAPER] - standard_error(_known(values(lines, PAPER, "war", sets)))
    accurate = [arm for arm in good if war[arm] >= floor - _SAME]
    highest = max(good[arm] for arm in accurate)
    best = next(arm for arm in accurate if good[arm] >= highest - _SAME)
    out = ", ".join(arm for arm in good if arm not in accurate) or "none"
    lacking = ", ".join(arm for arm in seeds if arm not in good) or "none"
    return Choice(
        best,
        f"right for the right reason {highest:.1%}; WAR {war[best]:.1%}, at least {floor:.1%} "
        f"(the paper's {war[PAPER]:.1%} less one standard error); less accurate: {out}; not "
        f"measured with these seeds: {lacking}",
    )


def _known(found: Iterable[float | None]) -> list[float]:
    """WAR and right for the right reason, which every run has."""
    return [value for value in found if value is not None]


def table(lines: Sequence[Line], order: Sequence[str], sets: Sequence[str]) -> list[str]:
    """Markdown, one row an arm that was measured: mean ± standard error over seeds.

    Args:
        lines: of `results.jsonl`, of one split.
        order: arms, from top to bottom.
        sets: the figures are means over these.
    """
    headings = ["recipe", "seeds", *(heading for heading, _, _ in FIGURES.values())]
    rows = [f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
    for arm in order:
        count = sum(line["arm"] == arm for line in lines)
        if count:
            cells = [_cell(values(lines, arm, figure, sets), figure) for figure in FIGURES]
            rows.append(f"| {arm} | {count} | {' | '.join(cells)} |")
    return rows


def _cell(found: Sequence[float | None], figure: str) -> str:
    _, factor, decimals = FIGURES[figure]
    known = [factor * value for value in found if value is not None]
    if not known or len(known) < len(found):
        return "-"
    mean = f"{statistics.mean(known):.{decimals}f}"
    return mean if len(known) < 2 else f"{mean} ± {standard_error(known):.{decimals}f}"
