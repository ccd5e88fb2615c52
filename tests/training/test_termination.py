"""SIGTERM in the middle of a rollout, Ctrl-C, and a full disk, as real processes meet them."""

from __future__ import annotations

import json
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.trainer.states import RunningStage, TrainerFn, TrainerState
from mlflow.tracking import MlflowClient
from safetensors.torch import load_file
from small_training import short_grpo, short_sft, terminated_once

from processes import Running
from r1omni.cli import main
from r1omni.training.callbacks import RunCheckpoint
from r1omni.training.termination import Termination
from r1omni.types import R1OmniError, RunStopped, Terminated

REPOSITORY = Path(__file__).parents[2]
# The rollout in whose reward the process waits for the signal.
HELD = 3


def command(mini_world: Path, run_dir: Path, *more: object) -> list[str]:
    words = [
        "fit", "--config", "configs/mini/r1omni.yaml",
        *short_grpo(mini_world, run_dir, "held"),
        "--trainer.max_steps", 8, "--trainer.log_every_n_steps", 1,
        "--model.init_args.grpo.steps_per_generation", 2,
        "--run.checkpoint_every", 100, *more,
    ]  # fmt: skip
    return [str(word) for word in words]


def test_a_terminated_rollout_is_begun_again(mini_world: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    process = Running(main, command(mini_world, whole), cwd=REPOSITORY, env=os.environ)
    assert process.wait() == 0, process.stderr

    mark = tmp_path / "inside"
    held = {**os.environ, "HOLD_AT": str(HELD), "HOLD_MARK": str(mark)}
    process = Running(main, command(mini_world, broken), cwd=REPOSITORY, env=held)
    assert terminated_once(mark, process) == 128 + signal.SIGTERM
    assert "terminated at step 4; resume with --ckpt_path last" in process.stderr
    assert [path.name for path in (broken / "checkpoints").iterdir()] == ["step_000004.ckpt"]

    # A disk on which nothing large fits: one line, and the old checkpoint stays.
    resume = command(mini_world, broken, "--ckpt_path", "last")
    full = Running(_on_a_small_disk, resume, cwd=REPOSITORY, env=os.environ)
    assert full.wait() == 1
    assert "step_000008.ckpt cannot be written" in full.stderr.splitlines()[-1]
    assert "step_000004.ckpt is whole" in full.stderr.splitlines()[-1]
    assert [path.name for path in (broken / "checkpoints").iterdir()] == ["step_000004.ckpt"]

    process = Running(main, resume, cwd=REPOSITORY, env=os.environ)
    assert process.wait() == 0, process.stderr
    wanted, found = (load_file(f / "model" / "model.safetensors") for f in (whole, broken))
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)

    # One run in MLflow with the figures of the unbroken one; what the run with the full disk could
    # not save was computed twice.
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")

    def rewards(folder: Path) -> dict[int, float]:
        run_id = (folder / "mlflow_run_id.txt").read_text().strip()
        return {m.step: m.value for m in client.get_metric_history(run_id, "reward")}

    assert len(rewards(whole)) == 4
    assert rewards(broken) == rewards(whole)


def _on_a_small_disk(words: list[str]) -> int:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**23, 2**23))
    return main(words)


class _FullDisk:
    """Stands for a trainer whose disk is full."""

    global_step, is_global_zero = 7, True

    def __init__(self, folder: Path) -> None:
        self.default_root_dir = str(folder)

    def save_checkpoint(self, path: Path, weights_only: bool) -> None:
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "step_000005.ckpt").write_bytes(b"old")
    trainer: Any = _FullDisk(tmp_path)
    with pytest.raises(R1OmniError, match=r"step_000007\.ckpt cannot be written") as caught:
        RunCheckpoint(every=1, keep=1).save_newer(trainer)
    message = str(caught.value)
    assert "\n" not in message
    assert "No space left" in message and "step_000005.ckpt is whole" in message
    assert [path.name for path in folder.iterdir()] == ["step_000005.ckpt"]


class _Shares:
    """Stands for a trainer whose ranks write shares."""

    global_step, is_global_zero = 7, True

    def __init__(self, folder: Path) -> None:
        self.default_root_dir = str(folder)
        self.times = 0

    def save_checkpoint(self, path: Path, weights_only: bool) -> None:
        self.times += 1
        path.mkdir(parents=True)
        (path / "values.pt").write_text(str(self.times))


def test_a_folder_of_shares_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    trainer: Any = _Shares(tmp_path)
    folder = tmp_path / "checkpoints"
    half = folder / "step_000007.partial"
    half.mkdir(parents=True)
    (half / "half of it").touch()  # of a run that was killed
    for times in ("1", "2"):  # the second in place of the first
        RunCheckpoint(every=1, keep=1).save_newer(trainer)
        [written] = folder.iterdir()
        assert written.name == "step_000007.ckpt"
        assert [(f.name, f.read_text()) for f in written.iterdir()] == [("values.pt", times)]


# Ctrl-C; `test_cut_points.py` has it in trainings too ----------------------------------------


@pytest.mark.parametrize(
    ("command", "hook"),
    [
        ("test", "on_test_batch_start"),
        ("predict", "on_predict_batch_start"),
        ("test", "setup"),  # before ours has a say, where Lightning would end with status 1
        ("fit", "on_fit_start"),
        ("fit", "on_train_batch_start"),
    ],
)
def test_ctrl_c(
    command: str,
    hook: str,
    mini_world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    is_trained = hook == "on_train_batch_start"
    options = {"hook": hook, "step": int(is_trained), "nth": 1, "by": "SIGINT"}
    cut = [{"class_path": "cut_points_job.Cut", "init_args": options}]
    before = signal.getsignal(signal.SIGINT)
    words = short_sft(
        mini_world, tmp_path / "run", "--trainer.callbacks", json.dumps(cut), "--trainer.logger",
        "false", "--trainer.max_steps", 3, "--data.conditions", "[full]", "--data.predict",
        "[{name: mafw, root: MAFW, split: test, sampling: 'first:2', options: {fold: 1}}]",
    )  # fmt: skip
    assert main([command, *words]) == 128 + signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("r1omni: error: interrupted")
    assert ("at step 1; resume with --ckpt_path last" in line) is is_trained
    saved = [path.name for path in tmp_path.rglob("step_*")]
    assert saved == (["step_000001.ckpt"] if is_trained else [])


class _Alone:
    """Stands for a trainer of one process."""

    global_step, is_global_zero, world_size = 7, True, 1
    state, checkpoint_callback = TrainerState(fn=TrainerFn.FITTING, stage=RunningStage.TRAINING), 1

    class strategy:
        launcher = None


def test_a_second_ctrl_c_ends_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    trainer: Any = _Alone()
    process = os.fork()
    if process == 0:
        termination = Termination(of_command=True)
        termination.setup(trainer, None, "fit")  # type: ignore[arg-type]
        termination._may_stop = False  # an optimizer step has begun
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 130
    said = capfd.readouterr().err
    assert "Ctrl-C again ends at once" in said and "interrupted twice" in said


def test_a_signal_after_another_kind_does_not_end_at_once() -> None:
    """A launcher sends SIGTERM to ranks that have seen the terminal's Ctrl-C."""
    trainer: Any = _Alone()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        termination = Termination()
        termination.setup(trainer, None, "fit")  # type: ignore[arg-type]
        termination._may_stop = False
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    stopped = termination._reason(trainer)
    assert isinstance(stopped, Terminated) and stopped.signum == signal.SIGTERM


class _TwoRanks:
    """Stands for a trainer of two ranks, the other of which says `other` where they agree."""

    world_size, global_step, checkpoint_callback = 2, 3, object()
    state = TrainerState(fn=TrainerFn.FITTING, stage=RunningStage.TRAINING)

    def __init__(self, other: list[bool]) -> None:
        self.strategy = self
        self.other = other

    def reduce_boolean_decision(self, decision: bool, **how: bool) -> bool:
        return decision or self.other.pop(0)


@pytest.mark.parametrize("is_own", [True, False])
def test_ranks_stop_together_where_one_cannot_go_on(is_own: bool) -> None:
    """First they agree on signals, then on work that cannot go on."""

    def work() -> str:
        if is_own:
            raise RunStopped("the budget is spent")
        return "done"

    termination = Termination(of_command=True)
    termination._trainer = _TwoRanks([False, not is_own])  # type: ignore[assignment]
    with pytest.raises(RunStopped) as caught:
        termination.give_up_together(work)
    reason = "the budget is spent" if is_own else "another rank cannot go on, and says why"
    assert str(caught.value) == f"{reason} (at step 3; resume with --ckpt_path last)"
    termination._trainer = _TwoRanks([False, False])  # type: ignore[assignment]
    if not is_own:
        assert termination.give_up_together(work) == "done"
