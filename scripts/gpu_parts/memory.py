"""The peak of a step under an overlay for small GPUs, beside what scripts/predict_memory.py says.

    python scripts/gpu_parts/memory.py --size 0.5b --device cuda --scratch DIR --out FILE

The step is that of configs/r1omni_0.5b/r1omni.yaml under configs/overlay/gpu_24gb.yaml: whole
fine-tuning with a reference. Nothing is decoded or tracked, but av and mlflow must be installed.
On a CPU a small step is counted by allocations (`live_memory.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import lightning as L
import noise
import yaml
from live_memory import LiveMemory
from predict_memory import GIB, Memory, Step
from steps import REWARDS, Watch

from r1omni.models.adapters import LoRAConfig
from r1omni.models.config import OmniConfig
from r1omni.models.pipeline import R1Omni
from r1omni.text.prompt import R1OMNI_INSTRUCTION, encode_prompt, encode_target
from r1omni.training import GRPOConfig, GRPOModule, OptimizerConfig, SFTModule
from r1omni.training.module import weights_read_in_place

CONFIGS = noise.ROOT / "configs"
OVERLAY = CONFIGS / "overlay" / "gpu_24gb.yaml"
# What the overlay is for, and how far the prediction may be off.
MEMORY_GIB = 24
TOLERANCE = 0.1
_SMALL = {"prompts": 4, "completion": 64}


def step_of(size: str, on_gpu: bool) -> Step:
    """The step of the paper's configuration under the overlay; a smaller one of other sizes."""
    paper = yaml.safe_load((CONFIGS / "r1omni_0.5b" / "r1omni.yaml").read_text(encoding="utf-8"))
    overlay = yaml.safe_load(OVERLAY.read_text(encoding="utf-8"))["model"]["init_args"]
    grpo = paper["model"]["init_args"]["grpo"] | overlay.get("grpo", {})
    step = Step(
        prompts=paper["data"]["loader"]["batch_size"], micro_batch=grpo["micro_batch_size"],
        group=grpo["group_size"], completion=grpo["max_new_tokens"], mixed=on_gpu, fused=on_gpu,
        checkpointing=overlay["activation_checkpointing"], on_gpu=on_gpu,
    )  # fmt: skip
    return step if size == "0.5b" else replace(step, **_SMALL)


def with_lengths(step: Step, folder: Path) -> tuple[Step, OmniConfig]:
    """The step with the tokens of the noise's prompts, and of its targets in SFT."""
    omni = R1Omni.from_pretrained(folder, with_weights=False)
    config = omni.model.config
    media, vision = config.media, config.vision
    side = vision.image_size // vision.patch_size // 2
    ids = encode_prompt(omni.tokenizer, R1OMNI_INSTRUCTION, "video_audio")
    tokens = media.num_frames * side**2 + config.audio.max_source_positions // 3
    step = replace(step, prompt=int((ids >= 0).sum()) + tokens)
    if not step.group:
        step = replace(step, completion=len(encode_target(omni.tokenizer, noise.TARGET)))
    return step, config


def train(step: Step, folder: Path, device: str, scratch: Path) -> dict[str, Any]:
    """Two optimizer steps; their figures, and on a CPU the peak of both under `peak_gib`."""
    on_gpu = device == "cuda"
    shared: dict[str, Any] = {
        "lora": LoRAConfig(step.lora, 2 * step.lora) if step.lora else None,
        "activation_checkpointing": step.checkpointing,
        "optimizer": OptimizerConfig(1e-5, kind="adamw_8bit" if step.eight_bit else "adamw"),
    }
    grpo = GRPOConfig(
        group_size=max(2, step.group), max_new_tokens=step.completion, rewards=REWARDS,
        micro_batch_size=step.micro_batch, log_completions_every=0,
        fused_loss="always" if step.fused else "never",
    )  # fmt: skip
    if step.lora:
        import peft  # noqa: F401 - beforehand: its import ends what is being counted
    watch = Watch(profiles=False)
    counted = contextlib.nullcontext() if on_gpu else LiveMemory()
    with counted as live:
        with weights_read_in_place():
            module: SFTModule | GRPOModule = (
                GRPOModule(str(folder), grpo=grpo, **shared)
                if step.group else SFTModule(str(folder), **shared)
            )  # fmt: skip
        sampling = module.omni.sampling
        # No completion ends early: all are as long as the prediction takes them to be.
        module.omni.sampling = lambda *given: replace(sampling(*given), end_ids=(-1,))  # type: ignore[method-assign]
        data = noise.NoiseData(module.omni.model.config, step.prompts, 2)
        trainer = L.Trainer(
            accelerator="gpu" if on_gpu else "cpu", devices=1, max_steps=2, logger=False,
            precision="bf16-mixed" if step.mixed else "32-true", enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=scratch,
            use_distributed_sampler=False, callbacks=[watch],
        )  # fmt: skip
        trainer.fit(module, data)
    last = watch.steps[-1]
    return last if live is None else {**last, "peak_gib": live.peak / GIB}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=noise.SIZES, default="0.5b")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for the model")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    given = parser.parse_args()
    on_gpu = given.device == "cuda"
    folder = noise.model_folder(given.size, given.scratch / given.size, given.device)
    step, config = with_lengths(step_of(given.size, on_gpu), folder)
    predicted = Memory(config, step).peak() / GIB
    last = train(step, folder, given.device, given.scratch)
    found = {"overlay": OVERLAY.name, "size": given.size, "device": given.device,
             "predicted_gib": predicted, "measured_gib": last["peak_gib"], "step": asdict(step),
             "last": last}  # fmt: skip
    given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    off = predicted / last["peak_gib"] - 1
    said = f"peak {last['peak_gib']:.3f} GiB, predicted {predicted:.3f} ({off:+.1%})"
    if abs(off) > TOLERANCE or last["peak_gib"] > MEMORY_GIB:
        raise SystemExit(f"{said}: more than {TOLERANCE:.0%} off, or over {MEMORY_GIB} GiB")
    print(said)


if __name__ == "__main__":
    main()
