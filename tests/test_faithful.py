"""The recommended recipe is the one that the rule chooses from what is recorded."""

from __future__ import annotations

from pathlib import Path

import yaml
from ablation_runs import ORDER, VALIDATION
from ablation_table import choose, read_lines

ROOT = Path(__file__).parents[1]


def test_the_overlay_is_the_recipe_that_was_chosen() -> None:
    files = sorted((ROOT / "docs" / "benchmarks" / "ablation").glob("world_*[0-9].jsonl"))
    lines = [line for file in files for line in read_lines(file)]
    chosen = choose(lines, ORDER, VALIDATION)
    assert chosen.arm is not None, chosen.reason
    recipe, faithful = (
        yaml.safe_load((ROOT / "configs" / name).read_text(encoding="utf-8"))
        for name in (f"mini/recipes/{chosen.arm}.yaml", "overlay/faithful.yaml")
    )
    assert faithful == recipe
