"""Calibrated scores and abstention: fitted on validation answers, told of others.

Nothing is chosen by looking at the answers that are judged: the temperature and the threshold come
from the validation answers, and clips that both have are refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from r1omni.metrics.abstention import RiskCoverage, abstain, risk_coverage, threshold_for
from r1omni.metrics.breakdown import MIN_CLIPS
from r1omni.metrics.predictions import (
    Answers,
    find_predictions,
    read_answers,
    set_and_condition,
)
from r1omni.metrics.resampling import Record, groups_of
from r1omni.metrics.temperature import (
    Temperature,
    fit_temperature,
    score_quality,
    sureness,
    with_temperature,
)
from r1omni.types import NUM_EXAMPLES, UsageError

CALIBRATION_FILE = "calibration.json"
# By way of answering: the fields of a record with its scores and its answer, and the one that
# calibrated scores are written to.
_MODES = {
    "think": ("scores", "prediction", "calibrated_scores"),
    "direct": ("direct_scores", "direct_prediction", "calibrated_direct_scores"),
}
_NUM_POINTS = 101


@dataclass(frozen=True)
class Fit:
    """What validation answers say of one way to answer.

    Attributes:
        temperature: of the scores.
        threshold: lowest calibrated confidence that is answered; None where no accuracy is wanted,
            or where validation answers reach it at no coverage.
        validation: what temperature and threshold do to the validation answers themselves, as
            `_told` has it.
    """

    temperature: Temperature
    threshold: float | None
    validation: dict[str, Any]


def read_validation(path: Path, label_set: str | None = None) -> Answers:
    """Validation answers: a file, or a folder with one of the full input.

    Raises:
        UsageError: none or several of them, or one that cannot be read.
    """
    files = find_predictions([path])
    if not path.is_file():
        files = [file for file in files if set_and_condition(file)[1] == "full"]
    if len(files) != 1:
        names = ", ".join(file.name for file in files[:NUM_EXAMPLES]) or "none of the full input"
        raise UsageError(f"--calibrate {path}: holds {names}; name one file of validation answers")
    return read_answers(files[0], label_set)


def calibrated(
    answers: Sequence[Answers], validation: Answers, accuracy: float | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fit temperature and threshold, and tell what they do to other answers.

    Args:
        answers: to be judged; their records get the calibrated scores.
        validation: to be fitted on.
        accuracy: wanted share of right answers among those that are given, or None.

    Returns:
        what `results.json` holds of it, and what `calibration.json` does.

    Raises:
        UsageError: clips of both, other classes, or answers without scores.
    """
    fits = _fits(validation, accuracy)
    told: dict[str, Any] = {}
    for one in answers:
        if not one.labelled:
            continue
        _check_apart(one, validation)
        modes = {}
        for mode, fit in fits.items():
            scores, answered, calibrated_name = _MODES[mode]
            rows = _scored(one, scores)
            if not rows:
                continue
            value = fit.temperature.value
            for record in one.records:
                if scores in record:
                    record[calibrated_name] = with_temperature(record[scores], value)
            modes[mode] = _told(rows, one.labels.labels, scores, answered, value, fit.threshold)
        if modes:
            told.setdefault(one.name, {})[one.condition] = modes
    if not told:
        raise UsageError(
            f"{answers[0].file}: no answer has scores of a way to answer that {validation.file} "
            f"has ({', '.join(fits)}); test with --data.answer_mode both or direct"
        )
    fitted = {
        "label_set": validation.labels.name,
        "classes": list(validation.labels.labels),
        "fitted_on": {
            "file": str(validation.file),
            "sha256": hashlib.sha256(validation.file.read_bytes()).hexdigest(),
            "set": validation.name,
            "condition": validation.condition,
        },
        "target_accuracy": accuracy,
        "modes": {
            mode: {
                "temperature": fit.temperature.value,
                "is_at_end": fit.temperature.is_at_end,
                "threshold": fit.threshold,
                "validation": fit.validation,
            }
            for mode, fit in fits.items()
        },
    }
    return {"calibration": {"fit": fitted, "sets": told}}, fitted


def _fits(validation: Answers, accuracy: float | None) -> dict[str, Fit]:
    """A fit a way to answer that the validation answers have."""
    fits = {}
    labels = validation.labels.labels
    for mode, (scores, answered, _) in _MODES.items():
        rows = _scored(validation, scores)
        if not rows:
            continue
        found = fit_temperature([r[scores] for r in rows], [r["label"] for r in rows], labels)
        threshold = None
        if accuracy is not None:
            confidence, correct = _confidence(rows, scores, answered, found.value)
            threshold = threshold_for(accuracy, confidence, correct)
        told = _told(rows, labels, scores, answered, found.value, threshold)
        fits[mode] = Fit(found, threshold, told)
    if not fits:
        raise UsageError(
            f"{validation.file}: its labelled answers have no scores; test or predict with "
            "--data.answer_mode both or direct, or write `scores`"
        )
    return fits


def _scored(answers: Answers, scores: str) -> list[dict[str, Any]]:
    """Labelled answers with scores; all but those that are missing have some, or none has.

    Raises:
        UsageError: only some of them have scores, or not of the classes.
    """
    given = [record for record in answers.labelled if not record.get("missing")]
    rows = [record for record in given if scores in record]
    if rows and len(rows) < len(given):
        lacking = next(record for record in given if scores not in record)
        raise UsageError(
            f"{answers.file}: {lacking['sample_id']} has no {scores}, and others have; give all "
            "or none"
        )
    for record in rows:
        if set(record[scores]) != set(answers.labels.labels):
            raise UsageError(
                f"{answers.file}: {scores} of {record['sample_id']} are not of the classes of "
                f"{answers.labels.name}; score by the label set that was tested"
            )
    return rows


def _check_apart(answers: Answers, validation: Answers) -> None:
    """Refuse to judge what was fitted on."""
    if answers.labels != validation.labels:
        raise UsageError(
            f"--calibrate {validation.file}: is of the classes {validation.labels.name}, and "
            f"{answers.file} of {answers.labels.name}; scores of other classes have another "
            "temperature"
        )
    if answers.file.exists() and answers.file.samefile(validation.file):
        raise UsageError(
            f"--calibrate {validation.file}: is the file that is judged; a temperature is fitted "
            "on validation answers, never on those"
        )
    fitted = {record["sample_id"] for record in validation.records}
    both = [r["sample_id"] for r in answers.records if r["sample_id"] in fitted]
    if both:
        raise UsageError(
            f"--calibrate {validation.file}: {len(both)} of its clips are judged in {answers.file} "
            f"too ({', '.join(both[:NUM_EXAMPLES])}); a temperature is fitted on other clips"
        )


def _confidence(
    rows: Sequence[Record], scores: str, answered: str, temperature: float
) -> tuple[list[float], list[bool]]:
    """Calibrated confidence of each answer, and whether it is right."""
    pairs = [(with_temperature(row[scores], temperature), row[answered]) for row in rows]
    return [sureness(*pair) for pair in pairs], [row[answered] == row["label"] for row in rows]


def _told(
    rows: Sequence[Mapping[str, Any]],
    labels: tuple[str, ...],
    scores: str,
    answered: str,
    temperature: float,
    threshold: float | None,
) -> dict[str, Any]:
    """Quality before and after, the curve of risk and coverage, and what abstaining does."""
    groups = groups_of(rows)
    known = [row[answered] for row in rows], [row["label"] for row in rows], labels, groups
    after = [with_temperature(row[scores], temperature) for row in rows]
    confidence, correct = _confidence(rows, scores, answered, temperature)
    found = {
        "before": asdict(score_quality([row[scores] for row in rows], *known)),
        "after": asdict(score_quality(after, *known)),
        "risk_coverage": _curve(risk_coverage(confidence, correct)),
    }
    if threshold is not None:
        found["abstention"] = {
            "threshold": threshold,
            **asdict(abstain(threshold, confidence, correct, groups)),
        }
    return found


def _curve(curve: RiskCoverage) -> dict[str, Any]:
    """At most `_NUM_POINTS` of its points, the first and the last among them."""
    last = len(curve.coverage) - 1
    kept = sorted(set(np.linspace(0, last, min(_NUM_POINTS, last + 1)).round().astype(int)))
    return {
        "area": curve.area,
        **{
            name: [getattr(curve, name)[k] for k in kept]
            for name in ("thresholds", "coverage", "risk")
        },
    }


def calibration_text(results: Mapping[str, Any]) -> list[str]:
    """Lines for a terminal; none where nothing was calibrated."""
    if "calibration" not in results:
        return []
    fit, lines = results["calibration"]["fit"], []
    for mode, found in fit["modes"].items():
        n = found["validation"]["before"]["n"]
        end = ", the end of its range: validation answers are too few" if found["is_at_end"] else ""
        lines.append(f"temperature, {mode}: {found['temperature']:.3f} from {n} answers{end}")
        if fit["target_accuracy"] is not None:
            lines.append(_threshold_line(fit["target_accuracy"], found))
    for name, conditions in results["calibration"]["sets"].items():
        for condition, modes in conditions.items():
            for mode, told in modes.items():
                title = f"{name}, {mode}" if condition == "full" else f"{name}, {condition}, {mode}"
                lines += [f"  {title}: {words}" for words in _told_words(told)]
    return lines


def _threshold_line(accuracy: float, found: Mapping[str, Any]) -> str:
    if found["threshold"] is None:
        return (
            f"  no confidence from which on {accuracy:.1%} of at least {MIN_CLIPS} validation "
            "answers are right: no threshold"
        )
    told = found["validation"]["abstention"]
    return (
        f"  answered from confidence {found['threshold']:.3f} on: {told['coverage']:.1%} of "
        f"validation clips, {told['accuracy']:.1%} right (wanted {accuracy:.1%})"
    )


def _told_words(told: Mapping[str, Any]) -> list[str]:
    pairs = [
        f"{name} {told['before'][key]:.3f} -> {told['after'][key]:.3f}"
        for name, key in (("NLL", "nll"), ("Brier", "brier"), ("ECE", "ece"))
    ]
    words = [f"{', '.join(pairs)}; area under risk-coverage {told['risk_coverage']['area']:.3f}"]
    if "abstention" in told:
        given = told["abstention"]
        right = "none answered" if given["accuracy"] is None else f"{given['accuracy']:.1%} right"
        words.append(
            f"{given['coverage']:.1%}{_between(given['coverage_interval'])} answered, "
            f"{right}{_between(given['accuracy_interval'])}"
        )
    return words


def _between(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f" ({ends[0]:.1%} to {ends[1]:.1%})"
