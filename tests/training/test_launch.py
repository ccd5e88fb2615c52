"""Two processes from the command line: the launch script and the overlays for several ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mlflow.tracking import MlflowClient

from r1omni.cli import main

REPOSITORY = Path(__file__).parents[2]


def _launch(
    mini_world: Path, run_dir: Path, *words: object, command: str = "fit", processes: int = 2
) -> subprocess.CompletedProcess[str]:
    line = [
        "scripts/launch_torchrun.sh", command, "--config", "configs/mini/r1omni.yaml", *words,
        "--trainer.accelerator", "cpu", "--trainer.devices", processes,
        "--trainer.default_root_dir", run_dir, "--trainer.log_every_n_steps", 1,
        "--trainer.enable_progress_bar", "false",
        "--model.init_args.init_from", mini_world / "init",
        "--model.init_args.grpo.max_new_tokens", 8, "--model.init_args.grpo.group_size", 4,
        "--model.init_args.grpo.rewards", "[{name: repetition, options: {ngram_size: 1}}]",
        "--data.root", mini_world / "world", "--data.loader.cache_dir", mini_world / "cache",
        "--data.loader.batch_size", 2, "--data.loader.decode_workers", 0,
        "--run.tracking_uri", f"sqlite:///{run_dir.parent / 'mlflow.db'}",
    ]  # fmt: skip
    environment = {
        **os.environ,
        "PROCESSES": str(processes),
        "OMP_NUM_THREADS": "1",
        "R1OMNI_VENV": str(Path(sys.executable).parents[1]),
        "PYTHONPATH": str(REPOSITORY / "src"),
    }
    return subprocess.run(
        list(map(str, line)), cwd=REPOSITORY, env=environment,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_a_sharded_run_goes_on_without_sharding(mini_world: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    sharding = "--trainer.strategy.init_args.sharding"
    begun = _launch(
        mini_world, run_dir, "--config", "configs/overlay/fsdp.yaml",
        f"{sharding}.param_dtype", "float32", "--trainer.max_steps", 2,
        "--trainer.strategy.init_args.sharded_checkpoint", "false",
    )  # fmt: skip
    assert begun.returncode == 0, begun.stderr[-3000:]
    assert (run_dir / "checkpoints" / "step_000002.ckpt").is_file()
    assert (run_dir / "model" / "model.safetensors").is_file()

    continued = _launch(
        mini_world, run_dir, "--config", "configs/overlay/ddp.yaml", "--trainer.max_steps", 4,
        "--ckpt_path", "last",
    )  # fmt: skip
    assert continued.returncode == 0, continued.stderr[-3000:]
    assert (run_dir / "checkpoints" / "step_000004.ckpt").is_file()

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    [run] = client.search_runs([e.experiment_id for e in client.search_experiments()])
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "reward")]
    assert len(steps) == len(set(steps)) == 4


def test_two_ranks_answer_like_one(mini_world: Path, tmp_path: Path) -> None:
    found = {}
    for processes, overlay in ((1, "ddp"), (2, "ddp"), (2, "fsdp")):
        run_dir = tmp_path / f"{overlay}_{processes}"
        dtype = "--trainer.strategy.init_args.sharding.param_dtype"
        done = _launch(
            mini_world, run_dir, "--config", f"configs/overlay/{overlay}.yaml",
            *((dtype, "float32") if overlay == "fsdp" else ()),
            "--data.conditions", "[full]", "--data.loader.eval_batch_size", 2,
            "--model.init_args.max_new_tokens", 4,
            command="test", processes=processes,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        files = sorted((run_dir / "test").rglob("*.json*"))
        found[overlay, processes] = {str(f.relative_to(run_dir)): f.read_text() for f in files}
    one = found["ddp", 1]
    assert len(one) == 4
    # One of the sets has to leave a remainder.
    assert any(len(text.splitlines()) % 2 for name, text in one.items() if "predictions" in name)
    assert found["ddp", 2] == found["fsdp", 2] == one


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
    assert "step_000002.ckpt is in shares" in line and "configs/overlay/fsdp.yaml" in line
