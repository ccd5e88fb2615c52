"""Make the paper's table in miniature, and the faithful recipe's row: five models, three sets.

    python scripts/run_table.py --out outputs/quickstart --seed 0

Every stage is a command a person could type; this script types them, two side by side where they
do not need each other, times them, and goes on where an interrupted run stopped. It selects
nothing: each model is its last checkpoint.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from run_folders import has_checkpoint, has_model
from script_options import ScriptParser

ROOT = Path(__file__).resolve().parent.parent
ACCELERATORS = ("cpu", "gpu")


@dataclass(frozen=True)
class Stage:
    """One model of the table.

    Attributes:
        model: its name.
        folder: of its run.
        starts_from: the model folder it goes on from.
        config: below configs/.
        overlays: laid over it.
    """

    model: str
    folder: str
    starts_from: str
    config: str
    overlays: tuple[str, ...] = ()


BASE = Stage("HumanOmni", "base", "towers", "mini/base.yaml")
EMER = Stage("EMER-SFT", "emer_sft", "base/model", "mini/emer_sft.yaml")
LABEL = Stage("MAFW-DFEW-SFT", "label_sft", "base/model", "mini/label_sft.yaml")
GRPO = Stage("R1-Omni", "r1omni", "emer_sft/model", "mini/r1omni.yaml")
FAITHFUL = Stage(
    "R1-Omni, faithful", "r1omni_faithful", "emer_sft/model", "mini/r1omni.yaml",
    ("overlay/faithful.yaml",),
)  # fmt: skip
STAGES = (BASE, EMER, LABEL, GRPO, FAITHFUL)
# Those that reason: their answers are compared with the ones that they would give at once.
REASONING = (EMER, GRPO, FAITHFUL)


@dataclass(frozen=True)
class Command:
    """`python -m r1omni ARGS`, under a name for people."""

    name: str
    args: tuple[str, ...]


class Table:
    """The commands that make one table, below one folder.

    Args:
        out: folder of everything that is written.
        seed: of the world and of every stage.
        clips: size of the world.
        accelerator: that trains and evaluates, "cpu" or "gpu"; towers are taught on the CPU.
    """

    def __init__(self, out: Path, seed: int, clips: int, accelerator: str = "cpu") -> None:
        self.out = out
        self.seed = seed
        self.clips = clips
        self.accelerator = accelerator
        self.world = out / "world"
        self.costs_file = out / "costs.json"

    def make(self) -> None:
        """Run what is not there yet."""
        self.run(self.synthesize(self.world))
        if not (self.out / "init").exists():
            self.run(self.create())
        if not (self.out / "towers").exists():
            self.run(self.pretrain())
        self.run(*self.fit(BASE))
        self.run(*self.fit(EMER), *self.fit(LABEL))
        self.run(*self.test(BASE), *self.test(EMER))
        self.run(*self.fit(GRPO), *self.fit(FAITHFUL))
        self.run(*self.test(GRPO), *self.test(FAITHFUL))
        self.run(*self.test(LABEL))
        self.run(
            _command(
                "report", "report", "--out", self.out, "--world", self.world,
                "--costs", self.costs_file,
                "--runs", *(f"{stage.model}={self.out / stage.folder}" for stage in STAGES),
            )
        )  # fmt: skip

    # Commands -------------------------------------------------------------------------------

    def synthesize(self, folder: Path) -> Command:
        """The clips, in a folder."""
        return _command(
            "synthesize", "synthesize", "--out", folder, "--clips", self.clips,
            "--seed", self.seed,
        )  # fmt: skip

    def create(self) -> Command:
        """The fresh model, its tokenizers trained on the world's texts."""
        texts = [self.world / "HumanOmni" / f"{name}.json" for name in ("captions", "reasoning")]
        return _command(
            "create", "create", "--sizes", "configs/mini/model.yaml", "--out", self.out / "init",
            "--seed", self.seed,
            "--texts", *texts, self.world / "EMER/dataset-v2/final-EMER-reason.csv",
        )  # fmt: skip

    def pretrain(self) -> Command:
        """The towers, taught to see and hear."""
        return _command(
            "pretrain towers", "pretrain-towers", "--model", self.out / "init",
            "--out", self.out / "towers", "--seed", self.seed,
        )  # fmt: skip

    def fit(self, stage: Stage) -> list[Command]:
        """Train a model, or nothing when it is there already."""
        run_dir = self.out / stage.folder
        if has_model(run_dir / "model"):
            return []
        resume = ["--ckpt_path", "last"] if has_checkpoint(run_dir) else []
        return [_command(f"fit {stage.model}", "fit", *self.settings(stage), *resume)]

    def test(self, stage: Stage) -> list[Command]:
        """Evaluate a model, or nothing when that was done."""
        if (self.out / stage.folder / "test" / "results.json").exists():
            return []
        settings = [*self.settings(stage), "--ckpt_path", "last"]
        if stage in REASONING:
            settings += ["--data.answer_mode", "both"]
        return [_command(f"test {stage.model}", "test", *settings)]

    def settings(self, stage: Stage) -> list[Any]:
        """What a stage's config leaves to the table: folders and seeds."""
        settings = [
            *(word for file in (stage.config, *stage.overlays)
              for word in ("--config", f"configs/{file}")),
            "--run.name", stage.model,
            "--seed_everything", self.seed,
            "--trainer.default_root_dir", self.out / stage.folder,
            "--trainer.accelerator", self.accelerator, "--trainer.devices", 1,
            "--model.init_args.init_from", self.out / stage.starts_from,
            "--data.root", self.world,
            "--data.loader.cache_dir", self.out / "cache",
            "--data.loader.seed", self.seed,
        ]  # fmt: skip
        if stage in (GRPO, FAITHFUL):
            settings += ["--model.init_args.grpo.seed", self.seed]
        return settings

    # Running --------------------------------------------------------------------------------

    def run(self, *commands: Command) -> None:
        """Run commands side by side; the first has the terminal, others write a log.

        Models this small gain little from a second core, so two commands at once are nearly
        twice as fast as one after the other.
        """
        if not commands:
            return
        start = time.monotonic()
        threads = None if len(commands) == 1 else max(1, (os.cpu_count() or 1) // len(commands))
        running = []
        for index, command in enumerate(commands):
            log = None if index == 0 else self.out / f"{command.name.replace(' ', '_')}.log"
            print(f"\n== {command.name}: python -m r1omni {shlex.join(command.args)}", flush=True)
            if log is not None:
                print(f"   (beside it; its output goes to {log})", flush=True)
            running.append(_start(command, log, threads))
        failed = 0
        for command, process in zip(commands, running, strict=True):
            _, status, usage = os.wait4(process.pid, 0)
            code = os.waitstatus_to_exitcode(status)
            if code == 0:
                self._note(command.name, time.monotonic() - start, usage.ru_maxrss / 2**20)
            else:
                print(f"{command.name} failed with status {code}", file=sys.stderr)
                failed = failed or code
        self._note_elapsed(time.monotonic() - start)
        if failed:
            raise SystemExit(failed)

    def _costs(self) -> dict[str, Any]:
        empty = {"seconds": {}, "elapsed_seconds": 0.0, "peak_memory_gib": 0.0}
        return json.loads(self.costs_file.read_text()) if self.costs_file.exists() else empty

    def _note(self, name: str, seconds: float, memory_gib: float) -> None:
        costs = self._costs()
        # A command that was interrupted, or finds its work done, adds to what it took before.
        costs["seconds"][name] = round(costs["seconds"].get(name, 0.0) + seconds, 1)
        costs["peak_memory_gib"] = max(costs["peak_memory_gib"], round(memory_gib, 2))
        self._write(costs)

    def _note_elapsed(self, seconds: float) -> None:
        costs = self._costs()
        costs["elapsed_seconds"] = round(costs["elapsed_seconds"] + seconds, 1)
        self._write(costs)

    def _write(self, costs: dict[str, Any]) -> None:
        self.costs_file.parent.mkdir(parents=True, exist_ok=True)
        self.costs_file.write_text(json.dumps(costs, indent=2) + "\n")


def _command(name: str, *args: object) -> Command:
    return Command(name, tuple(map(str, args)))


def _start(command: Command, log: Path | None, threads: int | None) -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    paths = [str(ROOT / "src"), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    # Idle threads wait only a moment before they sleep: spinning ones would take the processor
    # from whatever else runs on the machine, and the whole would stand nearly still.
    environment.setdefault("GOMP_SPINCOUNT", "20000")
    if threads is not None:
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    if log is None:
        return _spawn(command, environment, None)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        return _spawn(command, environment, file)


def _spawn(
    command: Command, environment: dict[str, str], output: TextIO | None
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "r1omni", *command.args],
        cwd=ROOT,
        env=environment,
        stdout=output,
        stderr=None if output is None else subprocess.STDOUT,
    )


def main() -> None:
    parser = ScriptParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("outputs/quickstart"))
    parser.add_argument("--seed", type=int, default=0, help="of the world and of every stage")
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--accelerator", choices=ACCELERATORS, default="cpu")
    options = parser.parse_args()
    Table(options.out, options.seed, options.clips, options.accelerator).make()


if __name__ == "__main__":
    main()
