"""One rank of `test_ranks.py`: trains each case and writes what came of it.

python -m torch.distributed.run --nproc-per-node 2 ranks_job.py WORLD OUT
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import lightning as L
import torch
import torch._dynamo.utils
from lightning.pytorch.strategies import DDPStrategy
from small_training import BASE, EXPERT, SGD_LIKE, fit
from step_cases import COMBINATIONS, EndsEarly, halves, num_steps

from r1omni.data.batch import Batch
from r1omni.models.adapters import LoRAConfig
from r1omni.models.parallelize import ShardingConfig, full_tensor, own_shard
from r1omni.ops import GRPOLossConfig
from r1omni.training import FSDP2Strategy, GRPOConfig, GRPOModule, SFTModule, evidence
from r1omni.training.module import EmotionModule, weights_read_in_place
from r1omni.types import PromptInputs

STEPS = 2
# So that two steps move a small model much further than roundoff does.
RATE = 2e-3
# Adam moves a weight whose gradient is roundoff as far as any other, and which way roundoff goes
# depends on the division of a batch. Divided by a little more, such a weight stays.
AdamW = functools.partial(torch.optim.AdamW, eps=1e-6)


class _OneMedium(EmotionModule):
    """Every second prompt has sound alone, so that of two ranks the second sees no pictures."""

    def prompts(self, batch: Batch) -> PromptInputs:
        blind = range(1, len(batch), 2) if self.trainer.world_size == 1 else range(len(batch))
        if self.trainer.world_size == 2 and self.global_rank == 0:
            blind = range(0)
        samples, media = list(batch.samples), list(batch.media)
        for index in blind:
            samples[index] = replace(samples[index], modality="audio")
            media[index] = replace(media[index], video=None)
        return super().prompts(Batch(tuple(samples), tuple(media)))


class _SFTOneMedium(_OneMedium, SFTModule):
    pass


class _GRPOOneMedium(_OneMedium, GRPOModule):
    pass


@dataclass(frozen=True)
class Training:
    """What is trained; without `grpo`, by SFT."""

    grpo: GRPOConfig | None = BASE
    steps: int = STEPS
    accumulate: int = 1
    lora: LoRAConfig | None = None
    seen: type[EmotionModule] | None = None


TRAININGS: dict[str, Training] = {
    "sft": Training(None),
    "sft, accumulated": Training(None, accumulate=2),
    "grpo": Training(),
    "dapo": Training(
        replace(
            BASE,
            loss=GRPOLossConfig(loss_type="dapo", beta=0.0, epsilon_high=0.28),
            fused_loss="always",
        )
    ),
    "dr_grpo": Training(
        replace(
            BASE,
            scale_rewards="none",
            loss=GRPOLossConfig(loss_type="dr_grpo", max_completion_length=8),
        )
    ),
    "scaled by the batch": Training(replace(BASE, scale_rewards="batch")),
    "two updates in parts": Training(
        replace(BASE, num_iterations=2, micro_batch_size=1, fused_loss="always"), 2 * STEPS
    ),
    "a heavy reference": Training(replace(BASE, loss=GRPOLossConfig(beta=1.0))),
    "a moved reference": Training(
        replace(BASE, ref_sync_steps=1, ref_mixup_alpha=0.5, loss=GRPOLossConfig(beta=1.0))
    ),
    "adapters": Training(lora=LoRAConfig(rank=4, alpha=16)),
    "sampled ahead": Training(replace(BASE, overlap_sampling=True), 3),
    # Most groups of so short completions are alike.
    "refilled": Training(replace(BASE, max_new_tokens=2, group_size=2, max_refills=2)),
    "different lengths": Training(
        replace(BASE, loss=GRPOLossConfig(loss_type="dapo")), seen=EndsEarly
    ),
    "sft on one medium": Training(None, seen=_SFTOneMedium),
    "grpo on one medium": Training(replace(BASE, fused_loss="always"), seen=_GRPOOneMedium),
    **{
        f"options of {name}": Training(grpo, max(STEPS, num_steps(grpo)), seen=EndsEarly)
        for name, grpo in COMBINATIONS.items()
    },
}
# Ranks draw other prompts than one process would, unless each has a part in all of them.
DRAWN_BY_RANK = "refilled, ddp"


@dataclass(frozen=True)
class Case:
    """One training on two ranks; `sharding` None is DDP."""

    training: str
    sharding: ShardingConfig | None = None
    groups_across_ranks: bool = False
    precision: str = "32-true"
    activation_checkpointing: bool = False


SPREAD = ("grpo", "options of dapo", "scaled by the batch", "two updates in parts", "refilled")
EVERYTHING = ShardingConfig(
    compile_backend="aot_eager",
    shard_frozen_towers=True,
    shard_reference=False,
)
IN_BFLOAT16 = ShardingConfig(param_dtype="bfloat16")
SHARDED = (
    "sft", "sft, accumulated", "grpo", "dapo", "two updates in parts", "a moved reference",
    "adapters", "different lengths", "sft on one medium", "grpo on one medium", "options of cispo",
)  # fmt: skip
# What DDP would not do otherwise in another training here: lengths that differ and GRPO of one loss
# or scale are in the combinations, the fused loss in parts and on one medium.
NOT_BY_DDP = (
    "dapo", "different lengths", "scaled by the batch", "options of cispo", "a heavy reference",
)  # fmt: skip
CASES: dict[str, Case] = {
    **{f"{name}, ddp": Case(name) for name in TRAININGS if name not in NOT_BY_DDP},
    **{f"{name}, fsdp": Case(name, ShardingConfig()) for name in SHARDED},
    **{f"{name}, groups across ranks": Case(name, None, True) for name in SPREAD},
    "grpo, fsdp, groups across ranks": Case("grpo", ShardingConfig(), True),
    "sft, fsdp in bfloat16": Case("sft", ShardingConfig(param_dtype="bfloat16")),
    "grpo, fsdp in bfloat16": Case("grpo", IN_BFLOAT16),
    "grpo, fsdp in bfloat16 under autocast": Case("grpo", IN_BFLOAT16, precision="bf16-mixed"),
    "grpo, fsdp in bfloat16, a whole reference": Case(
        "grpo", replace(IN_BFLOAT16, shard_reference=False)
    ),
    "grpo, fsdp under autocast in bfloat16": Case("grpo", ShardingConfig(), precision="bf16-mixed"),
    "grpo, ddp under autocast in bfloat16": Case("grpo", precision="bf16-mixed"),
    "grpo, fsdp with everything": Case("grpo", EVERYTHING, activation_checkpointing=True),
    **{
        f"{name}, {way}, activations computed again": Case(
            name, ShardingConfig() if way == "fsdp" else None, activation_checkpointing=True
        )
        for name, way in (
            ("sft on one medium", "ddp"),
            ("sft on one medium", "fsdp"),
            ("two updates in parts", "fsdp"),
            ("adapters", "ddp"),
        )
    },
}


class _Seen(L.Callback):
    """Loss and divergence from the reference in each step, over all ranks."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.kls: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.losses.append(float(trainer.callback_metrics["loss"]))
        if "kl" in trainer.callback_metrics:
            self.kls.append(float(trainer.callback_metrics["kl"]))


def train(
    world: Path,
    out: Path,
    name: str,
    num_ranks: int,
    groups_across_ranks: bool = False,
    activation_checkpointing: bool = False,
    **trainer: Any,
) -> dict[str, Any]:
    """Losses, and the whole of every trained weight, of a training on 4 prompts a step."""
    seen, training = _Seen(), TRAININGS[name]
    grpo = training.grpo
    across = grpo is not None and (groups_across_ranks or grpo.groups_across_ranks)
    # One process reads its weights at once, two read them where they are, as the command line does.
    reading = weights_read_in_place() if num_ranks > 1 else contextlib.nullcontext()
    adam = mock.patch.object(torch.optim, "AdamW", AdamW)
    with reading, adam, mock.patch.object(evidence, "described", halves):
        module = fit(
            world,
            out,
            grpo and replace(grpo, groups_across_ranks=across),
            training.steps,
            batch_size=4 // num_ranks,
            lora=training.lora,
            seen=training.seen,
            optimizer=replace(SGD_LIKE, learning_rate=RATE),
            model={"activation_checkpointing": activation_checkpointing},
            callbacks=[seen],
            expert=EXPERT if grpo and grpo.chord.mu_peak else None,
            accumulate_grad_batches=training.accumulate,
            **trainer,
        )
    metrics = {key: float(value) for key, value in module.trainer.callback_metrics.items()}
    weights = {
        n: full_tensor(p.detach()) for n, p in module.model.named_parameters() if p.requires_grad
    }
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    return {
        "losses": torch.tensor(seen.losses), "kls": torch.tensor(seen.kls),
        "weights": weights, "metrics": metrics, "shares": _shares(module),
        "compiled_graphs": graphs,
    }  # fmt: skip


def _shares(module: EmotionModule) -> dict[str, tuple[int, int]]:
    """Of each trained weight and of the reference's: elements on this rank, and in all."""
    models = {"policy": module.model}
    reference = getattr(module, "reference", None)
    if reference is not None:
        models |= {"reference": reference.model}
    return {
        f"{of}.{name}": (own_shard(p).numel(), p.numel())
        for of, model in models.items()
        for name, p in model.named_parameters()
    }


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
        ranks = {"devices": 2, "strategy": strategy_of(case), "precision": case.precision}
        across = case.groups_across_ranks
        again = case.activation_checkpointing
        found[name] = train(world, out.parent / name, case.training, 2, across, again, **ranks)
    if torch.distributed.get_rank() == 0:
        torch.save(found, out)
