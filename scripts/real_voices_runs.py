"""What a study of real voices left of each model and fold, and how often its answers are right."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from real_voices_trainings import LEVELS, RECIPES

from r1omni.metrics.predictions import read_predictions
from r1omni.metrics.recognition import evaluate_recognition
from r1omni.metrics.resampling import Record, groups_of
from r1omni.text.emotions import LABEL_SETS, LabelSet
from r1omni.types import UsageError

# Folder of a stage -> what tables call it, in their order.
STAGES = {recipe.folder: recipe.model for recipe in RECIPES}
PROBE = "linear probe"
MODELS = (*STAGES.values(), PROBE)
SETS = {"ravdess": "ravdess", "emodb": "emodb_4way"}


@dataclass(frozen=True)
class Run:
    """One model that was tested on one fold.

    Attributes:
        model: as tables call it.
        fold: from 1.
        seed: of the trainings; None of what has none.
        records: by test set, then by condition.
        at_other_level: by test set, of copies at the level of the other set; empty where that was
            not tested.
    """

    model: str
    fold: int
    seed: int | None
    records: dict[str, dict[str, list[Record]]]
    at_other_level: dict[str, list[Record]] = field(default_factory=dict)


def find_runs(out: Path) -> list[Run]:
    """Every model and fold whose test is complete."""
    runs = []
    for folder in sorted(out.glob("fold_*"), key=number):
        fold = number(folder)
        if (folder / "probe.json").is_file():
            runs.append(Run(PROBE, fold, None, _probe_records(folder / "probe.json")))
        for seed in sorted(folder.glob("seed_*"), key=number):
            for stage, model in STAGES.items():
                if (seed / stage / "test" / "results.json").is_file():
                    found = _predictions(seed / stage / "test" / "predictions")
                    levels = _predictions(seed / stage / LEVELS / "test" / "predictions")
                    other = {name: own["full"] for name, own in levels.items()}
                    runs.append(Run(model, fold, number(seed), found, other))
    return runs


def number(folder: Path) -> int:
    """Of `fold_K` or `seed_S`.

    Raises:
        UsageError: it has another name.
    """
    found = re.fullmatch(r"(?:fold|seed)_(\d+)", folder.name)
    if found is None:
        raise UsageError(f"{folder}: is named neither fold_K nor seed_S; move it elsewhere")
    return int(found[1])


def _predictions(folder: Path) -> dict[str, dict[str, list[Record]]]:
    found: dict[str, dict[str, list[Record]]] = {}
    for file in sorted(folder.glob("*.jsonl")):
        name, _, condition = file.stem.rpartition(".")
        if name in SETS:
            labelled = [r for r in read_predictions(file) if r["label"] is not None]
            found.setdefault(name, {})[condition] = list(labelled)
    return found


def _probe_records(file: Path) -> dict[str, dict[str, list[Record]]]:
    """An answer outside the set's classes is None there, as in predictions."""
    content = json.loads(file.read_text(encoding="utf-8"))
    return {
        name: {
            "full": [
                {**row, "prediction": LABEL_SETS[SETS[name]].parse(row["answer"])} for row in rows
            ]
        }
        for name, rows in content["predictions"].items()
    }


def pooled(runs: Iterable[Run], name: str, condition: str) -> list[Record]:
    """The answers of all folds and seeds to a set under a condition."""
    return [record for run in runs for record in run.records.get(name, {}).get(condition, [])]


def recognition(records: Sequence[Record], labels: tuple[str, ...], resamples: int = 1000) -> Any:
    """How often answers are right, with intervals over speakers."""
    predictions = [record["prediction"] for record in records]
    return evaluate_recognition(
        predictions,
        [record["label"] for record in records],
        labels,
        format_ok=[bool(record.get("format_ok")) for record in records],
        answered=[prediction is not None for prediction in predictions],
        groups=groups_of(records),
        num_bootstrap=resamples,
    )


def best(scores: Mapping[str, float], labels: LabelSet) -> str:
    """The best-scored of the set's classes: the restricted choice."""
    return max(labels.labels, key=lambda label: scores.get(label, 0.0))
