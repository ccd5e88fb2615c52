"""What an ablation runs: the cold start, the validation world, and a training with its judgement.

Each is a job of `side_by_side.py`: what is left of it is read from the disk.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablation_table import COLD_START, PAPER, read_figures
from run_folders import (
    add_costs,
    check_record,
    has_checkpoint,
    has_model,
    read_costs,
    reads_as_json,
    sha256,
    write_whole,
)
from run_table import BASE, EMER, Table
from side_by_side import ROOT, Command, Spent

CONFIG = "configs/mini/r1omni.yaml"
RECIPES = "configs/mini/recipes"
# From the simpler to the richer. An overlay that is not named here comes last.
ORDER = (
    PAPER, "consistency_summed", "consistency_separate", "cues", "gated", "masked_modality",
    "calibration", "best_together", "right_reason", "described",
    "support_bonus", "support_bonus_masked", "support_double", "support_double_masked",
)  # fmt: skip
# The validation sets: those that are trained on, in a world of other people.
VALIDATION = ("dfew", "mafw")
VALIDATION_SEED = 9001


@dataclass(frozen=True)
class Settings:
    """What all runs of an ablation share.

    Attributes:
        out: folder of everything that is written.
        start: folder with `world/`, `cache/` and `emer_sft/model`.
        steps: of each training.
        clips: of the world of the cold start, where it is made.
        validation_clips: of the validation world.
        world_seed: of the cold start, where it is made.
    """

    out: Path
    start: Path
    steps: int
    clips: int = 2000
    validation_clips: int = 1500
    world_seed: int = 10

    @property
    def validation_world(self) -> Path:
        return self.out / f"validation_world_{self.validation_clips}"

    @property
    def cold_start(self) -> Path:
        return self.start / "emer_sft" / "model"


class World:
    """The validation world."""

    name = "validation world"

    def __init__(self, settings: Settings) -> None:
        self._out, self._clips = settings.validation_world, settings.validation_clips

    def left(self) -> list[str]:
        return [] if self._out.exists() else ["synthesize"]

    def command(self, kind: str) -> Command:
        # A world that was cut off is begun anew, so it gets its name when it is whole.
        partial = self._out.with_name(f"{self._out.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        return _command(
            self._out.with_name("validation_world.log"),
            "synthesize", "--out", partial, "--clips", self._clips, "--seed", VALIDATION_SEED,
            "--num-workers", 1,
            finish=lambda: os.replace(partial, self._out), answers=False,
        )  # fmt: skip

    def ended(self, kind: str, spent: Spent) -> None:
        """What it takes is kept nowhere."""


class ColdStart:
    """World, towers, base and cold start, as scripts/run_table.py makes them."""

    name = "cold start"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._table = Table(settings.start, settings.world_seed, settings.clips)

    def left(self) -> list[str]:
        if has_model(self._settings.cold_start):
            return []
        start = self._settings.start
        done = {
            "synthesize": (start / "world").exists(),
            "create": (start / "init").exists(),
            "pretrain-towers": (start / "towers").exists(),
            "fit base": has_model(start / "base" / "model"),
            "fit emer_sft": False,
        }
        return [kind for kind, is_done in done.items() if not is_done]

    def command(self, kind: str) -> Command:
        table, start = self._table, self._settings.start
        log = start / f"{kind.replace(' ', '_')}.log"
        if kind == "synthesize":
            partial = start / "world.partial"
            shutil.rmtree(partial, ignore_errors=True)
            words = *table.synthesize(partial).args, "--num-workers", 1
            return _command(
                log, *words, finish=lambda: os.replace(partial, start / "world"), answers=False
            )
        if kind.startswith("fit "):
            (fit,) = table.fit(BASE if kind == "fit base" else EMER)
            return _command(log, *fit.args)
        made = table.create() if kind == "create" else table.pretrain()
        return _command(log, *made.args, answers=False)

    def ended(self, kind: str, spent: Spent) -> None:
        """What it takes is kept nowhere."""


@dataclass(frozen=True)
class Run:
    """A recipe with a seed: trained and judged on validation people, or judged on the test sets.

    Attributes:
        arm: name of a recipe, `PAPER`, or `COLD_START`, which is not trained.
        seed: None of the cold start alone.
        final: judge it on the test sets, once the rest is done.
    """

    settings: Settings
    arm: str
    seed: int | None
    final: bool = False

    @property
    def name(self) -> str:
        return self.arm if self.seed is None else f"{self.arm}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        name = self.arm if self.seed is None else f"{self.arm}_{self.seed}"
        return self.settings.out / "runs" / name

    @property
    def model(self) -> Path:
        return self.settings.cold_start if self.seed is None else self.folder / "model"

    def left(self) -> list[str]:
        kinds = ["final"] if self.final else ["fit", "validation"]
        return [kind for kind in kinds if not self.has(kind)]

    def has(self, kind: str) -> bool:
        """Whether the command of a kind has ended with all that it writes."""
        if kind == "fit":
            return self.seed is None or has_model(self.model)
        return reads_as_json(self.folder / kind / "test" / "results.json")

    def command(self, kind: str) -> Command:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / "recipe.json", json.dumps(self.record(), indent=2) + "\n")
        start, log = self.settings.start, self.folder / f"{kind}.log"
        shared = [
            "--run.experiment", "r1omni-ablation",
            "--trainer.enable_progress_bar", "false",
            "--data.root", start / "world",
            "--data.loader.cache_dir", start / "cache",
        ]  # fmt: skip
        if kind == "fit":
            overlay = overlay_of(self.arm)
            begun = has_checkpoint(self.folder)
            return _command(
                log, "fit", "--config", CONFIG, *(["--config", overlay] if overlay else []),
                "--seed_everything", self.seed,
                "--run.name", self.name,
                "--trainer.default_root_dir", self.folder,
                "--trainer.max_steps", self.settings.steps,
                "--model.init_args.init_from", self.settings.cold_start,
                *shared, *(["--ckpt_path", "last"] if begun else []),
            )  # fmt: skip
        sets = self._validation_sets() if kind == "validation" else None
        return _command(
            log, "test", "--config", CONFIG,
            "--run.name", f"{self.name}, {kind}",
            "--trainer.default_root_dir", self.folder / kind,
            "--model.init_args.init_from", self.model,
            *shared,
            "--data.answer_mode", "both",
            "--data.conditions", "[full, muted, blanked]",
            *(["--data.test", json.dumps(sets)] if sets else []),
        )  # fmt: skip

    def _validation_sets(self) -> list[dict[str, Any]]:
        world = self.settings.validation_world
        return [
            {"name": name, "root": str(world / name.upper()), "split": "train",
             "options": {"fold": 1}}
            for name in VALIDATION
        ]  # fmt: skip

    def ended(self, kind: str, spent: Spent) -> None:
        add_costs(self.folder / "costs.json", kind, spent)

    def costs(self) -> dict[str, dict[str, float]]:
        """Seconds of each kind of command, those of interrupted ones included."""
        return read_costs(self.folder / "costs.json")

    def record(self) -> dict[str, Any]:
        """What the run is made with; a folder that was made with something else is refused."""
        overlay = overlay_of(self.arm)
        weights = sorted(self.settings.cold_start.glob("*.safetensors"))
        return {
            "arm": self.arm,
            "seed": self.seed,
            "steps": self.settings.steps,
            "config": sha256(ROOT / CONFIG),
            "overlay": None if overlay is None else sha256(ROOT / overlay),
            "cold_start": [sha256(file) for file in weights],
            "validation": [VALIDATION_SEED, self.settings.validation_clips],
        }

    def check(self) -> None:
        """Refuse a folder that was made with other settings.

        Raises:
            WrongUse: naming the folder and what differs.
        """
        check_record(self.folder / "recipe.json", self.record())

    def line(self) -> dict[str, Any]:
        """The line of `results.jsonl`, of a run that is complete."""
        split = "final" if self.final else "validation"
        return {
            "arm": self.arm,
            "seed": self.seed,
            "split": split,
            "sets": read_figures(self.folder / split / "test"),
            "cpu_seconds": self.costs().get("fit", {}).get("cpu_s"),
            "folder": self.folder.name,
        }


def made_runs(settings: Settings) -> list[Run]:
    """The runs that were begun, those of earlier calls included, seed by seed."""
    found = []
    for file in (settings.out / "runs").glob("*/recipe.json"):
        made = json.loads(file.read_text(encoding="utf-8"))
        found.append(Run(settings, made["arm"], made["seed"]))
    return sorted(found, key=lambda run: (run.seed or 0, run.arm))


def overlay_of(arm: str) -> str | None:
    """The file of a recipe; None of the paper's and of the cold start, which have none."""
    return None if arm in (PAPER, COLD_START) else f"{RECIPES}/{arm}.yaml"


def known_arms() -> list[str]:
    """The recipes that there are, the simpler ones first."""
    found = {PAPER, *(file.stem for file in (ROOT / RECIPES).glob("*.yaml"))}
    return [*(arm for arm in ORDER if arm in found), *sorted(found - {*ORDER})]


def _command(
    log: Path, *words: object, finish: Callable[[], None] = lambda: None, answers: bool = True
) -> Command:
    return Command(tuple(map(str, words)), log, finish, answers)
