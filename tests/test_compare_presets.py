"""The comparison of presets: what it runs, and the page it writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "scripts"))

import compare_presets  # noqa: E402
import presets_page  # noqa: E402

FIGURES = REPOSITORY / "docs" / "benchmarks" / "grpo_presets.json"


def test_the_page_is_that_of_the_recorded_figures(tmp_path: Path) -> None:
    recorded = json.loads(FIGURES.read_text())
    page = (REPOSITORY / "docs" / "grpo.md").read_text()
    by_hand = "".join(page.partition(presets_page.BY_HAND)[1:])
    assert "| GMPO " in by_hand
    (tmp_path / "grpo.md").write_text(f"old\n\n{by_hand}")  # which stays
    presets_page.write_page(recorded, tmp_path / "grpo.md")
    assert (tmp_path / "grpo.md").read_text() == page
    assert (tmp_path / "benchmarks" / "grpo_presets.png").stat().st_size > 10_000


def test_the_highest_validation_war_is_recommended() -> None:
    runs = {
        name: [{"val_war": [0.9, final]} for final in finals]
        for name, finals in {"r1omni": (0.5, 0.6), "dapo": (0.7, 0.5), "gspo": (0.1, 0.99)}.items()
    }
    assert presets_page.recommended(runs) == "dapo"


def test_useful_groups() -> None:
    flat = {"curves": {"frac_reward_zero_std": [0.25, 1.0]}}
    assert presets_page.useful_share(flat) == [0.75, 0.0]
    refilled = {"curves": {"frac_reward_zero_std": [0.0, 0.0], "frac_dropped": [0.5, 0.75]}}
    assert presets_page.useful_share(refilled) == [0.5, 0.25]


@pytest.mark.parametrize("preset", compare_presets.PRESETS)
def test_every_preset_gets_as_many_rollouts(preset: str, tmp_path: Path) -> None:
    study = compare_presets.Study(tmp_path / "start", tmp_path / "out", rollouts=30, val_every=10)
    run = compare_presets.Run(preset, 1, tmp_path / preset)
    words = list(map(str, study.settings(run)))
    steps = int(words[words.index("--trainer.max_steps") + 1])
    assert steps == 30 * (4 if preset in ("dapo", "gspo", "cispo") else 1)
    assert words.count("--config") == (1 if preset == "r1omni" else 2)
    assert str(compare_presets.RATES[preset]) in words
