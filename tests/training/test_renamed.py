"""Every old name of an option or a metric is taken for the new one, with one warning."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from option_values import nested

from r1omni.ops import GRPOLossConfig, grpo_loss
from r1omni.rewards import reward_names
from r1omni.training.lightning_cli import R1OmniCLI
from r1omni.training.renamed import METRICS, OPTIONS, REWARDS, renamed_settings, with_new_names
from r1omni.training.resume import changed_settings, flat_settings
from r1omni.types import UsageError

CONFIG = Path(__file__).parents[2] / "configs" / "mini" / "label_sft.yaml"
VALUE = 0.25
# Went into another section, and is true or false.
SHARDED = {"class_path": "r1omni.training.FSDP2Strategy"}
MOVED = "trainer.strategy.sharding.activation_checkpointing"
VALUES = {old: True if old == MOVED else VALUE for old in OPTIONS}


def settings(args: list[str], patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The configuration of a command, by dotted name; no model is made."""
    patch.setattr(R1OmniCLI, "instantiate_classes", lambda self: None)
    cli = R1OmniCLI(["--config", str(CONFIG), *args], run=False)
    return flat_settings(yaml.safe_load(cli.parser.dump(cli.config, skip_none=False)))


def written(name: str) -> str:
    """An option with `init_args`, as files and checkpoints have it."""
    name = name.replace("trainer.strategy.", "trainer.strategy.init_args.")
    return name.replace("model.", "model.init_args.")


def forms(folder: Path) -> dict[str, list[str]]:
    """The ways to give options: all of the table, under their old names."""
    file = folder / "overlay.yaml"
    file.write_text(yaml.safe_dump(nested({written(old): VALUES[old] for old in OPTIONS})))
    sections = {written(old).rpartition(".")[0]: {} for old in OPTIONS}
    for old in OPTIONS:
        sections[written(old).rpartition(".")[0]][old.rpartition(".")[2]] = VALUES[old]
    return {
        "two words": [word for old in OPTIONS for word in (f"--{written(old)}", str(VALUES[old]))],
        "one word": [f"--{written(old)}={VALUES[old]}" for old in OPTIONS],
        "without init_args": [f"--{old}={VALUES[old]}" for old in OPTIONS],
        "sections": [f"--{name}={yaml.safe_dump(own)}" for name, own in sections.items()],
        "a file": ["--config", str(file)],
    }


def test_old_options_are_the_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "sharded.yaml"
    file.write_text(yaml.safe_dump(nested({"trainer.strategy": SHARDED})))
    base = ["--config", str(file)]
    known = settings(base, monkeypatch)
    assert all(written(new) in known and written(old) not in known for old, new in OPTIONS.items())
    assert not [r for r in caplog.records if r.name.startswith("r1omni.")]
    given = {written(new): VALUES[old] for old, new in OPTIONS.items()}
    for form, args in forms(tmp_path).items():
        caplog.clear()
        with caplog.at_level(logging.WARNING, "r1omni"):
            assert settings([*base, *args], monkeypatch) == {**known, **given}, form
        [record] = [r for r in caplog.records if r.name.startswith("r1omni.")]
        assert all(f"{old} is now {new}" in record.message for old, new in OPTIONS.items())
    # A checkpoint of the last release is resumed as if nothing had changed.
    old_names = {written(new): written(old) for old, new in OPTIONS.items()}
    recorded = {old_names.get(name, name): value for name, value in known.items()}
    assert recorded.keys() != known.keys()
    assert renamed_settings(recorded) == known
    assert changed_settings(recorded, known, Path("step_000001.ckpt")) == []


def test_both_names_are_refused(tmp_path: Path) -> None:
    for old, new in OPTIONS.items():
        file = tmp_path / "both.yaml"
        file.write_text(yaml.safe_dump(nested({written(old): 1, written(new): 2})))
        leaf = old.rpartition(".")[2]
        with pytest.raises(UsageError, match=rf"both\.yaml: {leaf} is (called|in model)"):
            with_new_names(["--config", str(file)])


def test_other_texts_stay_as_they_are(tmp_path: Path) -> None:
    """A user's reward may have an option of an old name; files without one are read from disk."""
    args = ["fit", "--config", str(CONFIG), "--seed_everything", "-1", "--data.train",
            "[{name: own, root: warmup_share}]", "--model.init_args.grpo.rewards",
            "[{name: mine:reward, options: {warmup_share: 1}}]",
            "--x", "{: final_share"]  # fmt: skip
    assert with_new_names(args) == args
    reference = tmp_path / "reference.yaml"
    reference.write_text("a: ${model.init_args.optimizer.warmup_share}\n")
    [_, content] = with_new_names(["--config", str(reference)])
    assert yaml.safe_load(content) == {"a": "${model.init_args.optimizer.warmup_ratio}"}


@pytest.mark.parametrize(("old", "new"), METRICS.items())
def test_an_old_metric_is_the_new_one(old: str, new: str) -> None:
    config = GRPOLossConfig(off_policy_mask_threshold=1.0)
    logps = torch.zeros(2, 3)
    metrics = grpo_loss(
        logps, torch.ones(2), torch.ones(2, 3), old_logps=logps, ref_logps=logps, config=config
    ).metrics
    assert new in metrics and old not in metrics
    option = "run.keep_best.metric"
    assert with_new_names([f"--{option}", old]) == [f"--{option}", new]
    assert with_new_names(["--run.keep_best", f"{{metric: {old}}}"])[1] == f"metric: {new}\n"
    assert renamed_settings({option: old}) == {option: new}


@pytest.mark.parametrize(("old", "new"), REWARDS.items())
def test_an_old_reward_is_the_new_one(
    old: str, new: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def config(name: str) -> list[dict[str, Any]]:
        gate = {"gate": {"reward": name, "threshold": 0.5}}
        mine = {"name": "mine:reward", "options": {"reward": old}}
        return [{"name": name, "weight": 0.5}, {"name": "format", "schedule": gate}, mine]

    assert new in reward_names() and old not in reward_names()
    file = tmp_path / "overlay.yaml"
    file.write_text(yaml.safe_dump({"model": {"init_args": {"grpo": {"rewards": config(old)}}}}))
    with caplog.at_level(logging.WARNING, "r1omni"):
        [_, content] = with_new_names(["--config", str(file)])
    assert yaml.safe_load(content)["model"]["init_args"]["grpo"]["rewards"] == config(new)
    assert f"reward {old} is now {new}" in caplog.text
    for flag in ("--model.grpo.rewards", "--model.init_args.grpo.rewards+"):
        for given, wanted in ((config(old), config(new)), (config(old)[1], config(new)[1])):
            [_, value] = with_new_names([flag, yaml.safe_dump(given, default_flow_style=True)])
            assert yaml.safe_load(value) == wanted
    metric = f"rewards/{old}/mean"
    assert with_new_names(["--run.keep_best.metric", metric])[1] == f"rewards/{new}/mean"
    settings = {"model.init_args.grpo.rewards": config(old), "run.keep_best.metric": metric}
    assert renamed_settings(settings) == {
        "model.init_args.grpo.rewards": config(new), "run.keep_best.metric": f"rewards/{new}/mean",
    }  # fmt: skip


@pytest.mark.parametrize("old", OPTIONS)
@pytest.mark.parametrize("joined", [False, True])
def test_both_names_on_one_command_line_are_refused(old: str, joined: bool) -> None:
    pair = [f"--{old}", f"--{OPTIONS[old]}"]
    for first, second in (pair, pair[::-1]):
        words = [f"{first}=0.1", f"{second}=0.2"] if joined else [first, "0.1", second, "0.2"]
        with pytest.raises(UsageError, match="both are given"):
            with_new_names(["fit", *words])
