"""What GRPO learns in several ways of computing it; writes JSON.

    python -m r1omni synthesize --out outputs/overlap/world --clips 400 --seed 9002
    python scripts/compare_learning.py --world outputs/overlap/world \\
        --out docs/benchmarks/overlap.json
    python scripts/compare_learning.py --world outputs/overlap/world --ways "in place" bfloat16 \\
        --out docs/benchmarks/bf16_cpu.json

Every training is a command a person could type: `fit` with the configuration of R1-Omni, from the
same start, with the same seed, steps and rate: as it is ("in place"), with completions sampled one
batch ahead, or with the overlay for CPUs that have bfloat16. All are validated on the test split of
the same world. A run that is finished is not made again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from script_options import ScriptParser, file_to_write

ROOT = Path(__file__).resolve().parent.parent
CONFIG = "configs/mini/r1omni.yaml"
_AHEAD = ("--model.init_args.grpo.overlap_sampling", "true")
# What is added to the command of each way.
WAYS: dict[str, tuple[str, ...]] = {
    "in place": (),
    "ahead": _AHEAD,
    "ahead, corrected": (
        *_AHEAD, "--model.init_args.grpo.importance_correction", "token_truncate"
    ),
    "bfloat16": ("--config", "configs/overlay/bf16_cpu.yaml"),
}  # fmt: skip
TRAIN = [{"name": "mafw", "root": "MAFW", "options": {"fold": 1}},
         {"name": "dfew", "root": "DFEW", "options": {"fold": 1}}]  # fmt: skip
# Of a rollout; those of the lag are there where batches are sampled ahead.
CURVES = ("reward", "rewards/accuracy/mean", "rewards/format/mean", "kl", "entropy",
          "clip_ratio/region_mean", "sampling_logp_difference", "overlap/kl")  # fmt: skip


def main() -> None:
    """Train every way with every seed, and write what came of it."""
    parser = ScriptParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", type=Path, required=True, help="of `r1omni synthesize`")
    parser.add_argument("--start", type=Path, default=ROOT / "examples" / "mini-model")
    parser.add_argument("--work", type=Path, default=ROOT / "outputs" / "overlap")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--prompts", type=int, default=8, help="of a batch")
    parser.add_argument("--val-every", type=int, default=30, help="steps between validations")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--ways", nargs="+", default=["in place", "ahead"], choices=WAYS)
    parser.add_argument(
        "--out", type=file_to_write, default=ROOT / "outputs" / "overlap" / "learning.json"
    )
    options = parser.parse_args()
    runs: list[dict[str, Any]] = []
    start = start_war(options)
    for seed, way in product(options.seeds, options.ways):
        folder = options.work / f"{way.replace(' ', '_').replace(',', '')}_{seed}"
        cpu_s = train(options, folder, way, seed)
        runs.append({"way": way, "seed": seed, "cpu_s": cpu_s, **read(folder)})
        report = {
            "what": f"`fit` of {CONFIG} from {options.start.name}, validated on the test split",
            "steps": options.steps, "prompts": options.prompts, "threads": 1,
            "start_val_war": start, "runs": runs,
        }  # fmt: skip
        options.out.write_text(json.dumps(report) + "\n", encoding="utf-8")
        print(f"{way}, seed {seed}: {runs[-1]['val_war']}, {cpu_s} s", flush=True)


def train(options: Any, folder: Path, way: str, seed: int) -> float | None:
    """Train, or nothing where that was done; the CPU seconds of it, None where they are lost."""
    costs = folder / "cpu_s.json"
    if (folder / "model" / "config.json").exists():
        return float(json.loads(costs.read_text())) if costs.exists() else None
    spent = command(
        options, folder, "fit", seed, "--trainer.max_steps", options.steps,
        "--trainer.log_every_n_steps", 1, "--trainer.check_val_every_n_epoch", "null",
        "--trainer.val_check_interval", options.val_every, *WAYS[way],
    )  # fmt: skip
    costs.write_text(json.dumps(spent), encoding="utf-8")
    return spent


def start_war(options: Any) -> float:
    """How the start does on the validation clips."""
    folder = options.work / "start"
    if not (folder / "metrics.jsonl").exists():
        command(options, folder, "validate", 0)
    return float(read(folder)["val_war"][-1])


def command(options: Any, folder: Path, name: str, seed: int, *more: object) -> float:
    """`r1omni NAME` with one thread, its output in a log; returns its CPU seconds."""
    validated = [{**spec, "split": "test"} for spec in TRAIN]
    words = [
        name, "--config", CONFIG, "--seed_everything", seed, "--run.name", folder.name,
        "--run.tracking_uri", f"sqlite:///{options.work.resolve() / 'mlflow.db'}",
        "--trainer.default_root_dir", folder.resolve(),
        "--model.init_args.init_from", options.start.resolve(),
        "--data.root", options.world.resolve(), "--data.train", json.dumps(TRAIN),
        "--data.val", json.dumps(validated), "--data.loader.batch_size", options.prompts,
        "--data.loader.cache_dir", options.work.resolve() / "cache", *more,
    ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "src"), OMP_NUM_THREADS="1",
                       MLFLOW_DISABLE_TELEMETRY="true")  # fmt: skip
    with (folder / f"{name}.log").open("w", encoding="utf-8") as log:
        call = [sys.executable, "-m", "r1omni", *map(str, words)]
        process = subprocess.Popen(call, cwd=ROOT, env=environment, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"compare_learning: `{name}` failed; see {folder / f'{name}.log'}")
    return float(round(usage.ru_utime + usage.ru_stime, 1))


def read(folder: Path) -> dict[str, Any]:
    """Curves and validations of a finished run."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line)["metrics"] for line in lines]
    rollouts = [found for found in entries if "reward" in found]
    sets = sorted({name for found in entries for name in found if name.endswith("/war")})
    validated = [found for found in entries if any(name in found for name in sets)]
    return {
        "curves": {name: [round(found[name], 5) for found in rollouts if name in found]
                   for name in CURVES},
        "val_war": [round(mean(found[name] for name in sets), 4) for found in validated],
    }  # fmt: skip


if __name__ == "__main__":
    main()
