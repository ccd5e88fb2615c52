"""What the study of real voices measured: everything that is complete below its folder, as figures.

Of each model all predictions of all folds and seeds are put together: a speaker is tested in one
fold alone, so together they are every speaker once a seed. Intervals resample these speakers. Mean
and deviation are over folds, each of them the mean over its seeds. Answers are taken as `test` and
scripts/real_voices_probe.py wrote them.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from real_voices_abroad import abroad
from real_voices_runs import (
    MODELS,
    PROBE,
    SETS,
    STAGES,
    Run,
    all_runs,
    best,
    pooled,
    recognition,
)
from real_voices_trainings import RECIPES

from r1omni.analysis.runs import chance
from r1omni.metrics.answer_modes import answer_modes
from r1omni.metrics.breakdown import breakdown
from r1omni.metrics.comparison import compare
from r1omni.metrics.explanation import evaluate_explanations
from r1omni.metrics.resampling import Record, groups_of
from r1omni.text.emotions import LABEL_SETS, LabelSet
from r1omni.types import UsageError

SUBJECT = "R1-Omni"
# The cold start that R1-Omni was trained from.
COLD_START = "EMER-SFT"
# What was tried where R1-Omni was behind label SFT, and this with what else was tried and helped.
AFTER_LABELS, COMBINED = "R1-Omni after labels", "R1-Omni, combined"
# Those that all others are set against.
SUBJECTS = (SUBJECT, AFTER_LABELS, COMBINED)
_KEPT = ("war", "uar", "war_interval", "uar_interval")


def read_study(out: Path | None, kept: Path | None = None) -> dict[str, Any]:
    """Every figure of a study, as results.json has it.

    Args:
        out: folder of the study, or None for kept answers alone.
        kept: folder of answers that `keep_runs` wrote, of models that are not in `out`.

    Raises:
        UsageError: nothing is complete there, or a file cannot be read.
    """
    runs = all_runs(out, kept)
    if not runs:
        raise UsageError(
            f"{out or kept}: no fold_K/probe.json and no fold_K/seed_S/STAGE/test/results.json "
            "there; run scripts/run_real_voices.py first"
        )
    by_model = {model: [run for run in runs if run.model == model] for model in MODELS}
    return {
        "folds": sorted({run.fold for run in runs}),
        "seeds": sorted({run.seed for run in runs if run.seed is not None}),
        "models": {model: model_figures(own) for model, own in by_model.items() if own},
        "chance": {name: found for name in SETS if (found := _chance(runs, name)) is not None},
        "differences": {subject: _differences(by_model, subject) for subject in SUBJECTS},
        "cue_precision_gains": _cue_precision_gains(by_model),
        "abroad": {model: abroad(own) for model, own in by_model.items() if own},
        "video_folds": _folds_of(runs, "actor_05"),
        "probe": {str(r.fold): r.choice for r in by_model[PROBE]},
        "costs": _costs(out),
    }


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
    full = pooled(runs, name, "full")
    muted = pooled(runs, name, "muted")
    whole = recognition(full, labels.labels)
    figures: dict[str, Any] = {
        **{key: getattr(whole, key) for key in (*_KEPT, "n", "per_class_recall", "confusion")},
        "labels": list(labels.labels),
        "format_ok": whole.format_ok if all("format_ok" in r for r in full) else None,
        "speakers": len({record["group"] for record in full}),
        "over_folds": {
            key: _over_folds(runs, lambda run, key=key: getattr(
                recognition(run.records[name]["full"], labels.labels, 0), key
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
        chosen = [{**r, "prediction": best(r["scores"], labels)} for r in full]
        figures["restricted"] = _kept(recognition(chosen, labels.labels))
    if muted:
        figures["muted"] = _kept(recognition(muted, labels.labels))
    if (modes := answer_modes(full, labels.labels)) is not None:
        figures["modes"] = modes.to_dict()
    if all("verdict" in record for record in full):
        figures["explanations"] = _explanations(full, muted, labels)
    return figures


def _kept(result: Any) -> dict[str, Any]:
    return {key: getattr(result, key) for key in _KEPT}


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
    once = {(run.fold, r["sample_id"]): r for run in runs for r in pooled([run], name, "full")}
    if not once:
        return None
    rows = [[sum(r["label"] == label for r in once.values())] for label in labels]
    found = chance({"confusion": rows, "labels": labels})
    return {
        "n": len({sample for _, sample in once}),
        "majority": dict(zip(("war", "uar"), found.majority, strict=True)),
        "uniform": dict(zip(("war", "uar"), found.uniform, strict=True)),
    }


def _differences(by_model: Mapping[str, Sequence[Run]], subject: str) -> dict[str, Any]:
    """Set -> other model -> `subject` minus it, on the same clips of the same folds and seeds."""
    found: dict[str, Any] = {}
    for name in SETS:
        for other in MODELS:
            if other == subject:
                continue
            theirs = {
                (run.fold, run.seed, r["sample_id"]): r
                for run in by_model[other]
                for r in pooled([run], name, "full")
            }
            pairs = [
                (theirs[key], r)
                for run in by_model[subject]
                for r in pooled([run], name, "full")
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


def _cue_precision_gains(by_model: Mapping[str, Sequence[Run]]) -> dict[str, float]:
    """By model, its cue precision minus that of what it was trained from, in folds that both have.

    A model whose start explains nothing has none.
    """
    found = {}
    for recipe in RECIPES:
        if recipe.starts_from is None:
            continue
        model, runs = recipe.model, by_model[recipe.model]
        starts = {(run.fold, run.seed): run for run in by_model[STAGES[recipe.starts_from]]}
        both = [run for run in runs if (run.fold, run.seed) in starts]
        own = _cue_precision(both)
        start = _cue_precision([starts[run.fold, run.seed] for run in both])
        if own is not None and start is not None:
            found[model] = own - start
    return found


def _cue_precision(runs: Sequence[Run]) -> float | None:
    """On RAVDESS; None where nothing explains itself."""
    rows = pooled(runs, "ravdess", "full")
    if not rows or not all("verdict" in row for row in rows):
        return None
    cues = evaluate_explanations(rows, LABEL_SETS[SETS["ravdess"]].labels).cues
    precision: float | None = cues["audio"].precision if "audio" in cues else None
    return precision


def _folds_of(runs: Sequence[Run], speaker: str) -> list[int]:
    """The folds that test a speaker."""
    return sorted(
        {r.fold for r in runs if any(x["group"] == speaker for x in pooled([r], "ravdess", "full"))}
    )


def _costs(out: Path | None) -> Any:
    """What each command of the study took; None where that is not known."""
    file = None if out is None else out / "costs.json"
    return json.loads(file.read_text(encoding="utf-8")) if file and file.is_file() else None
