"""One rank of `test_ranks.py`: trains each case and writes what came of it.

python -m torch.distributed.run --nproc-per-node 2 ranks_job.py WORLD OUT
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from small_training import BASE, fit, moments

from r1omni.ops import GRPOLossConfig
from r1omni.training import GRPOConfig

STEPS = 2
CASES: dict[str, GRPOConfig] = {
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
}


def train_all(world: Path, out: Path, num_ranks: int) -> None:
    """Train every case on 4 prompts a step over all ranks; rank 0 writes `out`."""
    found = {}
    for name, grpo in CASES.items():
        ranks = {"devices": num_ranks, "strategy": "ddp"} if num_ranks > 1 else {}
        module = fit(world, out.parent, grpo, STEPS, batch_size=4 // num_ranks, **ranks)
        found[name] = moments(module)
    if module.global_rank == 0:
        torch.save(found, out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train_all(Path(sys.argv[1]), Path(sys.argv[2]), num_ranks=2)
