"""What the table of real voices runs before, between and beside its trainings.

Each is a job of `side_by_side.py`: what is left of it is read from the disk.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from real_voices_study import SIZES, Job, Settings, command_of
from real_voices_trainings import LEVELS, RECIPES, Training
from run_folders import check_record, has_model, reads_as_json, sha256, write_whole
from side_by_side import ROOT, Command


class Voices(Job):
    """The descriptions of all clips, and `cues.jsonl`, the measured truth of both data sets.

    What is usual for a speaker needs that speaker's clips alone, so the voices are described once
    for all folds. They are compared with all of the speaker's clips throughout, for the base learns
    from descriptions in which no label had a part, not even as the neutral reference.
    """

    name = "voices"

    def _kinds(self) -> dict[str, tuple[object, ...]]:
        """Folder of a description -> the options that make it."""
        data = self.settings.out / "data"
        ravdess = ("--dataset", "ravdess", "--root", data / "RAVDESS")
        kinds: dict[str, tuple[object, ...]] = {
            "ravdess_plain": (*ravdess, "--without-labels"),
            "ravdess": (*ravdess, "--reference", "all", "--seed", 1),
        }
        if self.settings.emodb is not None:
            # Copies of Emo-DB were brought to one level: docs/voices.md.
            kinds["emodb"] = (
                "--dataset", "emodb", "--root", data / "EmoDB", "--option", "protocol=4way",
                "--without-labels", "--leave-out", "loudness",
            )  # fmt: skip
        return kinds

    def _folder(self, kind: str) -> Path:
        return self.settings.out / "voices" / kind.removeprefix("describe ")

    def left(self) -> list[str]:
        kinds = [kind for kind in self._kinds() if not self._folder(kind).exists()]
        return [f"describe {kind}" for kind in kinds]

    def words(self, kind: str) -> Command:
        folder = self._folder(kind)
        partial = folder.with_name(f"{folder.name}.partial")
        return command_of(
            folder.with_name(f"{folder.name}.log"),
            "describe-voices", *self._kinds()[folder.name], "--out", partial, "--num-workers", 1,
            finish=lambda: self._finish(partial, folder), answers=False,
        )  # fmt: skip

    def command(self, kind: str) -> Command:
        folder = self._folder(kind)
        shutil.rmtree(folder.with_name(f"{folder.name}.partial"), ignore_errors=True)
        return self.words(kind)

    def _finish(self, partial: Path, folder: Path) -> None:
        os.replace(partial, folder)
        self.write_cues()

    def write_cues(self) -> None:
        """Write the measured truth, once everything is described."""
        if self.left():
            return
        lines = []
        for kind, name in (("ravdess_plain", "RAVDESS"), ("emodb", "EmoDB")):
            if kind not in self._kinds():
                continue
            text = (self._folder(kind) / "all.jsonl").read_text(encoding="utf-8")
            for record in map(json.loads, text.splitlines()):
                lines.append(
                    {"path": f"{name}/{record['path']}", "voice": record["cues"],
                     "written_by": record["written_by"]}
                )  # fmt: skip
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        write_whole(self.settings.out / "data" / "cues.jsonl", text)


@dataclass(frozen=True)
class Fold(Job):
    """The tables of a fold's training speakers, and the model that its trainings start from."""

    fold: int

    @property
    def name(self) -> str:
        return f"fold {self.fold}"

    @property
    def folder(self) -> Path:
        return self.settings.out / f"fold_{self.fold}"

    def left(self) -> list[str]:
        done = {
            "tables": (self.folder / "tables").exists(),
            "create": has_model(self.folder / "init"),
        }
        return [kind for kind, is_done in done.items() if not is_done]

    def words(self, kind: str) -> Command:
        log = self.folder / f"{kind}.log"
        if kind == "tables":
            return command_of(
                log, "--out", self.settings.out, "--fold", self.fold,
                "--folds", self.settings.folds, "--explained", self.settings.explained,
                answers=False, script=self.settings.scripts / "real_voices_tables.py",
            )  # fmt: skip
        return command_of(
            log, "create", "--sizes", SIZES, "--texts", self.folder / "tables" / "texts.json",
            "--audio-tower", self.settings.tower, "--out", self.folder / "init", answers=False,
        )  # fmt: skip

    def command(self, kind: str) -> Command:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / "recipe.json", json.dumps(self.record(), indent=2) + "\n")
        return self.words(kind)

    def may_begin(self) -> bool:
        return (self.settings.out / "data" / "cues.jsonl").exists()

    def record(self) -> dict[str, Any]:
        """What the fold is made with."""
        weights = sorted(self.settings.tower.glob("*.safetensors"))
        return {
            "explained clips": self.settings.explained,
            "tower": [sha256(file) for file in weights],
            "sizes": sha256(ROOT / SIZES),
        }

    def check(self) -> None:
        check_record(self.folder / "recipe.json", self.record())


@dataclass(frozen=True)
class Probes(Job):
    """Linear probes on the tower, fold after fold, since they share what the tower encodes once."""

    folds: tuple[int, ...]
    name = "linear probe"

    def left(self) -> list[str]:
        out = self.settings.out
        missing = [k for k in self.folds if not reads_as_json(out / f"fold_{k}" / "probe.json")]
        return [f"probe fold {fold}" for fold in missing]

    def words(self, kind: str) -> Command:
        settings, fold = self.settings, kind.split()[-1]
        return command_of(
            settings.out / f"fold_{fold}" / "probe.log",
            "--out", settings.out, "--data", settings.data, "--tower", settings.tower,
            *(["--emodb", settings.emodb] if settings.emodb else []),
            "--folds", settings.folds, "--fold", fold,
            answers=False, script=settings.scripts / "real_voices_probe.py",
        )  # fmt: skip


class Levels(Job):
    """Copies of RAVDESS at the level of Emo-DB, and the other way: what is loudness worth?"""

    name = "levels"

    def left(self) -> list[str]:
        return [] if (self.settings.out / LEVELS).exists() else ["levels"]

    def words(self, kind: str) -> Command:
        settings = self.settings
        return command_of(
            settings.out / f"{LEVELS}.log",
            "--data", settings.data.resolve(),
            *(["--emodb", settings.emodb.resolve()] if settings.emodb else []),
            "--out", settings.out / LEVELS,
            answers=False, script=settings.scripts / "real_voices_level.py",
        )  # fmt: skip


def jobs_of(settings: Settings, folds: Sequence[int], seeds: Sequence[int]) -> list[Job]:
    """Everything that a study runs, in the order of beginning."""
    trainings = [
        Training(settings, recipe, fold, seed)
        for fold in folds
        for seed in seeds
        for recipe in RECIPES
    ]
    each = [Fold(settings, fold) for fold in folds]
    probes = Probes(settings, tuple(folds))
    return [Voices(settings), Levels(settings), probes, *each, *trainings]
