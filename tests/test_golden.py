"""Trainings give the curves that are recorded in `tests/golden/`.

A change that is meant is recorded by `scripts/record_golden.py NAME --reason "..."`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from golden_runs import GOLDEN, RUNS, differences, train


def test_every_recording_is_of_a_training_and_has_its_reasons() -> None:
    assert {file.stem for file in GOLDEN.glob("*.json")} == RUNS.keys()
    for file in GOLDEN.glob("*.json"):
        reasons = json.loads(file.read_text(encoding="utf-8"))["reasons"]
        assert reasons and all(isinstance(reason, str) and reason.strip() for reason in reasons)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all trainings: the tracking store takes longer to make than a curve."""
    return tmp_path_factory.mktemp("golden")


@pytest.mark.parametrize("name", RUNS)
def test_a_training_gives_its_recorded_curve(name: str, folder: Path) -> None:
    recorded = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    steps = recorded["steps"]
    # A curve that stands still would show nothing.
    for figure in ("loss", "grad_norm", "learning_rate"):
        assert len({step[figure] for step in steps}) > len(steps) // 2, figure
    if name != "sft":
        assert len({step["reward"] for step in steps}) > len(steps) // 3
        assert sum(step["kl"] > 1e-4 for step in steps) > len(steps) // 2
        assert len(set(recorded["completions"])) >= len(steps)
    if name == "grpo_reuse":
        assert len(recorded["completions"]) > len(steps)  # groups were replaced
    found = train(name, folder)
    said = differences(recorded, found)
    assert not said, (
        f"{name} on {found['machine']}, recorded on {recorded['machine']}; if the change is meant, "
        f"record it by scripts/record_golden.py {name} --reason ...:\n" + "\n".join(said[:12])
    )
