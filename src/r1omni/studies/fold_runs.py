"""Every fold trained and tested by commands of its own; what is complete is not repeated."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1omni.models.weights import sha256
from r1omni.studies.fold_results import finished_folds, write_folds
from r1omni.studies.fold_sets import FOLD, Folding, words_of_fold
from r1omni.studies.side_by_side import Command, SideBySide, Spent, Stopped
from r1omni.training.checkpoints import MODEL, newest_checkpoint
from r1omni.training.lightning_cli import read_settings
from r1omni.training.resume import flat_settings
from r1omni.training.run_folder import FolderLock, check_writable, write_whole
from r1omni.types import NUM_EXAMPLES, R1OmniError, Terminated, UsageError

RECORD = "fold.json"
# What a fold is given by this command.
_OWN = ("--ckpt_path", "--trainer.default_root_dir")
# What changes no figure, and so may be other than it was.
_FREE = (
    "data.loader.cache_dir",
    "data.loader.cache_limit_gb",
    "data.loader.num_workers",
    "data.loader.decode_workers",
    "trainer.enable_progress_bar",
)


@dataclass(frozen=True)
class FoldRun:
    """One fold: trained, then tested.

    Attributes:
        fold: from 1.
        folder: of its run.
        words: of both commands, without the subcommand.
        settings: that they make, by dotted name.
        keeps_best: whether the tested checkpoint is the one with the best validation.
        spent: where the seconds of each kind of command are noted.
    """

    fold: int
    folder: Path
    words: tuple[str, ...]
    settings: dict[str, Any]
    keeps_best: bool
    spent: dict[str, list[float]]

    @property
    def name(self) -> str:
        return f"fold {self.fold}"

    def left(self) -> list[str]:
        done = {
            "fit": (self.folder / MODEL / "config.json").is_file(),  # written last
            "test": bool(finished_folds(self.folder.parent, [self.fold])),
        }
        return [kind for kind, is_done in done.items() if not is_done]

    def command(self, kind: str) -> Command:
        self.folder.mkdir(parents=True, exist_ok=True)
        record = self.folder / RECORD
        write_whole(record, json.dumps(self.record(), indent=2) + "\n")
        checkpoint: tuple[str, ...] = ()
        if kind == "test":
            checkpoint = ("--ckpt_path", "best" if self.keeps_best else "last")
        elif newest_checkpoint(self.folder) is not None:
            checkpoint = ("--ckpt_path", "last")
        return Command((kind, *self.words, *checkpoint), self.folder / f"{kind}.log")

    def ended(self, kind: str, spent: Spent) -> None:
        self.spent.setdefault(kind, []).append(spent.wall_s)

    def record(self) -> dict[str, Any]:
        """What the fold is made with: its settings, and the SHA-256 of the weights it starts from.

        A start on the hub has none.
        """
        start = Path(str(self.settings["model.init_args.init_from"]))
        settings = {name: v for name, v in self.settings.items() if name not in _FREE}
        return {"settings": settings, "start": sha256(sorted(start.glob("*.safetensors")))}

    def check(self) -> None:
        """Refuse a folder that was made with something else.

        Raises:
            UsageError: naming what differs.
        """
        file = self.folder / RECORD
        if not file.exists():
            if newest_checkpoint(self.folder) is not None or "fit" not in self.left():
                raise UsageError(
                    f"{self.folder} holds a run that `folds` did not make; give another --out, or "
                    "move it elsewhere"
                )
            return
        try:
            made = json.loads(file.read_text(encoding="utf-8"))
            before: Mapping[str, Any] = made["settings"]
            was_start = made["start"]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{file} cannot be read ({error}); remove {self.folder}") from error
        now = self.record()
        names = dict.fromkeys((*before, *now["settings"]))
        differing = [
            f"{name}: {before.get(name)} -> {now['settings'].get(name)}"
            for name in names
            if before.get(name) != now["settings"].get(name)
        ]
        if was_start != now["start"]:
            differing.append("the weights of model.init_args.init_from")
        if differing:
            more = len(differing) - NUM_EXAMPLES
            listed = "; ".join(differing[:NUM_EXAMPLES]) + (f"; and {more} more" * (more > 0))
            raise UsageError(
                f"{self.folder} was made with other settings ({listed}); give them as they were, "
                "or another --out, or remove that folder"
            )


def run_folds(
    words: Sequence[str],
    out: Path,
    folding: Folding,
    only: Sequence[int] = (),
    program: Sequence[str] = (sys.executable, "-m", "r1omni"),
) -> str:
    """Train and test folds one after the other, and write what came of all that are tested.

    Args:
        words: of the command `fit`, without the subcommand.
        out: gets a folder `fold_K` each, and the files of `write_folds`.
        folding: of the data sets.
        only: these folds; all.
        program: runs a command's words.

    Returns:
        the table, as Markdown.

    Raises:
        UsageError: settings that cannot be used, or other ones than a folder was made with.
        R1OmniError: a fold failed; the others are done.
        Terminated: by a signal; what the fold has is saved.
    """
    everything = range(1, folding.number + 1)
    folds = list(only) or list(everything)
    # The table has every fold that is there, so all of them have to be of these settings.
    others = [k for k in everything if k not in folds and (out / f"fold_{k}" / RECORD).exists()]
    made = _runs(words, out, folding, [*folds, *others])
    runs = made[: len(folds)]
    check_writable(out, "--out")
    lock = FolderLock(out, "--out")
    try:
        for run in made:
            run.check()
        runner = SideBySide(program, 1, lambda kind: _mean(runs[0].spent.get(kind)))
        failures = runner.run(runs)
        tested = finished_folds(out, [run.fold for run in made])
        text = write_folds(out, tested, folding.number) if tested else ""
    except Stopped as stop:
        line = f"stopped; the same command goes on in {out}"
        raise Terminated(line, stop.signum) from stop
    finally:
        lock.release()
    if failures:
        if text:
            print(text)
        raise R1OmniError(f"{'; '.join(failures)}; the same command tries again what is left")
    return text


def _runs(words: Sequence[str], out: Path, folding: Folding, folds: list[int]) -> list[FoldRun]:
    """The runs of folds, whose settings and lists of clips are in order."""
    given = [option for option in _OWN for word in words if word.partition("=")[0] == option]
    if given:
        raise UsageError(f"{given[0]} is set for each fold; leave it out")
    base = read_settings(["fit", *words])
    if not base["data"]["test"]:
        raise UsageError("data.test names no data set; a fold has to be tested on one")
    folding.check(base["data"])
    folding.check_lists(base["data"], folds)
    spent: dict[str, list[float]] = {}
    runs = []
    for fold in folds:
        folder = out / f"fold_{fold}"
        own = [
            *words_of_fold(words, base, folding, fold),
            "--run.name", f"{base['run']['name']}, fold {fold}",
            "--trainer.default_root_dir", str(folder),
        ]  # fmt: skip
        settings = flat_settings(read_settings(["fit", *own]))
        start = str(settings["model.init_args.init_from"])
        if FOLD in str(base["model"]["init_args"]["init_from"]):
            config = Path(start) / "config.json"
            if not config.is_file():
                raise UsageError(
                    f"fold {fold}: model.init_args.init_from {start} is no model folder: it has no "
                    f"{config.name}"
                )
        keeps_best = bool(base["run"]["keep_best"])
        runs.append(FoldRun(fold, folder, tuple(own), settings, keeps_best, spent))
    return runs


def _mean(seconds: Sequence[float] | None) -> float | None:
    return statistics.mean(seconds) if seconds else None
