"""One rank of `test_sharded.py`: trains by FSDP2 and leaves checkpoints.

python -m torch.distributed.run --nproc-per-node N sharded_job.py WORLD OUT start|resume
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
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


def main(world: Path, out: Path, task: str) -> None:
    num_ranks = int(os.environ["WORLD_SIZE"])
    if task == "start":
        train(world, out / "shares", num_ranks, strategy=FSDP2Strategy())
        train(world, out / "file", num_ranks, strategy=FSDP2Strategy(sharded_checkpoint=False))
        for name in ("shares", "file"):
            strategy = FSDP2Strategy(sharded_checkpoint=name == "shares")
            train(world, out / f"lora_{name}", num_ranks, strategy=strategy, lora=LORA)
        return
    for name, lora in (("", None), ("lora_", LORA)):
        cut = out / f"{name}shares" / "checkpoints" / f"step_{CUT:06d}.ckpt"
        run = out / f"{name}on_{num_ranks}"
        train(world, run, num_ranks, strategy=FSDP2Strategy(), ckpt_path=cut, lora=lora)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
