"""Make the paper's table in miniature: one world, four models, three test sets.

    python scripts/run_table.py --out outputs/quickstart --seed 0

Every stage is a command a person could type; this script types them, times them, and goes on
where an interrupted run stopped. It selects nothing: each model is its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Stage:
    """One model of the table: its name, its config and folder, the stage it starts from."""

    model: str
    folder: str
    starts_from: str


STAGES = (
    Stage("HumanOmni", "base", "towers"),
    Stage("EMER-SFT", "emer_sft", "base/model"),
    Stage("MAFW-DFEW-SFT", "label_sft", "base/model"),
    Stage("R1-Omni", "r1omni", "emer_sft/model"),
)


class Runner:
    """Runs `python -m r1omni` commands and keeps their seconds in `seconds.json`."""

    def __init__(self, out: Path) -> None:
        self.file = out / "seconds.json"
        self.seconds: dict[str, float] = (
            json.loads(self.file.read_text()) if self.file.exists() else {}
        )

    def run(self, name: str, *args: object) -> None:
        command = [sys.executable, "-m", "r1omni", *map(str, args)]
        print(f"\n== {name}: python -m r1omni {shlex.join(command[3:])}", flush=True)
        start = time.monotonic()
        result = subprocess.run(command, cwd=ROOT, env=_environment(), check=False)
        if result.returncode != 0:
            raise SystemExit(result.returncode)
        self.seconds[name] = round(time.monotonic() - start, 1)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        self.seconds["peak_memory_gib"] = max(
            self.seconds.get("peak_memory_gib", 0.0), round(peak, 2)
        )
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(self.seconds, indent=2) + "\n")


def _environment() -> dict[str, str]:
    environment = dict(os.environ)
    environment["PYTHONPATH"] = str(ROOT / "src")
    # Spinning threads starve each other when the machine is busy with something else.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return environment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("outputs/quickstart"))
    parser.add_argument("--seed", type=int, default=0, help="of the world and of every stage")
    parser.add_argument("--clips", type=int, default=2000)
    options = parser.parse_args()
    out, seed = options.out, options.seed
    runner = Runner(out)
    world = out / "world"

    runner.run("synthesize", "synthesize", "--out", world, "--clips", options.clips, "--seed", seed)
    if not (out / "init").exists():
        texts = [world / "HumanOmni" / f"{name}.json" for name in ("captions", "reasoning")]
        runner.run(
            "create", "create", "--sizes", "configs/mini/model.yaml", "--out", out / "init",
            "--seed", seed, "--texts", *texts, world / "EMER/dataset-v2/final-EMER-reason.csv",
        )  # fmt: skip
    if not (out / "towers").exists():
        runner.run(
            "pretrain towers", "pretrain-towers", "--model", out / "init",
            "--out", out / "towers", "--seed", seed,
        )  # fmt: skip
    for stage in STAGES:
        train_and_test(runner, stage, out, world, seed)
    runner.run(
        "report", "report", "--out", out, "--world", world, "--seconds", runner.file,
        "--runs", *(f"{stage.model}={out / stage.folder}" for stage in STAGES),
    )  # fmt: skip


def train_and_test(runner: Runner, stage: Stage, out: Path, world: Path, seed: int) -> None:
    """Train one model unless its folder is there already, then test it likewise."""
    run_dir = out / stage.folder
    common = [
        "--config", f"configs/mini/{stage.folder}.yaml",
        "--seed_everything", seed,
        "--trainer.default_root_dir", run_dir,
        "--model.init_args.init_from", out / stage.starts_from,
        "--data.root", world,
        "--data.loader.cache_dir", out / "cache",
        "--data.loader.seed", seed,
    ]  # fmt: skip
    if stage.folder == "r1omni":
        common += ["--model.init_args.grpo.seed", seed]
    if not (run_dir / "model").exists():
        started = any((run_dir / "checkpoints").glob("step_*.ckpt"))
        resume = ["--ckpt_path", "last"] if started else []
        runner.run(f"fit {stage.model}", "fit", *common, *resume)
    if not (run_dir / "test" / "results.json").exists():
        runner.run(f"test {stage.model}", "test", *common, "--ckpt_path", "last")


if __name__ == "__main__":
    main()
