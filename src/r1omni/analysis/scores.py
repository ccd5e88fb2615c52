"""Figures of predictions that were kept, computed again: the table and the files of `score`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import r1omni
from r1omni.analysis.calibrated import (
    CALIBRATION_FILE,
    calibrated,
    calibration_text,
    read_validation,
)
from r1omni.analysis.references import answers_to
from r1omni.metrics.breakdown import SPEAKER
from r1omni.metrics.predictions import (
    RESULTS_FILE,
    Answers,
    find_predictions,
    read_answers,
    score_answers,
)
from r1omni.metrics.protocol import protocol_line, protocol_of
from r1omni.types import Missing, UsageError

_COLUMNS = ("n", "WAR", "UAR", "format", "supported", "right & supported", "contradicted of right")
_NOT_MEASURED = "-"


def write_scores(
    paths: list[Path],
    out: Path | None = None,
    label_set: str | None = None,
    references: Path | None = None,
    missing: Missing = "refuse",
    calibrate: Path | None = None,
    accuracy: float | None = None,
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

    Returns:
        what `results.json` holds.

    Raises:
        UsageError: no predictions, ones that cannot be judged, or an `out` that holds something.
    """
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out} exists; choose another folder or remove it")
    if references is None:
        answers = [read_answers(file, label_set) for file in find_predictions(paths)]
    else:
        answers = answers_to(paths, references, label_set, missing)
    results = score_answers(answers)
    # Of the first file of a set, since its conditions are tested together.
    results["protocols"] = {
        one.name: protocol_of_answers(one, is_ours=references is None) for one in reversed(answers)
    }
    results["scored"] = {
        "r1omni": r1omni.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "references": None if references is None else str(references),
        "num_missing": sum(bool(r.get("missing")) for one in answers for r in one.records),
    }
    fitted = None
    if calibrate is not None:
        found, fitted = calibrated(answers, read_validation(calibrate, label_set), accuracy)
        results |= found
    if out is not None:
        _write(out, results, answers, fitted)
    return results


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
    told = {"speakers": sorted(groups) or None, "num_clips": len(answers.records)}
    known = {key: value for key, value in told.items() if found[key] is None}
    # The classes may be others than those that were tested.
    return {**found, **known, "label_set": made["label_set"], "classes": made["classes"]}


def scores_text(results: dict[str, Any]) -> str:
    """One line a set and condition, in percent; then protocols, parts of sets and calibration."""
    widths = [max(8, len(column) + 2) for column in _COLUMNS]
    lines = [f"{'':20s}" + _line(_COLUMNS, widths)]
    for name, conditions in results["sets"].items():
        for condition, result in conditions.items():
            told = results["explanations"].get(name, {}).get(condition)
            title = name if condition == "full" else f"{name}, {condition}"
            lines.append(f"{title:20s}" + _line(_cells(result, told), widths))
    lines += [f"{name}: {protocol_line(found)}" for name, found in results["protocols"].items()]
    if results["scored"]["num_missing"]:
        lines.append(f"{results['scored']['num_missing']} clips without an answer count as wrong")
    for name, conditions in results.get("breakdown", {}).items():
        if "full" in conditions:
            lines += ["", *_parts(name, conditions["full"], results["smallest_part"][name]["full"])]
    more = calibration_text(results)
    return "\n".join([*lines, *(["", *more] if more else [])])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(f"{cell:>{width}s}" for cell, width in zip(cells, widths, strict=True))


def _cells(result: Mapping[str, Any], told: Mapping[str, Any] | None) -> list[str]:
    shares = [result[key] for key in ("war", "uar", "format_ok")]
    if told is None:
        shares += [None] * 3
    else:
        shares += [told["supported"], told["right_and_supported"]]
        shares.append(told["among_right"]["contradicted"])
    return [str(result["n"]), *(_NOT_MEASURED if s is None else f"{s:.1%}" for s in shares)]


def _parts(
    name: str, fields: Mapping[str, Mapping[str, Any]], smallest: Mapping[str, Any]
) -> list[str]:
    """Recognition by part of a set, a line each; of speakers the ends."""
    lines = [f"{f'{name}, by part':36s}{'n':>8s}{'WAR':>8s}{'95% interval':>20s}{'UAR':>8s}"]
    for field, parts in fields.items():
        if field == SPEAKER:
            ends = sorted(parts, key=lambda value: parts[value]["war"])
            low, high = (f"{value} {parts[value]['war']:.1%}" for value in (ends[0], ends[-1]))
            lines.append(f"  {len(parts)} speakers: WAR from {low} to {high}")
            continue
        for value, part in parts.items():
            ends = part["war_interval"]
            between = _NOT_MEASURED if ends is None else f"{ends[0]:.1%} to {ends[1]:.1%}"
            care = f"  too small to say ({part['too_small']})" if part["too_small"] else ""
            title = f"  {field}: {value}"
            figures = f"{part['n']:>8d}{part['war']:>8.1%}{between:>20s}{part['uar']:>8.1%}"
            lines.append(f"{title:36s}{figures}{care}")
    plural = "s" * (smallest["n"] != 1)
    where = f"{smallest['field']} {smallest['value']}"
    lines.append(f"  smallest part: {where}, {smallest['n']} clip{plural}")
    return lines
