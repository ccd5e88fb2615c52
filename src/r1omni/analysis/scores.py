"""Figures of predictions computed again, from files of `test` and `predict` or of other systems."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import r1omni
from r1omni.analysis.calibrated import CALIBRATION_FILE, calibrated, read_validation
from r1omni.analysis.judged import judge_predictions
from r1omni.analysis.references import answers_to
from r1omni.analysis.unibench import unibench
from r1omni.judging import read_judge_file
from r1omni.metrics.emotion_wheels import published_wheels
from r1omni.metrics.predictions import (
    RESULTS_FILE,
    Answers,
    find_predictions,
    read_answers,
    score_answers,
)
from r1omni.metrics.protocol import protocol_of
from r1omni.text.wheels import SHIPPED
from r1omni.types import Missing, UsageError


def write_scores(
    paths: list[Path],
    out: Path | None = None,
    label_set: str | None = None,
    references: Path | None = None,
    missing: Missing = "refuse",
    calibrate: Path | None = None,
    accuracy: float | None = None,
    wheels: Path | None = None,
    judge: Path | None = None,
    with_unibench: bool = False,
) -> dict[str, Any]:
    """Score predictions, and write `results.json` and the predictions as they are read today.

    Args:
        paths: files of predictions, or folders that hold some; with `references` files of answers.
        out: folder to write, or None to write nothing; it must be new or empty.
        label_set: in place of the recorded one.
        references: table of labels, for answers of other systems (`answers_to`).
        missing: "wrong" counts a clip without an answer as one that was answered wrong.
        calibrate: validation answers to fit a temperature on (`calibrated`).
        accuracy: with `calibrate`, the wanted share of right answers.
        wheels: folder with the published wheels of emotions; None for those that are shipped.
        judge: file of a judge, which is asked about every reasoning, or None.
        with_unibench: add what MER-UniBench measures.

    Returns:
        what `results.json` holds.

    Raises:
        UsageError: no predictions, ones that cannot be judged, an `out` that holds something, or
            wheels or a judge that cannot be used.
        RunStopped: the judge cannot go on.
    """
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out} exists; choose another folder or remove it")
    config = None if judge is None else read_judge_file(judge)
    table, source = SHIPPED, "shipped"
    if wheels is not None:
        table, source = published_wheels(wheels), str(wheels)
    if references is None:
        answers = [read_answers(file, label_set) for file in find_predictions(paths)]
    else:
        answers = answers_to(paths, references, label_set, missing)
    results = score_answers(answers, table, source)
    # Of the first file of a set, since its conditions are tested together.
    results["protocols"] = {
        one.name: protocol_of_answers(one, is_ours=references is None) for one in reversed(answers)
    }
    name_vote_temperatures(results)
    results["scored"] = {
        **scored_by(),
        "references": None if references is None else str(references),
        "num_missing": sum(bool(r.get("missing")) for one in answers for r in one.records),
    }
    fitted = None
    if calibrate is not None:
        found, fitted = calibrated(answers, read_validation(calibrate, label_set), accuracy)
        results |= found
    if with_unibench:
        results |= unibench(answers, table, source)
    if config is not None:
        results |= judge_predictions(answers, config)
    if out is not None:
        _write(out, results, answers, fitted)
    return results


def name_vote_temperatures(results: dict[str, Any]) -> None:
    """Put the temperature of votes, None where it is not known, beside what they gained."""
    for name, conditions in results.get("voting", {}).items():
        temperature = (results["protocols"][name]["voting"] or {}).get("temperature")
        for figures in conditions.values():
            figures["temperature"] = temperature


def scored_by() -> dict[str, str]:
    """Which version computes figures, and when (UTC)."""
    return {
        "r1omni": r1omni.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _write(
    out: Path, results: dict[str, Any], answers: Sequence[Answers], fitted: dict[str, Any] | None
) -> None:
    folder = out / "predictions"
    folder.mkdir(parents=True)
    for one in answers:
        lines = "".join(f"{json.dumps(record)}\n" for record in one.records)
        (folder / f"{one.name}.{one.condition}.jsonl").write_text(lines, encoding="utf-8")
    if fitted is not None:
        made = {**fitted, "scored": results["scored"]}
        (out / CALIBRATION_FILE).write_text(f"{json.dumps(made, indent=2)}\n", encoding="utf-8")
    (out / RESULTS_FILE).write_text(f"{json.dumps(results, indent=2)}\n", encoding="utf-8")


def protocol_of_answers(answers: Answers, is_ours: bool = True) -> dict[str, Any]:
    """The protocol that `results.json` beside answers records; else what they themselves tell.

    Args:
        answers: of a set.
        is_ours: whether they are as `test` and `score` leave them. Beside others nothing is read.
    """
    folder = answers.file.absolute().parent
    file = folder.parent / RESULTS_FILE
    is_beside = is_ours and folder.name == "predictions" and file.is_file()
    content = json.loads(file.read_text(encoding="utf-8")) if is_beside else {}
    recorded = (content.get("protocols") or {}).get(answers.name)
    # Version 0.1 recorded where results came from, and no protocols.
    made = protocol_of(content.get("provenance") or {}, answers.name, answers.labels.name)
    found = made if recorded is None else {**made, **recorded}
    groups = {str(record["group"]) for record in answers.records if record["group"]}
    votes = max(len(record.get("votes", ())) for record in answers.records)
    told = {
        "speakers": sorted(groups) or None,
        "num_clips": len(answers.records),
        "voting": {"samples": votes, "temperature": None} if votes else None,
    }
    known = {key: value for key, value in told.items() if found[key] is None}
    # The classes may be others than those that were tested.
    return {**found, **known, "label_set": made["label_set"], "classes": made["classes"]}
