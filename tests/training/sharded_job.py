"""One rank of `test_sharded.py`: trains by FSDP2 and leaves checkpoints."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from small_training import BASE, fit

from r1omni.models.adapters import LoRAConfig
from r1omni.training import FSDP2Strategy
from r1omni.training.callbacks import ExportModel, RunCheckpoint

STEPS, CUT, PROMPTS = 4, 2, 6
# A moved reference is part of a checkpoint.
GRPO = replace(BASE, ref_sync_steps=2, ref_mixup_alpha=0.5)
LORA = LoRAConfig(rank=4, alpha=16)


def train(world: Path, run_dir: Path, num_ranks: int, **options: Any) -> Any:
    """Train on the same prompts whatever the number of ranks; a checkpoint every two steps."""
    return fit(
        world,
        run_dir,
        BASE if options.get("lora") else GRPO,
        STEPS,
        batch_size=PROMPTS // num_ranks,
        callbacks=[RunCheckpoint(every=CUT, keep=10), ExportModel()],
        enable_checkpointing=True,
        devices=num_ranks,
        **options,
    )


def start(world: Path, out: Path) -> None:
    """Train from the beginning, with sharded checkpoints and with whole ones."""
    num_ranks = int(os.environ["WORLD_SIZE"])
    for name, lora in (("", None), ("lora_", LORA)):
        for kind in ("shares", "file"):
            strategy = FSDP2Strategy(sharded_checkpoint=kind == "shares")
            train(world, out / f"{name}{kind}", num_ranks, strategy=strategy, lora=lora)


def resume(world: Path, out: Path) -> None:
    """Go on from the sharded checkpoints of step `CUT`."""
    num_ranks = int(os.environ["WORLD_SIZE"])
    for name, lora in (("", None), ("lora_", LORA)):
        cut = out / f"{name}shares" / "checkpoints" / f"step_{CUT:06d}.ckpt"
        run = out / f"{name}on_{num_ranks}"
        train(world, run, num_ranks, strategy=FSDP2Strategy(), ckpt_path=cut, lora=lora)
