"""What a study of real voices left of each model and fold, and how often its answers are right."""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from real_voices_trainings import LEVELS, RECIPES

from r1omni.metrics.prediction_rows import read_predictions
from r1omni.metrics.recognition import evaluate_recognition
from r1omni.metrics.resampling import Record, groups_of
from r1omni.text.answers import read_answer
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
        choice: of the probe, its layer and C; None of the others.
        at_other_level: by test set, of copies at the level of the other set; empty where that was
            not tested.
    """

    model: str
    fold: int
    seed: int | None
    records: dict[str, dict[str, list[Record]]]
    choice: dict[str, Any] | None = None
    at_other_level: dict[str, list[Record]] = field(default_factory=dict)


# Of a record, what no figure of the page needs: the answer's word stays of a text.
_NOT_KEPT = ("path", "warnings", "text", "reasoning", "known_cues")
_LEVEL = "at the other level"  # the condition of `at_other_level` in kept answers
_KEPT_NAME = re.compile(r"fold_(\d+)\.(?:seed_(\d+)\.)?(\w+)\.jsonl\.xz")


def all_runs(out: Path | None, kept: Path | None) -> list[Run]:
    """Those below a study's folder, and kept ones that are not there."""
    runs = [] if out is None else find_runs(out)
    if kept is None:
        return runs
    there = {(run.model, run.fold, run.seed) for run in runs}
    runs += [r for r in kept_runs(kept) if (r.model, r.fold, r.seed) not in there]
    return sorted(runs, key=lambda run: (run.fold, run.seed or 0))


def keep_runs(runs: Iterable[Run], kept: Path) -> None:
    """Write the answers of runs, a file each, so that figures can be computed without the study."""
    kept.mkdir(parents=True, exist_ok=True)
    folders = {model: folder for folder, model in STAGES.items()} | {PROBE: "probe"}
    for run in runs:
        seed = "" if run.seed is None else f"seed_{run.seed}."
        lines = [] if run.choice is None else [json.dumps({"choice": run.choice}) + "\n"]
        for name, conditions in run.records.items():
            for condition, records in conditions.items():
                lines += [_kept_line(name, condition, record) for record in records]
        for name, records in run.at_other_level.items():
            lines += [_kept_line(name, _LEVEL, record) for record in records]
        file = kept / f"fold_{run.fold}.{seed}{folders[run.model]}.jsonl.xz"
        file.write_bytes(lzma.compress("".join(lines).encode()))


def _kept_line(name: str, condition: str, record: Record) -> str:
    row = {key: value for key, value in record.items() if key not in _NOT_KEPT}
    row["answer"] = answered_word(record)
    for key, value in row.items():
        if key.endswith("scores"):
            row[key] = {label: round(score, 5) for label, score in value.items()}
    return json.dumps({"set": name, "condition": condition, **row}) + "\n"


def kept_runs(kept: Path) -> list[Run]:
    """The runs whose answers are kept in a folder; none where there is no such folder.

    Raises:
        UsageError: a file of another name.
    """
    models, runs = {**STAGES, "probe": PROBE}, []
    for file in sorted(kept.glob("*.jsonl.xz")):
        name = _KEPT_NAME.fullmatch(file.name)
        if name is None or name[3] not in models:
            raise UsageError(
                f"{file}: is not named fold_K.seed_S.STAGE.jsonl.xz; move it elsewhere"
            )
        rows = [*map(json.loads, lzma.decompress(file.read_bytes()).decode().splitlines())]
        choice = rows.pop(0)["choice"] if name[3] == "probe" else None
        seed = None if name[2] is None else int(name[2])
        run = Run(models[name[3]], int(name[1]), seed, {}, choice)
        for row in rows:
            test_set, condition = row.pop("set"), row.pop("condition")
            if condition == _LEVEL:
                run.at_other_level.setdefault(test_set, []).append(row)
            else:
                run.records.setdefault(test_set, {}).setdefault(condition, []).append(row)
        runs.append(run)
    return runs


def find_runs(out: Path) -> list[Run]:
    """Every model and fold whose test is complete."""
    runs = []
    for folder in sorted(out.glob("fold_*"), key=number):
        fold = number(folder)
        if (folder / "probe.json").is_file():
            runs.append(_probe(fold, folder / "probe.json"))
        for seed in sorted(folder.glob("seed_*"), key=number):
            for stage, model in STAGES.items():
                if (seed / stage / "test" / "results.json").is_file():
                    found = _predictions(seed / stage / "test" / "predictions")
                    levels = _predictions(seed / stage / LEVELS / "test" / "predictions")
                    other = {name: own["full"] for name, own in levels.items()}
                    runs.append(Run(model, fold, number(seed), found, None, other))
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


def _probe(fold: int, file: Path) -> Run:
    """An answer outside the set's classes is None there, as in predictions."""
    content = json.loads(file.read_text(encoding="utf-8"))
    records = {
        name: {
            "full": [
                {**row, "prediction": LABEL_SETS[SETS[name]].parse(row["answer"])} for row in rows
            ]
        }
        for name, rows in content["predictions"].items()
    }
    return Run(PROBE, fold, None, records, {key: content[key] for key in ("layer", "C")})


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


def answered_word(record: Record) -> str:
    """What stands as the answer, emotion or not."""
    return record["answer"] if "answer" in record else read_answer(record["text"]).word


def best(scores: Mapping[str, float], labels: LabelSet) -> str:
    """The best-scored of the set's classes: the restricted choice."""
    return max(labels.labels, key=lambda label: scores.get(label, 0.0))
