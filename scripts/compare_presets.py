"""The GRPO presets side by side: the same cold start, several seeds; writes docs/grpo.md.

    scripts/quickstart.sh
    python scripts/compare_presets.py --start outputs/quickstart

Every training is a command a person could type: `fit` with the configuration of R1-Omni and the
overlay of the preset. Presets are compared on a validation world of other people, which nothing
was trained on; the test sets are read once, at the end. A run that is finished is not made again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from mlflow.tracking import MlflowClient
from omegaconf import OmegaConf
from presets_page import write_page
from script_options import ScriptParser

ROOT = Path(__file__).resolve().parent.parent
CONFIG = "configs/mini/r1omni.yaml"
PRESETS = ("r1omni", "dapo", "dr_grpo", "gspo", "cispo")
# Peak rates. r1omni's is that of its configuration; of 3e-4 and 1e-4 the others have the one with
# the higher reward after 50 rollouts with seed 100 (gspo and cispo: that of dapo, which takes as
# many steps a rollout).
RATES = {"r1omni": 3e-4, "dapo": 1e-4, "dr_grpo": 3e-4, "gspo": 1e-4, "cispo": 1e-4}
VALIDATION_SEED = 9001
VALIDATION_CLIPS = 600
TEST_SETS = ("dfew", "mafw", "ravdess")
# What is read of a run, one value a rollout.
CURVES = (
    "reward",
    "rewards/accuracy/mean",
    "rewards/format/mean",
    "frac_reward_zero_std",
    "frac_dropped",
    "kl",
    "entropy",
    "completions/mean_length",
)
TIMES = ("time/generate", "time/reward", "time/old_logps", "time/update")
REFERENCE_TIME = "time/reference"


@dataclass(frozen=True)
class Run:
    """One training: a preset with a seed."""

    preset: str
    seed: int
    folder: Path

    @property
    def overlay(self) -> str | None:
        return None if self.preset == "r1omni" else f"configs/overlay/{self.preset}.yaml"

    @property
    def grpo(self) -> Any:
        """The GRPO settings of the preset, the overlay's over the configuration's."""
        names = [CONFIG] if self.overlay is None else [CONFIG, self.overlay]
        merged = OmegaConf.merge(*(OmegaConf.load(ROOT / name) for name in names))
        return merged.model.init_args.grpo

    @property
    def steps_per_rollout(self) -> int:
        return int(self.grpo.get("steps_per_generation", 1))


class Study:
    """All runs of the comparison, below one folder.

    Args:
        start: folder of `scripts/run_table.py`, whose cold start, world and cache are used.
        out: folder of everything that is written.
        rollouts: of each training.
        val_every: rollouts between validations.
    """

    def __init__(self, start: Path, out: Path, rollouts: int, val_every: int) -> None:
        self.start, self.out = start.resolve(), out.resolve()
        self.rollouts, self.val_every = rollouts, val_every
        self.validation = self.out / "validation"

    def prepare(self) -> None:
        """The validation world, its clips decoded, and how the cold start does on it."""
        if not self.validation.exists():
            self.command(
                self.out / "synthesize.log", "synthesize", "--out", self.validation,
                "--clips", VALIDATION_CLIPS, "--seed", VALIDATION_SEED,
            )  # fmt: skip
        folder = self.out / "cold_start"
        if not (folder / "predict" / "results.json").exists():
            predicted = [{**spec, "split": "train"} for spec in self.validation_sets()]
            self.command(
                self.out / "cold_start.log", "predict", *self.settings(Run("r1omni", 0, folder)),
                "--data.predict", json.dumps(predicted),
            )  # fmt: skip

    def validation_sets(self) -> list[dict[str, Any]]:
        root = str(self.validation / "DFEW")
        return [{"name": "dfew", "root": root, "split": "train", "options": {"fold": 1}}]

    def settings(self, run: Run) -> list[Any]:
        """The arguments of a run that all subcommands share."""
        return [
            "--config", CONFIG, *(["--config", run.overlay] if run.overlay else []),
            "--seed_everything", run.seed,
            "--run.experiment", "r1omni-presets",
            "--run.name", f"{run.preset}, seed {run.seed}",
            "--trainer.default_root_dir", run.folder,
            "--trainer.max_steps", self.rollouts * run.steps_per_rollout,
            "--model.init_args.init_from", self.start / "emer_sft" / "model",
            "--model.init_args.optimizer.learning_rate", RATES[run.preset],
            "--model.init_args.grpo.seed", run.seed,
            "--model.init_args.grpo.log_kl", "true",
            "--data.root", self.start / "world",
            "--data.conditions", "[full]",
            "--data.loader.cache_dir", self.start / "cache",
            "--data.loader.seed", run.seed,
        ]  # fmt: skip

    def train(self, run: Run) -> None:
        """Train and test a run, or what of it is not there yet."""
        if not (run.folder / "model" / "config.json").exists():
            started = any((run.folder / "checkpoints").glob("step_*.ckpt"))
            self.command(
                run.folder / "fit.log", "fit", *self.settings(run),
                "--trainer.log_every_n_steps", 1,
                "--trainer.check_val_every_n_epoch", "null",
                "--trainer.val_check_interval", self.val_every,
                "--data.val", json.dumps(self.validation_sets()),
                *(["--ckpt_path", "last"] if started else []),
            )  # fmt: skip
        if not (run.folder / "test" / "results.json").exists():
            self.command(
                run.folder / "test.log", "test", *self.settings(run), "--ckpt_path", "last"
            )
        print(f"{run.preset}, seed {run.seed}: done", flush=True)

    def command(self, log: Path, *args: object) -> None:
        """`python -m r1omni ARGS` with one thread; its output goes to a file."""
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = dict(os.environ, PYTHONPATH=str(ROOT / "src"), OMP_NUM_THREADS="1")
        with log.open("a", encoding="utf-8") as file:
            words = [sys.executable, "-m", "r1omni", *map(str, args)]
            done = subprocess.run(words, cwd=ROOT, env=environment, stdout=file, stderr=file)
        if done.returncode:
            raise SystemExit(f"`r1omni {args[0]}` failed with status {done.returncode}; see {log}")

    # Reading ----------------------------------------------------------------------------------

    def cold_start_war(self) -> float:
        results = json.loads((self.out / "cold_start" / "predict" / "results.json").read_text())
        return float(results["sets"]["dfew"]["full"]["war"])

    def read(self, run: Run) -> dict[str, Any]:
        """What the page needs of a finished run."""
        client = MlflowClient("sqlite:///" + str(ROOT / "mlflow.db"))
        run_id = (run.folder / "mlflow_run_id.txt").read_text().strip()

        def history(name: str) -> list[float]:
            # A resumed run may have logged a rollout twice; the later value counts.
            points = sorted(client.get_metric_history(run_id, name), key=lambda m: m.timestamp)
            by_step = {point.step: point.value for point in points}
            return [by_step[step] for step in sorted(by_step)]

        times = [*TIMES, *([REFERENCE_TIME] if run.grpo.loss.get("beta", 0) else [])]
        columns = [values for name in times if (values := history(name))]
        tested = json.loads((run.folder / "test" / "results.json").read_text())["sets"]
        return {
            "preset": run.preset,
            "seed": run.seed,
            "curves": {name: _rounded(values) for name in CURVES if (values := history(name))},
            "val_war": _rounded(history("val/dfew/war")),
            "val_uar": _rounded(history("val/dfew/uar")),
            "seconds": _rounded([sum(row) for row in zip(*columns, strict=True)]),
            "test_war": {name: round(tested[name]["full"]["war"], 4) for name in TEST_SETS},
        }


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 5) for value in values]


def main() -> None:
    parser = ScriptParser(description=__doc__.splitlines()[0])
    parser.add_argument("--start", type=Path, default=Path("outputs/quickstart"))
    parser.add_argument("--out", type=Path, default=Path("outputs/presets"))
    parser.add_argument("--presets", nargs="+", default=PRESETS, choices=PRESETS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rollouts", type=int, default=120)
    parser.add_argument("--val-every", type=int, default=20, help="rollouts between validations")
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side")
    parser.add_argument("--note", default="", help="a sentence on how the machine was used")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "grpo.md")
    options = parser.parse_args()
    if not (options.start / "emer_sft" / "model" / "config.json").exists():
        parser.error(f"{options.start} holds no cold start; make it with scripts/quickstart.sh")
    study = Study(options.start, options.out, options.rollouts, options.val_every)
    study.prepare()
    runs = [
        Run(preset, seed, study.out / f"{preset}_{seed}")
        for seed, preset in product(options.seeds, options.presets)
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(study.train, runs))
    result = {
        "rollouts": options.rollouts,
        "rates": {name: RATES[name] for name in options.presets},
        "val_every": options.val_every,
        "cold_start_war": round(study.cold_start_war(), 4),
        "jobs": options.jobs,
        "note": options.note,
        "runs": [study.read(run) for run in runs],
    }
    figures = options.page.parent / "benchmarks" / "grpo_presets.json"
    figures.parent.mkdir(parents=True, exist_ok=True)
    figures.write_text(json.dumps(result) + "\n", encoding="utf-8")
    write_page(result, options.page)
    print(f"wrote {options.page} and {figures}")


if __name__ == "__main__":
    main()
