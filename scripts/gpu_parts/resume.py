"""A training that is killed and resumed, against one that is not, on a device.

    python scripts/gpu_parts/resume.py --device cuda --scratch DIR --out FILE

The whole command line with real clips: a mini-world is drawn, encoded, decoded, trained on. The
same training runs twice unbroken, which shows how far two runs of one machine lie apart (gradients
of embeddings are summed in any order on a GPU), and once killed by SIGKILL after a checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STEPS = 8
# Times the distance of two unbroken runs, and what is left where those are equal.
FACTOR, LEAST = 4.0, 1e-6


class Commands:
    """The command line, in a folder, on a device."""

    def __init__(self, scratch: Path, device: str) -> None:
        self.scratch, self.device = scratch, device
        self.env = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.env["PYTHONPATH"] = os.pathsep.join(
            [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
        )

    def start(self, *words: object) -> subprocess.Popen[bytes]:
        line = [sys.executable, "-m", "r1omni", *map(str, words)]
        return subprocess.Popen(line, env=self.env, cwd=ROOT)

    def run(self, *words: object) -> None:
        if self.start(*words).wait():
            raise SystemExit(f"`r1omni {words[0]}` failed; the log says why")

    def prepare(self) -> None:
        world, texts = self.scratch / "world", self.scratch / "world" / "HumanOmni"
        self.run("synthesize", "--out", world, "--clips", 60, "--num-workers", os.cpu_count())
        sizes = ROOT / "configs" / "mini" / "model.yaml"
        captions = (texts / "captions.json", texts / "reasoning.json")
        self.run("create", "--sizes", sizes, "--texts", *captions, "--out", self.scratch / "init")

    def fit(self, name: str, *more: object) -> list[object]:
        """A training of `STEPS` steps with everything that a resume has to carry."""
        return [
            "fit", "--config", ROOT / "configs" / "mini" / "r1omni.yaml",
            "--trainer.default_root_dir", self.scratch / name,
            "--trainer.accelerator", "gpu" if self.device == "cuda" else "cpu",
            "--trainer.precision", "bf16-mixed" if self.device == "cuda" else "32-true",
            "--trainer.max_steps", STEPS, "--trainer.enable_progress_bar", "false",
            "--model.init_args.init_from", self.scratch / "init",
            "--model.init_args.grpo.max_new_tokens", 16,
            "--model.init_args.grpo.rewards", "[{name: repetition, options: {ngram_size: 1}}]",
            "--model.init_args.grpo.num_iterations", 2,
            "--model.init_args.grpo.ref_sync_steps", 3,
            "--data.root", self.scratch / "world", "--data.loader.batch_size", 4,
            "--data.train", "[{name: mafw, root: MAFW, sampling: 'first:16', options: {fold: 1}}]",
            "--data.loader.cache_dir", self.scratch / "cache",
            "--run.tracking_uri", f"sqlite:///{self.scratch / 'mlflow.db'}",
            "--run.checkpoint_every", 2, *more,
        ]  # fmt: skip

    def fit_and_kill(self, name: str) -> int:
        """Kill the training when its first checkpoint lies there; returns its status."""
        process = self.start(*self.fit(name))
        checkpoints = self.scratch / name / "checkpoints"
        while process.poll() is None and not list(checkpoints.glob("*.ckpt")):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        return process.wait()


def distance(one: Path, other: Path) -> float:
    """Largest difference of two models' weights."""
    from safetensors.torch import load_file

    own, its = (load_file(folder / "model" / "model.safetensors") for folder in (one, other))
    return max(float((own[name].float() - its[name].float()).abs().max()) for name in own)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for everything")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    given = parser.parse_args()
    scratch = given.scratch / "resume"
    commands = Commands(scratch, given.device)
    commands.prepare()
    seconds = []
    for name in ("whole", "again"):
        started = time.monotonic()
        commands.run(*commands.fit(name))
        seconds.append(round(time.monotonic() - started, 1))
    status = commands.fit_and_kill("broken")
    commands.run(*commands.fit("broken", "--ckpt_path", "last"))
    apart = distance(scratch / "whole", scratch / "again")
    resumed = distance(scratch / "whole", scratch / "broken")
    found = {
        "seconds": seconds, "status_of_the_killed": status, "steps": STEPS,
        "two_unbroken_runs_apart": apart, "resumed_apart": resumed,
    }  # fmt: skip
    given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if status != -signal.SIGKILL:
        raise SystemExit(f"the training ended by itself with status {status}")
    if resumed > max(FACTOR * apart, LEAST):
        raise SystemExit(f"resumed {resumed:.2g} off, two unbroken runs {apart:.2g}")


if __name__ == "__main__":
    main()
