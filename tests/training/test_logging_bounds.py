"""What a run writes into the tracking store stays bounded, however long the run."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from r1omni.cli import main
from r1omni.rewards import reward_names
from r1omni.training.logger import RunConfig, TrackingLogger, read_figures
from r1omni.types import UsageError

REPOSITORY = Path(__file__).parents[2]


def arguments(mini_world: Path, out: Path, *more: object) -> list[str]:
    words = [
        "fit", "--config", REPOSITORY / "configs" / "mini" / "r1omni.yaml",
        "--trainer.default_root_dir", out / "run",
        "--trainer.enable_progress_bar", "false",
        "--trainer.max_steps", 7, "--trainer.log_every_n_steps", 1,
        "--model.init_args.init_from", mini_world / "init",
        "--model.init_args.grpo.max_new_tokens", 4, "--model.init_args.grpo.group_size", 2,
        "--data.root", mini_world / "world", "--data.loader.cache_dir", mini_world / "cache",
        "--data.loader.batch_size", 2, "--data.loader.decode_workers", 0,
        "--run.tracking_uri", f"sqlite:///{out / 'mlflow.db'}", *more,
    ]  # fmt: skip
    return [str(word) for word in words]


def test_curves_and_completions_have_so_many_points_and_no_more(
    mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts
    bounds = ("--run.max_logged_steps", 4, "--model.init_args.grpo.log_completions_every", 1,
              "--model.init_args.grpo.max_completion_logs", 3, "--model.init_args.grpo.rewards",
              "[{name: 'rewards_of_tests:length'}]")  # fmt: skip
    assert main(arguments(mini_world, tmp_path, *bounds)) == 0
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run_id = (tmp_path / "run" / "mlflow_run_id.txt").read_text(encoding="utf-8").strip()
    # Seven steps: a row every second step, a file every third rollout.
    assert [metric.step for metric in client.get_metric_history(run_id, "loss")] == [1, 3, 5]
    files = [Path(artifact.path).name for artifact in client.list_artifacts(run_id, "completions")]
    assert files == [f"step_{step:06d}.jsonl" for step in (0, 3, 6)]
    # The file in the run's folder has the same figures, and a reward of one's own its own name.
    lines = read_figures(tmp_path / "run" / "metrics.jsonl")
    assert [line.step for line in lines if "loss" in line.metrics] == [1, 3, 5]
    run = client.get_run(run_id).data
    assert {name for line in lines for name in line.metrics} == run.metrics.keys()
    assert "rewards/rewards_of_tests:length/mean" in run.metrics
    wanted = {"stage": "GRPO", "group_size": "2", "batch_size": "2", "max_steps": "7",
              "rewards": "1 rewards_of_tests:length", "model": str(mini_world / "init"),
              "loss_type": "grpo", "precision": "32-true"}  # fmt: skip
    assert {name: run.params[name] for name in wanted} == wanted
    assert {"train", "trained", "learning_rate", "beta", "seed"} <= run.params.keys()
    assert len(run.params) < 20


def test_rewards_of_ones_own_keep_their_names(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    logger = TrackingLogger(RunConfig(tracking_uri=uri), tmp_path, continue_run=False)
    logger.start(training=True)
    names = [
        f"rewards/{reward}/mean"
        for reward in (*reward_names(), "rewards_of_tests:length", "a_b.c_d:é", "ab.cd:e")
    ]
    logger.log_metrics({name: float(index) for index, name in enumerate(names)}, step=3)
    logger.log_metrics({name: 0.5 for name in names}, step=4)
    client = MlflowClient(uri)
    for index, name in enumerate(names):
        found = client.get_metric_history(str(logger.version), name)
        assert [(metric.step, metric.value) for metric in found] == [(3, index), (4, 0.5)], name


def test_a_bound_is_at_least_one() -> None:
    with pytest.raises(UsageError, match=r"run\.max_logged_steps is 0"):
        RunConfig(max_logged_steps=0)


def test_a_run_ends_by_steps(
    mini_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(mini_world, tmp_path, "--trainer.max_epochs", 2)) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "trainer.max_epochs is 2" in message and "max_steps" in message
    assert not (tmp_path / "run").exists()
