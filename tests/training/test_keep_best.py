"""`run.keep_best`: the best step's checkpoint stays, and a resumed run makes the same choice."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from small_training import short_sft

from r1omni.cli import main
from r1omni.training.checkpoints import resolve_checkpoint, saved_checkpoints
from r1omni.training.logger import KeepBest
from r1omni.types import UsageError

# What validation finds after each step; the best is that of step 3, in the middle.
FIGURES = {1: 0.2, 2: 0.1, 3: 0.6, 4: 0.5, 5: 0.6, 6: float("nan")}


class Figure(L.Callback):
    """Logs a figure of validation that is known beforehand, and may end the process in one.

    Args:
        die_at: the step in whose validation the run is given up.
    """

    def __init__(self, die_at: int | None = None) -> None:
        self.die_at = die_at

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_step == self.die_at:
            raise KeyError("the run ends here")
        pl_module.log("figure", FIGURES[trainer.global_step], rank_zero_only=True)


@dataclass
class Runs:
    """Runs of six steps with a validation after each."""

    mini_world: Path
    folder: Path

    def fit(
        self, name: str, *more: object, die_at: int | None = None, metric: str = "figure"
    ) -> int:
        callback = {"class_path": "test_keep_best.Figure", "init_args": {"die_at": die_at}}
        words = short_sft(
            self.mini_world, self.folder / name, "--trainer.max_steps", 6,
            "--trainer.callbacks", json.dumps([callback]),
            "--trainer.check_val_every_n_epoch", "null", "--trainer.val_check_interval", 1,
            "--data.val",
            "[{name: mafw, root: MAFW, split: test, sampling: 'first:2', options: {fold: 1}}]",
            "--run.checkpoint_every", 1, "--trainer.logger", "false",
            "--run.keep_best", json.dumps({"metric": metric, "mode": "max"}), *more,
        )  # fmt: skip
        return main(["fit", *words])

    def kept(self, name: str) -> list[int]:
        return list(saved_checkpoints(self.folder / name))

    def best(self, name: str) -> dict[str, Any]:
        newest = list(saved_checkpoints(self.folder / name).values())[-1]
        return torch.load(newest, weights_only=True)["run"]["best"]


@pytest.fixture
def runs(mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return Runs(mini_world, tmp_path)


def test_the_best_step_stays_through_pruning_and_resume(runs: Runs) -> None:
    best = {"metric": "figure", "mode": "max", "value": pytest.approx(0.6), "step": 3}
    assert runs.fit("whole") == 0
    assert runs.kept("whole") == [3, 6]
    assert runs.best("whole") == best

    # Given up in the validation after the checkpoint of a step: that validation is made again.
    assert runs.fit("cut", die_at=2) == 1
    assert runs.kept("cut") == [1, 2]  # the first figure is the best of one
    assert runs.fit("cut", "--ckpt_path", "last", die_at=4) == 1
    assert runs.kept("cut") == [3, 4]
    assert runs.best("cut")["step"] == 3
    assert runs.fit("cut", "--ckpt_path", "last") == 0
    assert runs.kept("cut") == [3, 6]
    assert runs.best("cut") == best

    found = resolve_checkpoint("best", runs.folder / "cut")
    assert found.name == "step_000003.ckpt"
    one, two = (
        torch.load(runs.folder / name / "checkpoints" / found.name, weights_only=True)["state_dict"]
        for name in ("whole", "cut")
    )
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_validation_that_was_due_is_made_by_the_resumed_run(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figure of a step whose validation was cut off decides as if it had not been."""
    monkeypatch.setitem(FIGURES, 2, 0.9)
    assert runs.fit("cut", die_at=2) == 1
    assert runs.best("cut")["step"] == 1
    assert runs.fit("cut", "--ckpt_path", "last") == 0
    assert runs.best("cut")["step"] == 2
    assert runs.kept("cut") == [2, 6]


def test_a_figure_that_is_never_logged(runs: Runs, capfd: pytest.CaptureFixture[str]) -> None:
    assert runs.fit("run", metric="val/mafw/wra") == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert "val/mafw/wra is never logged" in line and "val/mafw/war" in line
    assert runs.kept("run") == []
    # One that a callback might log is known to be missing after the first validation.
    assert runs.fit("run", metric="figures") == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert "figures is never logged" in line and "val/mafw/uar" in line
    assert runs.kept("run") == [1]  # nothing is lost
    # Direct answers are judged where there are some.
    assert runs.fit("direct", metric="val/mafw/direct_uar") == 2
    assert "direct_uar is never logged" in capfd.readouterr().err
    mode, once = ("--data.answer_mode", "both"), ("--trainer.max_steps", 1)
    assert runs.fit("direct", *mode, *once, metric="val/mafw/direct_uar") == 0
    assert runs.best("direct")["metric"] == "val/mafw/direct_uar"
    assert runs.fit("empty", "--data.val", "null") == 2
    assert "set data.val" in capfd.readouterr().err


def test_modes() -> None:
    assert KeepBest("x", "max").is_better(2.0, 1.0) and KeepBest("x", "min").is_better(1.0, 2.0)
    for mode in ("max", "min"):
        assert not KeepBest("x", mode).is_better(1.0, 1.0)  # the earlier one stays
    with pytest.raises(UsageError, match=r"run\.keep_best\.mode"):
        KeepBest("x", "best")  # type: ignore[arg-type]
