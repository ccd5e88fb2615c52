"""What a study of real voices is made of, and what its jobs have in common."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from run_folders import WrongUse, add_costs, check_record, write_whole
from side_by_side import ROOT, Command, Spent

CONFIGS = "configs/ravdess_speech"
SIZES = f"{CONFIGS}/model.yaml"


@dataclass(frozen=True)
class Settings:
    """What all runs of a study share.

    Attributes:
        out: folder of everything that is written.
        data: RAVDESS, as its publisher ships it.
        tower: folder of a Whisper.
        emodb: Emo-DB, or None.
        folds: speaker-disjoint ones of RAVDESS.
        explained: explained clips of the cold start.
        scripts: folder of the scripts that are run beside r1omni.
    """

    out: Path
    data: Path
    tower: Path
    emodb: Path | None = None
    folds: int = 5
    explained: int = 150
    scripts: Path = ROOT / "scripts"

    @property
    def linked(self) -> dict[str, Path]:
        """Data set -> the folder that OUT/data links to."""
        return {"RAVDESS": self.data, **({"EmoDB": self.emodb} if self.emodb else {})}

    @property
    def costs(self) -> Path:
        return self.out / "costs.json"

    def record(self) -> dict[str, Any]:
        """What a study is made of; a folder that was made of something else is refused."""
        return {
            "folds": self.folds,
            "data": os.path.realpath(self.data),
            "emodb": self.emodb and os.path.realpath(self.emodb),
        }

    def begin(self) -> None:
        """Note what the study is made of, and link its data.

        Raises:
            WrongUse: the folder was made of something else, or links to other data.
        """
        file = self.out / "study.json"
        check_record(file, self.record())
        (self.out / "data").mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(self.record(), indent=2) + "\n")
        for name, folder in self.linked.items():
            link = self.out / "data" / name
            if link.is_symlink() and os.path.realpath(link) != os.path.realpath(folder):
                raise WrongUse(f"{link} leads to {os.path.realpath(link)}, not {folder}; remove it")
            if not link.exists():
                link.symlink_to(folder.resolve(), target_is_directory=True)


@dataclass(frozen=True)
class Job:
    """Commands below one folder of the study.

    Attributes:
        settings: of the study.
    """

    settings: Settings

    @property
    def name(self) -> str:
        raise NotImplementedError

    def left(self) -> list[str]:
        raise NotImplementedError

    def words(self, kind: str) -> Command:
        """The command of a kind; nothing is touched."""
        raise NotImplementedError

    def command(self, kind: str) -> Command:
        return self.words(kind)

    def check(self) -> None:
        """Raise WrongUse where its folder was made with other settings."""

    def may_begin(self) -> bool:
        """Whether what it needs of other jobs is there."""
        return True

    def ended(self, kind: str, spent: Spent) -> None:
        add_costs(self.settings.costs, f"{self.name}: {kind}", spent, with_memory=True)


def command_of(
    log: Path,
    *words: object,
    finish: Callable[[], None] = lambda: None,
    answers: bool = True,
    script: Path | None = None,
) -> Command:
    """A command of any words."""
    return Command(tuple(map(str, words)), log, finish, answers, script)
