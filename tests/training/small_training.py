"""A few optimizer steps of training on a small world: what tests of training share."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from processes import Running
from r1omni.data import DatasetSpec, EmotionDataModule
from r1omni.data.loader_config import LoaderConfig
from r1omni.models.adapters import LoRAConfig
from r1omni.rewards import RewardSpec
from r1omni.training import GRPOConfig, GRPOModule, OptimizerConfig, SFTModule
from r1omni.training.module import EmotionModule

SGD_LIKE = OptimizerConfig(learning_rate=1e-3, schedule="constant", warmup_ratio=0.0)
# Fresh weights never answer in tags: a reward of length gives something to learn from.
EXPERT = [DatasetSpec("dfew", "DFEW", sampling="first:8", options={"fold": 1})]
BASE = GRPOConfig(
    group_size=4,
    max_new_tokens=8,
    rewards=[RewardSpec("rewards_of_tests:length"), RewardSpec("format")],
    log_completions_every=0,
)
Weights = dict[str, Tensor]


def fit(
    mini_world: Path,
    run_dir: Path,
    grpo: GRPOConfig | None = BASE,
    steps: int = 1,
    batch_size: int = 4,
    ckpt_path: Path | None = None,
    seen: type[EmotionModule] | None = None,
    lora: LoRAConfig | None = None,
    optimizer: OptimizerConfig = SGD_LIKE,
    expert: list[DatasetSpec] | None = None,
    model: Mapping[str, Any] | None = None,
    **trainer: Any,
) -> Any:
    """Train for some optimizer steps, by SFT where `grpo` is None; `seen` is another class for it.

    `expert` are data sets to imitate, by GRPO with `chord`.
    Further arguments are the trainer's; `model` has further ones of the module.

    Returns:
        the module, its trainer attached.
    """
    torch.manual_seed(0)  # of fresh adapters; completions have seeds of their own
    settings: dict[str, Any] = {"optimizer": optimizer, "lora": lora, **(model or {})}
    if grpo is not None:
        settings["grpo"] = grpo
    kind = seen or (SFTModule if grpo is None else GRPOModule)
    module = kind(str(mini_world / "init"), **settings)
    data = EmotionDataModule(
        root=str(mini_world / "world"),
        train=[DatasetSpec("mafw", "MAFW", sampling="first:8", options={"fold": 1})],
        expert=expert,
        loader=LoaderConfig(
            batch_size=batch_size, decode_workers=0, cache_dir=str(mini_world / "cache")
        ),
    )
    options: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    options |= trainer
    L.Trainer(
        max_steps=steps,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=run_dir,
        **options,
    ).fit(module, data, ckpt_path=ckpt_path, weights_only=True)
    return module


def short_grpo(mini_world: Path, run_dir: Path, reward: str) -> tuple[object, ...]:
    """Options that make a run of seconds of `configs/mini/r1omni.yaml`."""
    return (
        "--trainer.default_root_dir", run_dir, "--trainer.enable_progress_bar", "false",
        "--model.init_args.init_from", mini_world / "init",
        "--model.init_args.grpo.max_new_tokens", 8, "--model.init_args.grpo.group_size", 4,
        "--model.init_args.grpo.rewards", f"[{{name: 'rewards_of_tests:{reward}'}}]",
        "--data.root", mini_world / "world", "--data.loader.cache_dir", mini_world / "cache",
        "--data.loader.batch_size", 2, "--data.loader.decode_workers", 0,
        "--run.tracking_uri", f"sqlite:///{run_dir.parent / 'mlflow.db'}",
    )  # fmt: skip


def short_sft(mini_world: Path, run_dir: Path, *more: object) -> list[str]:
    """Options that make a run of a second of `configs/mini/emer_sft.yaml`; `more` may overrule."""
    words = [
        "--config", Path(__file__).parents[2] / "configs" / "mini" / "emer_sft.yaml",
        "--trainer.default_root_dir", run_dir, "--trainer.enable_progress_bar", "false",
        "--trainer.max_steps", 1, "--trainer.log_every_n_steps", 1,
        "--model.init_args.init_from", mini_world / "init", "--model.init_args.max_new_tokens", 4,
        "--data.root", mini_world / "world", "--data.loader.cache_dir", mini_world / "cache",
        "--data.train", "[{name: mafw, root: MAFW, sampling: 'first:8', options: {fold: 1}}]",
        "--data.loader.batch_size", 2, "--data.loader.decode_workers", 0,
        "--run.tracking_uri", f"sqlite:///{run_dir.parent / 'mlflow.db'}", *more,
    ]  # fmt: skip
    return [str(word) for word in words]


def terminated_once(mark: Path, process: Running | subprocess.Popen[str]) -> int:
    """The exit status of a process that gets SIGTERM when it has made the file `mark`."""
    while not mark.exists():
        assert process.poll() is None, process.stderr
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    # Far less than the minute that `rewards_of_tests:held` would have waited.
    return process.wait(timeout=30)


def weights(module: GRPOModule) -> Weights:
    return {name: p.detach().clone() for name, p in module.model.named_parameters()}


def moments(module: GRPOModule) -> Tensor:
    """Adam's first moment, a tenth of the gradient after one step."""
    state: Any = module.trainer.optimizers[0].state_dict()["state"]
    return torch.cat([entry["exp_avg"].flatten() for entry in state.values()])


def logged(module: GRPOModule) -> dict[str, float]:
    return {name: float(value) for name, value in module.trainer.callback_metrics.items()}
