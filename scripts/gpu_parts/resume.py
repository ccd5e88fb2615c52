"""A training that is killed and resumed, against one that is not, on a device.

    python scripts/gpu_parts/resume.py --device cuda --scratch DIR --out FILE

The training of scripts/kill_test.py: real clips, drawn and decoded; several updates a rollout,
refilled groups, a reference that moves. It is killed by SIGKILL after its first checkpoint. On a
CPU the resumed run must have the unbroken run's weights. On a GPU gradients of embeddings are added
up in any order, so the training runs unbroken twice, and the resumed run may be no further off than
a few times what those two are apart.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

# Each training is a fork of this process, which imports once. Asked through NVML, whether there is
# a GPU leaves CUDA alone; a fork of a process that has used CUDA could not use it.
os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from kill_test import ROOT, Trial
from safetensors.torch import load_file

STEPS = 6
# Times the distance of two unbroken runs on a GPU, and what is left where those are equal.
FACTOR, LEAST = 4.0, 1e-6


def fit_and_kill(trial: Trial) -> int:
    """Kill the training when its first checkpoint lies there; returns its exit status."""
    process = trial.start(*trial.fit(trial.broken))
    while not list(trial.broken.glob("checkpoints/*.ckpt")):
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Largest difference of two models' weights."""
    return max(float((one[name].float() - other[name].float()).abs().max()) for name in one)


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    """Of the model that a run has ended with."""
    return load_file(run_dir / "model" / "model.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--sharded", action="store_true", help="by FSDP2, with sharded checkpoints")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for everything")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    given = parser.parse_args()
    os.chdir(ROOT)
    if torch.cuda.is_initialized():
        raise SystemExit("CUDA was used while importing; a fork of this process cannot use it")
    folder = given.scratch / ("resume_sharded" if given.sharded else "resume")
    overlays = ("configs/overlay/fsdp.yaml",) if given.sharded else ()
    trial = Trial(folder.resolve(), "grpo", STEPS, given.device, overlays)
    trial.out.mkdir(parents=True, exist_ok=True)
    try:
        found = compared(trial)
    except SystemExit:
        print((trial.out / "log.txt").read_text(encoding="utf-8", errors="replace")[-6000:])
        raise
    given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    status, apart = found["status_of_the_killed"], found["two_unbroken_runs_apart"]
    if status != -signal.SIGKILL:
        raise SystemExit(f"the training ended by itself with status {status}")
    allowed = 0.0 if apart is None else max(FACTOR * apart, LEAST)
    line = f"weights {found['resumed_apart']:.2g} off after a kill, {allowed:.2g} allowed"
    if found["resumed_apart"] > allowed:
        raise SystemExit(line)
    print(line)


def compared(trial: Trial) -> dict[str, float | int | None]:
    """Distances of the runs; seconds are those of a whole training with its imports done."""
    on_gpu = trial.device == "cuda"
    whole, again = trial.prepare(), trial.out / "again"
    seconds = round(trial.finish(*trial.fit(again)), 1) if on_gpu else None
    status = fit_and_kill(trial)
    trial.finish(*trial.fit(trial.broken))
    # Compared when all have run: what computes has threads, and a fork would not have them.
    return {
        "steps": trial.steps, "seconds": seconds, "status_of_the_killed": status,
        "two_unbroken_runs_apart": distance(whole, weights(again)) if on_gpu else None,
        "resumed_apart": distance(whole, weights(trial.broken)),
    }  # fmt: skip


if __name__ == "__main__":
    main()
