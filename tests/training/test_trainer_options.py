"""Every option of Lightning's Trainer reaches it as it was given, or is refused by name."""

from __future__ import annotations

import inspect
import json
import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.callbacks import EarlyStopping, TQDMProgressBar
from lightning.pytorch.cli import LightningCLI
from small_training import short_sft

from r1omni.cli import main
from r1omni.training.lightning_cli import R1OmniCLI, logging_interval
from r1omni.training.trainer_options import RANGES, REFUSED, check_trainer_options
from r1omni.types import UsageError

_CALLBACKS = "lightning.pytorch.callbacks"
# A value other than the default for each option that reaches the Trainer.
HONOURED: dict[str, Any] = {
    "accelerator": "cpu",
    "strategy": "ddp",
    "devices": 2,
    "num_nodes": 2,
    "precision": "bf16-mixed",
    "logger": False,
    "callbacks": [
        {"class_path": f"{_CALLBACKS}.EarlyStopping", "init_args": {"monitor": "val/dfew/uar"}},
        {"class_path": f"{_CALLBACKS}.TQDMProgressBar", "init_args": {"refresh_rate": 7}},
    ],
    "min_epochs": 1,
    "max_steps": 3,
    "min_steps": 2,
    "max_time": {"minutes": 1},
    "limit_train_batches": 3,
    "limit_val_batches": 3,
    "limit_test_batches": 3,
    "limit_predict_batches": 3,
    "val_check_interval": 3,
    "check_val_every_n_epoch": 3,
    "num_sanity_val_steps": 3,
    "log_every_n_steps": 3,
    "enable_progress_bar": True,
    "enable_model_summary": True,
    "accumulate_grad_batches": 3,
    "gradient_clip_val": 3.0,
    "gradient_clip_algorithm": "value",
    "deterministic": True,
    "benchmark": True,
    "inference_mode": False,
    "profiler": "simple",
    "detect_anomaly": True,
    "sync_batchnorm": True,
    "default_root_dir": "run",
    "enable_autolog_hparams": False,
    # Read by r1omni itself: it writes nothing then (`test_a_fast_dev_run_leaves_nothing`).
    "fast_dev_run": True,
    # Its only other value is what a run does anyway.
    "enable_checkpointing": True,
}
REFUSED_VALUES: dict[str, Any] = {
    "logger": {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {}},
    "callbacks": [{"class_path": f"{_CALLBACKS}.ModelCheckpoint", "init_args": {}}],
    "plugins": [{"class_path": "lightning.fabric.plugins.TorchCheckpointIO"}],
    "enable_checkpointing": False,
    "max_epochs": 2,
    "overfit_batches": 2,
    "use_distributed_sampler": True,
    "reload_dataloaders_every_n_epochs": 1,
    "barebones": True,
    "model_registry": "somebody/model",
}


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("name", sorted(RANGES))
def test_a_number_that_would_train_nothing_or_fail_midway_is_refused(name: str, value: int) -> None:
    if value in RANGES[name]:
        check_trainer_options({name: value}, "fit")
    else:
        with pytest.raises(UsageError, match=f"trainer.{name} is {value}; it must be a number"):
            check_trainer_options({name: value}, "fit")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("validate", "limit_val_batches"),
        ("test", "limit_test_batches"),
        ("predict", "limit_predict_batches"),
    ],
)
def test_an_evaluation_of_no_batch_is_refused(command: str, name: str) -> None:
    with pytest.raises(UsageError, match=f"trainer.{name} is 0"):
        check_trainer_options({name: 0}, command)
    check_trainer_options({name: 0}, "fit")


def test_every_option_has_a_place() -> None:
    options = set(inspect.signature(L.Trainer.__init__).parameters) - {"self"}
    assert options == HONOURED.keys() | REFUSED.keys()
    assert REFUSED_VALUES.keys() == REFUSED.keys()


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match=rf"^trainer\.{name} is ") as caught:
        check_trainer_options({name: REFUSED_VALUES[name]}, "fit")
    assert "\n" not in str(caught.value)
    default = inspect.signature(L.Trainer.__init__).parameters[name].default
    ours = {"use_distributed_sampler": False}.get(name, default)
    check_trainer_options({name: ours}, "fit")


def test_an_algorithm_without_a_limit_clips_nothing() -> None:
    with pytest.raises(UsageError, match="gradient_clip_algorithm"):
        check_trainer_options({"gradient_clip_algorithm": "norm"}, "fit")


class _Seen(Exception):
    """Ends a command where the Trainer would be made."""


def test_honoured_as_given(
    mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def see(self: Any, options: dict[str, Any], callbacks: Any) -> None:
        raise _Seen(options)

    monkeypatch.setattr(LightningCLI, "_instantiate_trainer", see)
    given = {k: v for k, v in HONOURED.items() if k not in ("fast_dev_run", "enable_checkpointing")}
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in given.items()}
    words = [f"--trainer.{name}={text}" for name, text in texts.items()]
    with pytest.raises(_Seen) as caught:
        R1OmniCLI(["fit", *short_sft(mini_world, tmp_path / "run"), *words])
    found: dict[str, Any] = caught.value.args[0]
    stopping, bar, *ours = found.pop("callbacks")
    assert isinstance(stopping, EarlyStopping) and stopping.monitor == "val/dfew/uar"
    assert isinstance(bar, TQDMProgressBar) and bar.refresh_rate == 7
    assert not any(isinstance(callback, TQDMProgressBar) for callback in ours)
    assert found.pop("default_root_dir") in ("run", str(Path("run").absolute()))
    assert found.pop("max_time") in ({"minutes": 1}, timedelta(minutes=1))
    assert found.pop("devices") in (2, "2")
    names = given.keys() - {"callbacks", "default_root_dir", "max_time", "devices"}
    assert {name: found[name] for name in names} == {name: given[name] for name in names}


def test_a_fast_dev_run_leaves_nothing(
    mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = short_sft(mini_world, tmp_path / "run", "--trainer.fast_dev_run", "true")
    assert main(["fit", *words]) == 0
    assert main(["test", *words, "--data.conditions", "[full]"]) == 0
    assert list(tmp_path.iterdir()) == []


def test_logger_false_logs_nothing_and_user_bars_stay(
    mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bar = [{"class_path": f"{_CALLBACKS}.TQDMProgressBar", "init_args": {"refresh_rate": 7}}]
    words = short_sft(
        mini_world, tmp_path / "run", "--trainer.logger", "false", "--trainer.enable_progress_bar",
        "true", "--trainer.callbacks", json.dumps(bar),
    )  # fmt: skip
    cli = R1OmniCLI(["fit", *words])
    assert isinstance(cli.trainer.progress_bar_callback, TQDMProgressBar)
    assert cli.trainer.progress_bar_callback.refresh_rate == 7
    assert cli.trainer.loggers == []
    written = {path.name for path in tmp_path.rglob("*")}
    assert {"checkpoints", "model", "config_fit.yaml"} <= written
    assert not [name for name in written if "mlflow" in name or "mlruns" in name]


def test_wider_logging_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "r1omni"):
        assert logging_interval(9, 2, 5) == 2
        assert logging_interval(-1, None, 5) == L.Trainer(accelerator="cpu").log_every_n_steps  # type: ignore[attr-defined]
        assert "figures are logged" not in caplog.text
        assert logging_interval(9, 2, 3) == 3
    assert "every 3 steps, not every 2 (trainer.log_every_n_steps)" in caplog.text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed_everything", -1),
        ("seed_everything", 2**40),
        ("trainer.devices", 0),
        ("trainer.accelerator", "foo"),
        ("trainer.strategy", "foo"),
        ("trainer.max_time", "abc"),
    ],
)
def test_what_lightning_refuses_is_one_line_and_wrong_use(
    mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], key: str, value: object,
) -> None:  # fmt: skip
    monkeypatch.chdir(Path(__file__).parents[2])
    words = ["fit", "--config", "configs/mini/base.yaml", f"--{key}={value}",
             "--model.init_args.init_from", str(mini_world / "init"),
             "--trainer.default_root_dir", str(tmp_path / "run")]  # fmt: skip
    assert main(words) == 2
    [line] = [line for line in capfd.readouterr().err.splitlines() if "error:" in line]
    assert key.split(".")[0] in line and "--debug" not in line
    assert not (tmp_path / "run").exists()
