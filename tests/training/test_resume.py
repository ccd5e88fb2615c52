"""A run goes on with the settings that are given, says which differ, and refuses what cannot be."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small_training import fit, short_sft

from r1omni.cli import main
from r1omni.training.lightning_cli import R1OmniCLI
from r1omni.training.optimization import OptimizerConfig
from r1omni.training.resume import FIXED, changed_settings, check_steps_left, flat_settings
from r1omni.types import R1OmniError, UsageError

CHECKPOINT = Path("step_000002.ckpt")


def _other(value: Any) -> Any:
    """A value that differs."""
    if isinstance(value, bool) or value is None:
        return not value
    return value + 1 if isinstance(value, (int, float)) else [value]


def test_every_setting_that_differs_is_said_or_refused(mini_world: Path, tmp_path: Path) -> None:
    """Walks the whole configuration, defaults included, of SFT and of GRPO."""
    run = short_sft(mini_world, tmp_path / "run")
    grpo = ["--config", "configs/mini/r1omni.yaml", *run[2:]]
    walked: set[str] = set()
    for words in (run, [str(Path(__file__).parents[2] / w) if "/mini/" in w else w for w in grpo]):
        cli = R1OmniCLI(words, run=False)
        text = cli.parser.dump(cli.config, skip_none=False)
        settings = flat_settings(yaml.safe_load(text))
        assert len(settings) > 70
        assert not [name for name in settings if "tracking_uri" in name or "root_dir" in name]
        assert changed_settings(settings, settings, CHECKPOINT) == []
        for name, value in settings.items():
            changed = {**settings, name: _other(value)}
            if name.startswith(FIXED):
                with pytest.raises(UsageError, match=name.replace(".", r"\.")) as caught:
                    changed_settings(settings, changed, CHECKPOINT)
                assert "\n" not in str(caught.value)
            else:
                [said] = changed_settings(settings, changed, CHECKPOINT)
                assert said == f"{name}: {value} -> {_other(value)}"
        walked |= settings.keys()
    assert [name for name in FIXED if not any(s.startswith(name) for s in walked)] == []


def test_a_section_that_appears_is_told_by_its_entries() -> None:
    without, adapters = {"a": 1, "b": None}, {"a": 1, "b.rank": 4}
    assert changed_settings(without, adapters, CHECKPOINT) == ["b.rank: unset -> 4"]
    assert changed_settings(adapters, without, CHECKPOINT) == ["b.rank: 4 -> unset"]


def test_nothing_left_to_do(tmp_path: Path) -> None:
    checkpoint, model = tmp_path / "step_000004.ckpt", tmp_path / "model"
    checkpoint.touch()
    check_steps_left(checkpoint, 4, 5, tmp_path)
    check_steps_left(checkpoint, 4, 4, tmp_path)  # its model folder is to be written
    model.mkdir()
    weights = model / "model.safetensors"
    weights.touch()
    later = checkpoint.stat().st_mtime + 1
    os.utime(weights, (later, later))
    for max_steps in (4, 3):
        with pytest.raises(UsageError, match=rf"trainer\.max_steps is {max_steps}, but .* 4 steps"):
            check_steps_left(checkpoint, 4, max_steps, tmp_path)
    os.utime(weights, (later - 2, later - 2))  # of an earlier end of the run
    check_steps_left(checkpoint, 4, 4, tmp_path)


def rates(module: Any) -> list[tuple[float, float, Any]]:
    groups = module.trainer.optimizers[0].param_groups
    return [(g["lr"], g["weight_decay"], g["betas"]) for g in groups]


@pytest.mark.parametrize("is_grpo", [False, True])
def test_given_rates_take_effect_at_their_place(
    is_grpo: bool, mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed run has the rate, decay and betas of one that was begun with them."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    new = OptimizerConfig(
        learning_rate=1e-4, weight_decay=0.3, adam_betas=(0.7, 0.8), warmup_ratio=0.0,
        schedule="linear", projector_lr_scale=3.0,
    )  # fmt: skip
    options: dict[str, Any] = {"batch_size": 2} if is_grpo else {"batch_size": 2, "grpo": None}
    begun = fit(mini_world, tmp_path, steps=1, **options)
    begun.trainer.save_checkpoint(tmp_path / "one.ckpt")
    resumed = fit(
        mini_world, tmp_path, steps=3, ckpt_path=tmp_path / "one.ckpt", optimizer=new, **options
    )
    wanted = fit(mini_world, tmp_path, steps=3, optimizer=new, **options)
    assert rates(resumed) == rates(wanted)
    assert rates(resumed) != rates(begun)
    before = torch.load(tmp_path / "one.ckpt", weights_only=True)
    assert before["optimizer_states"][0]["param_groups"][0]["lr"] == 1e-3


def test_another_start_is_refused(mini_world: Path, tmp_path: Path) -> None:
    begun = fit(mini_world, tmp_path, None, batch_size=2)
    begun.trainer.save_checkpoint(tmp_path / "one.ckpt")
    resume: dict[str, Any] = {"steps": 2, "batch_size": 2, "ckpt_path": tmp_path / "one.ckpt"}
    moved = tmp_path / "moved"
    moved.symlink_to(mini_world)
    fit(moved, tmp_path, None, **resume)  # the same weights in another place
    other = tmp_path / "other"
    other.mkdir()
    for name in ("world", "cache"):
        (other / name).symlink_to(mini_world / name)
    begun.omni.save_pretrained(other / "init")
    with pytest.raises(R1OmniError, match="init has other weights"):
        fit(other, tmp_path, None, **resume)


def test_what_the_command_line_says(
    mini_world: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def run(*more: object) -> tuple[int, str]:
        status = main(["fit", *short_sft(mini_world, tmp_path / "run", *more)])
        return status, capfd.readouterr().err

    resume = ("--ckpt_path", "last")
    assert run()[0] == 0
    status, said = run(*resume)
    assert status == 2 and "trainer.max_steps is 1" in said
    status, said = run(*resume, "--trainer.max_steps", 2, "--seed_everything", 5)
    assert status == 2 and "seed_everything: 0 -> 5" in said
    status, said = run(*resume, "--trainer.max_steps", 2, "--trainer.fast_dev_run", "true")
    assert status == 2 and "fast_dev_run" in said
    rate = "model.init_args.optimizer.learning_rate"
    status, said = run(*resume, "--trainer.max_steps", 2, f"--{rate}", 0.5)
    assert status == 0
    [line] = [r.getMessage() for r in caplog.records if "other settings" in r.getMessage()]
    assert f"{rate}: 0.001 -> 0.5" in line and "trainer.max_steps: 1 -> 2" in line
    assert line.count("->") == 2
    checkpoint = torch.load(tmp_path / "run/checkpoints/step_000002.ckpt", weights_only=True)
    assert checkpoint["run"]["settings"][rate] == 0.5
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["initial_lr"] == 0.5
