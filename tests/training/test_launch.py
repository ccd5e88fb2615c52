"""Two processes from the command line: the launch script and the overlays for several ranks."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from compared import differences, position
from mlflow.tracking import MlflowClient
from small_training import short_grpo, terminated_once

from processes import ranks
from r1omni.cli import main

REPOSITORY = Path(__file__).parents[2]
# Sharding that computes in float32 and writes what a run without sharding writes.
WHOLE_FILE = (
    "--config", "configs/overlay/fsdp.yaml",
    "--trainer.strategy.init_args.sharding.param_dtype", "float32",
    "--trainer.strategy.init_args.sharded_checkpoint", "false",
)  # fmt: skip


def _line(
    mini_world: Path, run_dir: Path, command: str, *words: object, devices: int = 2
) -> list[str]:
    line = [
        command, "--config", "configs/mini/r1omni.yaml", *words,
        "--trainer.accelerator", "cpu", "--trainer.devices", devices,
        "--trainer.log_every_n_steps", 1, *short_grpo(mini_world, run_dir, "held"),
    ]  # fmt: skip
    return [str(word) for word in line]


def _launched(line: list[str], python: Path, **more: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PROCESSES": "2",
        "OMP_NUM_THREADS": "1",
        "R1OMNI_VENV": str(python.parents[1]),
        "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY / 'tests'}",
        **more,
    }
    script = ["scripts/launch_torchrun.sh", *line]
    return subprocess.Popen(
        script, cwd=REPOSITORY, env=environment, text=True, stderr=subprocess.PIPE
    )


def test_a_sharded_run_goes_on_without_sharding(mini_world: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    ranks(2, main, _line(mini_world, run_dir, "fit", *WHOLE_FILE, "--trainer.max_steps", 2))
    assert (run_dir / "checkpoints" / "step_000002.ckpt").is_file()
    assert (run_dir / "model" / "model.safetensors").is_file()

    resume = ("--config", "configs/overlay/ddp.yaml", "--ckpt_path", "last")
    ranks(2, main, _line(mini_world, run_dir, "fit", *resume, "--trainer.max_steps", 4))
    assert (run_dir / "checkpoints" / "step_000004.ckpt").is_file()

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    [run] = client.search_runs([e.experiment_id for e in client.search_experiments()])
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "reward")]
    assert len(steps) == len(set(steps)) == 4


def test_terminated_ranks_save_the_last_rollout(
    mini_world: Path, tmp_path: Path, forked_python: Path
) -> None:
    more = (*WHOLE_FILE, "--trainer.max_steps", 4)
    every = ("--run.checkpoint_every", 1, "--run.keep_checkpoints", 9)
    ranks(2, main, _line(mini_world, tmp_path / "whole", "fit", *more, *every))

    # Both ranks are in the reward of the third rollout, which would hold them for a minute.
    mark = tmp_path / "inside"
    line = _line(mini_world, tmp_path / "broken", "fit", *more)
    with _launched(line, forked_python, HOLD_AT="3", HOLD_MARK=str(mark)) as launched:
        terminated_once(mark, launched)  # the status is torchrun's
        errors = launched.communicate()[1]
    assert "terminated at step 2; resume with --ckpt_path last" in errors

    [saved] = (tmp_path / "broken" / "checkpoints").iterdir()
    found = torch.load(saved, weights_only=True)
    wanted = torch.load(tmp_path / "whole" / "checkpoints" / saved.name, weights_only=True)
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "r1omni", "global_step"):
        assert differences(found[part], wanted[part]) == [], part
    assert position(found) == position(wanted)


def test_two_ranks_answer_like_one(mini_world: Path, tmp_path: Path) -> None:
    more = ("--data.conditions", "[full, swapped]", "--data.loader.eval_batch_size", 2,
            "--data.answer_mode", "both", "--model.init_args.max_new_tokens", 4)  # fmt: skip
    one = _line(mini_world, tmp_path / "one", "test", *more, devices=1)
    assert main(one) == 0
    ranks(2, main, _line(mini_world, tmp_path / "two", "test", *more, *WHOLE_FILE))

    files = sorted((tmp_path / "one" / "test").rglob("*.json*"))
    assert len(files) == 7
    texts = [file.read_text() for file in files]
    assert any(len(text.splitlines()) % 2 for text in texts[:6]), "no set leaves a remainder"
    for file, text in zip(files, texts, strict=True):
        found = (tmp_path / "two" / file.relative_to(tmp_path / "one")).read_text()
        if file.name == "results.json":
            assert _apart(_of_any_ranks(text), _of_any_ranks(found)) == []
        else:
            lines = zip(text.splitlines(), found.splitlines(), strict=True)
            assert [_apart(*map(json.loads, pair)) for pair in lines] == [[]] * text.count("\n")


def _apart(one: Any, other: Any, place: str = "") -> list[str]:
    """Where two values differ: numbers by more than what the other prompts of a batch change."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [p for key in one for p in _apart(one[key], other[key], f"{place}/{key}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [p for index, pair in pairs for p in _apart(*pair, f"{place}/{index}")]
    if isinstance(one, float) and isinstance(other, float):
        return [] if abs(one - other) < 1e-5 else [place]
    return [] if one == other else [place]


def _of_any_ranks(results: str) -> dict[str, Any]:
    """Results without what they record of the run that made them."""
    values = json.loads(results)
    answers = values["provenance"].pop("answers")
    assert answers.pop("num_ranks") in (1, 2)
    del values["provenance"]["date"]
    for protocol in values["protocols"].values():
        del protocol["date"]
    return {**values, "answers": answers}


def test_shares_need_the_overlay(
    mini_world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shares = tmp_path / "checkpoints" / "step_000002.ckpt"
    shares.mkdir(parents=True)
    torch.save({"r1omni": {}}, shares / "values.pt")
    words = ["fit", "--config", REPOSITORY / "configs" / "mini" / "r1omni.yaml",
             "--trainer.default_root_dir", tmp_path, "--ckpt_path", "last",
             "--model.init_args.init_from", mini_world / "init"]  # fmt: skip
    assert main([str(word) for word in words]) == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert "step_000002.ckpt is sharded" in line and "configs/overlay/fsdp.yaml" in line
