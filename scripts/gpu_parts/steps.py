"""Optimizer steps of SFT or GRPO on noise: seconds by phase, peak memory, and a profile.

    python scripts/gpu_parts/steps.py grpo --size 0.5b --device cuda --scratch DIR --out FILE

Nothing is decoded or tracked, but av and mlflow must be installed: `r1omni.data` and
`r1omni.training` import them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import lightning as L
import noise
import torch
from torch.profiler import profile

from r1omni.models.adapters import LoRAConfig
from r1omni.models.parallelize import ShardingConfig
from r1omni.rewards import RewardSpec
from r1omni.training import FSDP2Strategy, GRPOConfig, GRPOModule, SFTModule
from r1omni.training.module import weights_read_in_place

KINDS = ("sft", "grpo", "grpo_gathered", "grpo_flex", "grpo_lora", "grpo_fsdp2", "profile")
GIB = 2**30
# Random weights never answer in tags; how often they repeat a token differs all the same.
REWARDS = [RewardSpec("repetition", options={"ngram_size": 1})]
SIZES = {
    "0.5b": {"prompts": 4, "completion": 256},
    "mini": {"prompts": 2, "completion": 8},
}


class Watch(L.Callback):
    """Seconds, peak memory and logged figures of each step; the profile of the last, if asked."""

    def __init__(self, profiles: bool) -> None:
        self.steps: list[dict[str, Any]] = []
        self.profiler = profile() if profiles else None

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if self.profiler and trainer.global_step == trainer.max_steps - 1:
            self.profiler.start()
        _synchronize()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self.started = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        _synchronize()
        step = {"seconds": time.perf_counter() - self.started}
        if torch.cuda.is_available():
            step["peak_gib"] = torch.cuda.max_memory_allocated() / GIB
        if self.profiler and trainer.global_step == trainer.max_steps:
            self.profiler.stop()
        step |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.steps.append({name: round(value, 6) for name, value in step.items()})


def train(kind: str, size: str, device: str, folder: Path, scratch: Path) -> dict[str, Any]:
    """A few steps of a kind of training; the first one warms up."""
    sizes = SIZES[size]
    on_gpu = device == "cuda"
    num_steps = 2 if kind == "profile" else 3
    profiled = kind == "profile"
    completion = min(sizes["completion"], 32) if profiled else sizes["completion"]
    grpo = GRPOConfig(
        group_size=8, max_new_tokens=completion, rewards=REWARDS, micro_batch_size=2,
        log_completions_every=0, fused_loss="never" if kind == "grpo_gathered" else "auto",
    )  # fmt: skip
    with weights_read_in_place():
        if kind == "sft":
            module: SFTModule | GRPOModule = SFTModule(str(folder))
        else:
            lora = LoRAConfig(rank=16, alpha=32) if kind == "grpo_lora" else None
            module = GRPOModule(
                str(folder), grpo=grpo, lora=lora, activation_checkpointing=kind == "grpo_fsdp2",
                attention="flex" if kind == "grpo_flex" else "sdpa",
            )  # fmt: skip
    watch = Watch(profiled)
    options: dict[str, Any] = {"precision": "bf16-mixed" if on_gpu else "32-true"}
    if kind == "grpo_fsdp2":
        sharding = ShardingConfig(param_dtype="bfloat16" if on_gpu else "float32")
        options = {"precision": "32-true", "strategy": FSDP2Strategy(sharding)}
    data = noise.NoiseData(module.omni.model.config, sizes["prompts"], num_steps)
    trainer = L.Trainer(
        accelerator="gpu" if on_gpu else "cpu", devices=1, max_steps=num_steps, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, default_root_dir=scratch, callbacks=[watch], **options,
    )  # fmt: skip
    trainer.fit(module, data)
    found: dict[str, Any] = {
        "kind": kind, "size": size, "parameters": sum(p.numel() for p in module.parameters()),
        "trained": sum(p.numel() for p in module.parameters() if p.requires_grad),
        "prompts": sizes["prompts"], "group_size": grpo.group_size, "completion": completion,
        **options, "steps": watch.steps,
    }  # fmt: skip
    found["strategy"] = type(options.get("strategy")).__name__
    if watch.profiler:
        found |= _summary(watch.profiler)
    return found


def _summary(profiler: profile) -> dict[str, Any]:
    """Where the time went, by kernel on a GPU and by operator elsewhere."""
    events = profiler.key_averages()
    on_gpu = torch.cuda.is_available()
    key = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    most = sorted(events, key=lambda event: getattr(event, key), reverse=True)[:30]
    launches = sum(e.count for e in events if e.key in ("cudaLaunchKernel", "cuLaunchKernelEx"))
    return {
        "launches": launches,
        "total_ms": round(sum(getattr(event, key) for event in events) / 1e3, 3),
        "most": [
            {"name": e.key[:120], "count": e.count, "ms": round(getattr(e, key) / 1e3, 3)}
            for e in most
        ],
    }


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--size", choices=SIZES, default="0.5b")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for the model")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    given = parser.parse_args()
    folder = noise.model_folder(given.size, given.scratch / given.size, given.device)
    found = train(given.kind, given.size, given.device, folder, given.scratch)
    given.out.write_text(json.dumps(found, indent=2, default=str) + "\n", encoding="utf-8")
    broken = [s for s in found["steps"] if not all(v == v for v in s.values())]
    if broken or len(found["steps"]) == 0:
        raise SystemExit(f"{given.kind}: figures that are no numbers in {broken}")
    last = found["steps"][-1]
    peak = f", peak {last['peak_gib']:.1f} GiB" if "peak_gib" in last else ""
    print(f"{last['seconds']:.3f} s the last of {len(found['steps'])} steps{peak}")


if __name__ == "__main__":
    main()
