"""Which training recipe the rule of scripts/ablation.py chooses, and its table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import ablation_table
from ablation_table import choose, standard_error, table

ORDER = ["cold_start", "paper", "first", "second"]


def line(arm: str, seed: int | None, war: float, good: float, **more: Any) -> dict[str, Any]:
    figures = dict.fromkeys(ablation_table.FIGURES, 0.5)
    figures |= {"war": war, "right_and_supported": good, **more}
    return {"arm": arm, "seed": seed, "sets": {"a": figures}, "cpu_seconds": 100.0 * (seed or 0)}


def lines(**arms: tuple[float, float]) -> list[dict[str, Any]]:
    """Four seeds an arm: WAR 3 points below or above its mean, right for the right reason even."""
    return [
        line(arm, seed, war + (0.03 if seed % 2 else -0.03), good)
        for arm, (war, good) in arms.items()
        for seed in (1, 2, 3, 4)
    ]


@pytest.mark.parametrize(
    ("arms", "chosen"),
    [
        # The standard error of the paper's WAR is 0.01 * 3 ** 0.5, about 0.0173.
        ({"paper": (0.8, 0.6), "first": (0.8, 0.7), "second": (0.9, 0.65)}, "first"),
        ({"paper": (0.8, 0.6), "first": (0.78, 0.7), "second": (0.783, 0.65)}, "second"),
        ({"paper": (0.8, 0.6), "first": (0.8 - 0.01 * 3**0.5, 0.7)}, "first"),  # just enough
        ({"paper": (0.8, 0.6), "first": (0.7, 0.7), "second": (0.7, 0.9)}, "paper"),  # nobody
        ({"paper": (0.8, 0.6), "second": (0.8, 0.7), "first": (0.8, 0.7)}, "first"),  # level
        ({"paper": (0.8, 0.6), "first": (0.9, 0.6)}, "paper"),  # level with the paper's
        ({"paper": (0.8, 0.6), "cold_start": (0.8, 0.9)}, "paper"),
        ({"first": (0.8, 0.6)}, None),
    ],
)
def test_the_rule(arms: dict[str, tuple[float, float]], chosen: str | None) -> None:
    assert choose(lines(**arms), ORDER, ["a"]).arm == chosen


def test_the_rule_wants_the_same_seeds_of_all() -> None:
    whole = lines(paper=(0.8, 0.6), first=(0.8, 0.9), second=(0.8, 0.7))
    lacking = [entry for entry in whole if (entry["arm"], entry["seed"]) != ("first", 3)]
    choice = choose(lacking, ORDER, ["a"])
    assert choice.arm == "second" and "not measured with these seeds: first" in choice.reason
    few = [entry for entry in whole if entry["seed"] < 4]
    assert choose(few, ORDER, ["a"]).arm is None


def test_the_table_has_means_and_standard_errors_over_seeds() -> None:
    assert standard_error([1.0, 2.0, 3.0, 4.0]) == pytest.approx(0.6455, abs=1e-4)
    seeds = [line("paper", 1, 0.5, 0.25, ece=None), line("paper", 2, 0.75, 0.25)]
    rows = table([*seeds, line("cold_start", None, 0.5, 0.5)], ORDER, ["a"])
    assert len(rows) == 4
    headings, _, cold, paper = ([cell.strip() for cell in row.split("|")] for row in rows)
    cells = dict(zip(headings, paper, strict=True))
    assert cells["recipe"] == "paper" and cells["seeds"] == "2"
    assert cells["WAR"] == "62.5 ± 12.5" and cells["CPU seconds of training"] == "150 ± 50"
    assert cells["ECE"] == "-"  # one seed has none
    assert dict(zip(headings, cold, strict=True))["WAR"] == "50.0"
