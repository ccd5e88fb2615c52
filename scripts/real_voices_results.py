"""What the study of real voices measured: everything that is complete below its folder, as figures.

Of each model all predictions of all folds and seeds are put together: a speaker is tested in one
fold alone, so together they are every speaker once a seed. Intervals resample these speakers. Mean
and deviation are over folds, each of them the mean over its seeds. Answers are taken as `test` and
scripts/real_voices_probe.py wrote them.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from real_voices_trainings import RECIPES

from r1omni.analysis.runs import chance
from r1omni.metrics.answer_modes import answer_modes
from r1omni.metrics.breakdown import breakdown
from r1omni.metrics.comparison import compare
from r1omni.metrics.explanation import evaluate_explanations
from r1omni.metrics.prediction_rows import read_predictions
from r1omni.metrics.recognition import evaluate_recognition
from r1omni.metrics.resampling import Record, groups_of
from r1omni.text.emotions import LABEL_SETS, LabelSet
from r1omni.types import UsageError

# Folder of a stage -> what tables call it, in their order.
STAGES = {recipe.folder: recipe.model for recipe in RECIPES}
PROBE = "linear probe"
MODELS = (*STAGES.values(), PROBE)
SETS = {"ravdess": "ravdess", "emodb": "emodb_4way"}
# The one that others are set against.
SUBJECT = "R1-Omni"
_KEPT = ("war", "uar", "war_interval", "uar_interval")


@dataclass(frozen=True)
class Run:
    """One model that was tested on one fold.

    Attributes:
        model: as tables call it.
        fold: from 1.
        seed: of the trainings; None of what has none.
        records: by test set, then by condition.
    """

    model: str
    fold: int
    seed: int | None
    records: dict[str, dict[str, list[Record]]]


def read_study(out: Path) -> dict[str, Any]:
    """Every figure of a study, as results.json has it.

    Args:
        out: folder of the study.

    Raises:
        UsageError: nothing is complete there, or a file cannot be read.
    """
    runs = find_runs(out)
    if not runs:
        raise UsageError(
            f"{out}: no fold_K/probe.json and no fold_K/seed_S/STAGE/test/results.json there; run "
            "scripts/run_real_voices.py first"
        )
    by_model = {model: [run for run in runs if run.model == model] for model in MODELS}
    costs = out / "costs.json"
    return {
        "folds": sorted({run.fold for run in runs}),
        "seeds": sorted({run.seed for run in runs if run.seed is not None}),
        "models": {model: model_figures(own) for model, own in by_model.items() if own},
        "chance": {name: found for name in SETS if (found := _chance(runs, name)) is not None},
        "differences": _differences(by_model),
        "video_folds": _folds_of(runs, "actor_05"),
        "probe": _probe_choices(out),
        "costs": json.loads(costs.read_text(encoding="utf-8")) if costs.is_file() else None,
    }


# Reading ----------------------------------------------------------------------------------------


def find_runs(out: Path) -> list[Run]:
    """Every model and fold whose test is complete."""
    runs = []
    for folder in sorted(out.glob("fold_*"), key=_number):
        fold = _number(folder)
        if (folder / "probe.json").is_file():
            runs.append(Run(PROBE, fold, None, _probe_records(folder / "probe.json")))
        for seed in sorted(folder.glob("seed_*"), key=_number):
            for stage, model in STAGES.items():
                if (seed / stage / "test" / "results.json").is_file():
                    found = _predictions(seed / stage / "test" / "predictions")
                    runs.append(Run(model, fold, _number(seed), found))
    return runs


def _number(folder: Path) -> int:
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


def _probe_choices(out: Path) -> dict[str, Any]:
    files = sorted(out.glob("fold_*/probe.json"), key=lambda file: _number(file.parent))
    contents = {_number(f.parent): json.loads(f.read_text(encoding="utf-8")) for f in files}
    return {str(fold): {key: c[key] for key in ("layer", "C")} for fold, c in contents.items()}


# Figures ----------------------------------------------------------------------------------------


def model_figures(runs: Sequence[Run]) -> dict[str, Any]:
    """What is known of one model, from its runs."""
    found: dict[str, Any] = {
        "folds": sorted({run.fold for run in runs}),
        "seeds": sorted({run.seed for run in runs if run.seed is not None}),
        "sets": {},
    }
    for name, label_set in SETS.items():
        own = [run for run in runs if "full" in run.records.get(name, {})]
        if own:
            found["sets"][name] = _set_figures(own, name, LABEL_SETS[label_set])
    return found


def _set_figures(runs: Sequence[Run], name: str, labels: LabelSet) -> dict[str, Any]:
    full = _pooled(runs, name, "full")
    muted = _pooled(runs, name, "muted")
    whole = _recognition(full, labels.labels)
    figures: dict[str, Any] = {
        **{key: getattr(whole, key) for key in (*_KEPT, "n", "per_class_recall", "confusion")},
        "labels": list(labels.labels),
        "format_ok": whole.format_ok if all("format_ok" in r for r in full) else None,
        "speakers": len({record["group"] for record in full}),
        "over_folds": {
            key: _over_folds(runs, lambda run, key=key: getattr(
                _recognition(run.records[name]["full"], labels.labels, 0), key
            ))
            for key in ("war", "uar")
        },
        "breakdown": {
            field: {value: asdict(part) for value, part in parts.items()}
            for field, parts in breakdown(full, labels.labels).items()
        },
        "restricted": None,
        "muted": None,
        "modes": None,
        "explanations": None,
    }  # fmt: skip
    if all("scores" in record for record in full):
        chosen = [{**r, "prediction": _best(r["scores"], labels)} for r in full]
        figures["restricted"] = _kept(_recognition(chosen, labels.labels))
    if muted:
        figures["muted"] = _kept(_recognition(muted, labels.labels))
    if (modes := answer_modes(full, labels.labels)) is not None:
        figures["modes"] = modes.to_dict()
    if all("verdict" in record for record in full):
        figures["explanations"] = _explanations(full, muted, labels)
    return figures


def _pooled(runs: Iterable[Run], name: str, condition: str) -> list[Record]:
    return [record for run in runs for record in run.records.get(name, {}).get(condition, [])]


def _recognition(records: Sequence[Record], labels: tuple[str, ...], resamples: int = 1000) -> Any:
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


def _kept(result: Any) -> dict[str, Any]:
    return {key: getattr(result, key) for key in _KEPT}


def _best(scores: Mapping[str, float], labels: LabelSet) -> str:
    """The best-scored of the set's classes: the restricted choice."""
    return max(labels.labels, key=lambda label: scores.get(label, 0.0))


def _over_folds(runs: Sequence[Run], figure: Callable[[Run], float]) -> dict[str, Any]:
    """Mean and standard deviation over folds, each the mean over its seeds."""
    by_fold: dict[int, list[float]] = {}
    for run in runs:
        by_fold.setdefault(run.fold, []).append(figure(run))
    means = {fold: statistics.mean(values) for fold, values in sorted(by_fold.items())}
    return {
        "mean": statistics.mean(means.values()),
        "deviation": statistics.stdev(means.values()) if len(means) > 1 else None,
        "folds": {str(fold): value for fold, value in means.items()},
    }


def _explanations(full: list[Record], muted: list[Record], labels: LabelSet) -> dict[str, Any]:
    told = evaluate_explanations(full, labels.labels)
    found: dict[str, Any] = {
        "supported": (told.supported, told.intervals["supported"]),
        "contradicted_among_right": (
            told.among_right["contradicted"],
            told.intervals["contradicted_among_right"],
        ),
        "right_and_supported": (told.right_and_supported, told.intervals["right_and_supported"]),
        "cue_precision": None,
        "cue_recall": None,
        "invented_muted": None,
    }
    if "audio" in told.cues:
        cues = told.cues["audio"]
        for name in ("precision", "recall"):
            found[f"cue_{name}"] = (getattr(cues, name), cues.intervals[name])
    if muted:
        invented = evaluate_explanations(muted, labels.labels, "muted").invented
        assert invented is not None  # muted takes the sound away
        found["invented_muted"] = (invented.share, invented.intervals["share"])
    return found


def _chance(runs: Sequence[Run], name: str) -> dict[str, Any] | None:
    """Of the test sets of all folds together: always the most frequent class, or any alike."""
    labels = LABEL_SETS[SETS[name]].labels
    once = {(run.fold, r["sample_id"]): r for run in runs for r in _pooled([run], name, "full")}
    if not once:
        return None
    rows = [[sum(r["label"] == label for r in once.values())] for label in labels]
    found = chance({"confusion": rows, "labels": labels})
    return {
        "n": len({sample for _, sample in once}),
        "majority": dict(zip(("war", "uar"), found.majority, strict=True)),
        "uniform": dict(zip(("war", "uar"), found.uniform, strict=True)),
    }


def _differences(by_model: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    """Set -> other model -> R1-Omni minus it, on the same clips of the same folds and seeds."""
    found: dict[str, Any] = {}
    for name in SETS:
        for other in MODELS:
            if other == SUBJECT:
                continue
            theirs = {
                (run.fold, run.seed, r["sample_id"]): r
                for run in by_model[other]
                for r in _pooled([run], name, "full")
            }
            pairs = [
                (theirs[key], r)
                for run in by_model[SUBJECT]
                for r in _pooled([run], name, "full")
                # The probe has no seed: it stands beside each.
                if (key := (run.fold, None if other == PROBE else run.seed, r["sample_id"]))
                in theirs
            ]
            if pairs:
                result = compare(
                    [one["prediction"] for one, _ in pairs],
                    [two["prediction"] for _, two in pairs],
                    [two["label"] for _, two in pairs],
                    groups_of([two for _, two in pairs]),
                )
                found.setdefault(name, {})[other] = asdict(result)
    return found


def _folds_of(runs: Sequence[Run], speaker: str) -> list[int]:
    """The folds that test a speaker."""
    return sorted(
        {
            r.fold
            for r in runs
            if any(x["group"] == speaker for x in _pooled([r], "ravdess", "full"))
        }
    )
