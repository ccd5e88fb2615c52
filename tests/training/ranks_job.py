"""One rank of `test_ranks.py`: trains each case and writes what came of it.

python -m torch.distributed.run --nproc-per-node 2 ranks_job.py WORLD OUT
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy
from small_training import BASE, fit

from r1omni.models.adapters import LoRAConfig
from r1omni.models.parallelize import ShardingConfig, whole
from r1omni.ops import GRPOLossConfig
from r1omni.training import FSDP2Strategy, GRPOConfig

STEPS = 2
SFT = None
# What is trained -> its configuration.
TRAININGS: dict[str, GRPOConfig | None] = {
    "sft": SFT,
    "grpo": BASE,
    "bnpo": replace(BASE, loss=GRPOLossConfig(loss_type="bnpo")),
    "dapo": replace(BASE, loss=GRPOLossConfig(loss_type="dapo", beta=0.0, epsilon_high=0.28)),
    "dr_grpo": replace(
        BASE,
        scale_rewards="none",
        loss=GRPOLossConfig(loss_type="dr_grpo", max_completion_length=8),
    ),
    "cispo": replace(BASE, loss=GRPOLossConfig(loss_type="cispo", epsilon_high=5.0)),
    "scaled by the batch": replace(BASE, scale_rewards="batch"),
    "two updates in parts": replace(BASE, num_iterations=2, micro_batch_size=1),
    "a moved reference": replace(BASE, ref_sync_steps=2, ref_mixup_alpha=0.5),
    "adapters": BASE,
    # Most groups of so short completions are alike.
    "refilled": replace(BASE, max_new_tokens=2, group_size=2, max_refills=2),
}
# Ranks draw other prompts than one process would, unless each has a part in all of them.
DRAWN_BY_RANK = "refilled, ddp"


@dataclass(frozen=True)
class Case:
    """One training on two ranks; `sharding` None is DDP."""

    training: str
    sharding: ShardingConfig | None = None
    groups_across_ranks: bool = False


SPREAD = ("grpo", "bnpo", "scaled by the batch", "two updates in parts", "refilled")
EVERYTHING = ShardingConfig(
    activation_checkpointing=True,
    compile_backend="aot_eager",
    shard_frozen_towers=True,
    shard_reference=False,
)
SHARDED = ("sft", "grpo", "dapo", "two updates in parts", "a moved reference", "adapters")
CASES: dict[str, Case] = {
    **{f"{name}, ddp": Case(name) for name in TRAININGS},
    **{f"{name}, fsdp": Case(name, ShardingConfig()) for name in SHARDED},
    **{f"{name}, groups across ranks": Case(name, None, True) for name in SPREAD},
    "grpo, fsdp, groups across ranks": Case("grpo", ShardingConfig(), True),
    "sft, fsdp with everything": Case("sft", EVERYTHING),
    "grpo, fsdp with everything": Case("grpo", EVERYTHING),
}


class _Losses(L.Callback):
    """The loss of each step, over all ranks."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.values.append(float(trainer.callback_metrics["loss"]))


def train(
    world: Path,
    out: Path,
    name: str,
    num_ranks: int,
    groups_across_ranks: bool = False,
    **trainer: Any,
) -> dict[str, Any]:
    """Losses, and the whole of every trained weight, of a training on 4 prompts a step."""
    losses = _Losses()
    grpo = TRAININGS[name]
    module = fit(
        world,
        out,
        grpo and replace(grpo, groups_across_ranks=groups_across_ranks),
        STEPS * (2 if "two updates" in name else 1),
        batch_size=4 // num_ranks,
        lora=LoRAConfig(rank=4, alpha=16) if name == "adapters" else None,
        callbacks=[losses],
        **trainer,
    )
    weights = {n: whole(p.detach()) for n, p in module.model.named_parameters() if p.requires_grad}
    return {"losses": torch.tensor(losses.values), "weights": weights}


def train_one_rank(world: Path, out: Path) -> dict[str, dict[str, Any]]:
    return {name: train(world, out, name, 1) for name in TRAININGS}


def strategy_of(case: Case) -> DDPStrategy | FSDP2Strategy:
    if case.sharding is None:
        return DDPStrategy(find_unused_parameters=True)
    return FSDP2Strategy(case.sharding)


def train_two_ranks(world: Path, out: Path) -> None:
    """Train every case; rank 0 writes `out`."""
    found = {}
    for name, case in CASES.items():
        ranks = {"devices": 2, "strategy": strategy_of(case)}
        across = case.groups_across_ranks
        found[name] = train(world, out.parent / name, case.training, 2, across, **ranks)
    if torch.distributed.get_rank() == 0:
        torch.save(found, out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train_two_ranks(Path(sys.argv[1]), Path(sys.argv[2]))
