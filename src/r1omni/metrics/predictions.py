"""From files of predictions to figures: everything that `test` measured, without a model.

What a completion says is read again from its text, so that predictions of an earlier version get
the figures of this one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1omni.metrics.breakdown import breakdowns
from r1omni.metrics.explanation import cues_from_json, evaluate_explanations, explanation_fields
from r1omni.metrics.paired import paired_answers
from r1omni.metrics.prediction_rows import read_predictions
from r1omni.metrics.recognition import evaluate_recognition, read_prediction
from r1omni.metrics.resampling import groups_of
from r1omni.text.emotions import LABEL_SETS, LabelSet
from r1omni.types import NUM_EXAMPLES, UsageError

RESULTS_FILE = "results.json"


def find_predictions(paths: Sequence[Path]) -> list[Path]:
    """The files of predictions that paths name: files, or folders that hold some at any depth.

    Raises:
        UsageError: a path that is not there, a folder without any, or two files of the same set and
            condition.
    """
    files: list[Path] = []
    for path in paths:
        found = [path] if path.is_file() else sorted(path.glob("**/predictions/*.jsonl"))
        found = found or sorted(path.glob("*.jsonl"))
        if not found:
            raise UsageError(
                f"{path}: no predictions there; name <set>.<condition>.jsonl files, or a folder "
                "that `test` wrote"
            )
        files += found
    names: dict[str, Path] = {}
    for file in files:
        first = names.setdefault(file.name, file)
        if first != file:
            raise UsageError(f"{first} and {file} are of the same set; score them one by one")
    return sorted(files, key=_order)


def _order(file: Path) -> tuple[str, bool, str]:
    """Sets by name, each with picture and sound as they are first."""
    name, condition = set_and_condition(file)
    return name, condition != "full", condition


def set_and_condition(file: Path) -> tuple[str, str]:
    """The two parts of a file's name: "dfew" and "muted" of `dfew.muted.jsonl`.

    Raises:
        UsageError: another kind of name.
    """
    name, _, condition = file.name.removesuffix(".jsonl").rpartition(".")
    if not name or file.suffix != ".jsonl":
        raise UsageError(f"{file}: is not named <set>.<condition>.jsonl, as `test` names them")
    return name, condition


def label_set_of(file: Path, records: Sequence[Mapping[str, Any]], asked: str | None) -> LabelSet:
    """The label set in force: the one asked for, or that of the records, or of `results.json`.

    Raises:
        UsageError: none is recorded, or it is unknown.
    """
    names = {record["label_set"] for record in records if "label_set" in record}
    results = file.absolute().parents[1] / RESULTS_FILE
    if asked is None and not names and results.is_file():
        recorded = json.loads(results.read_text(encoding="utf-8")).get("label_sets", {})
        names = {recorded[name] for name in [set_and_condition(file)[0]] if name in recorded}
    if asked is not None:
        names = {asked}
    if len(names) != 1 or not names <= LABEL_SETS.keys():
        found = ", ".join(sorted(map(str, names))) or "none is recorded"
        raise UsageError(
            f"{file}: which label set? ({found}); give --label-set, one of {', '.join(LABEL_SETS)}"
        )
    return LABEL_SETS[names.pop()]


def read_again(record: Mapping[str, Any], labels: LabelSet, condition: str) -> dict[str, Any]:
    """A record with what this version reads in its text; all its other fields stay."""
    text, ended = record["text"], record["ended"]
    prediction = read_prediction(text, labels, ended)
    known = record.get("known_cues")
    cues = None if known is None else cues_from_json(known)
    return {
        **record,
        "prediction": prediction.label,
        "format_ok": prediction.format_ok,
        "reasoning": prediction.reasoning,
        "label_set": labels.name,
        "known_cues": known,
        **explanation_fields(text, labels, ended, cues, condition),
    }


def score_records(
    records: Sequence[Mapping[str, Any]], labels: LabelSet, condition: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Recognition and explanations of labelled records, as `results.json` holds them.

    Raises:
        UsageError: no record, or a label that is no class.
    """
    recognition = evaluate_recognition(
        predictions=[record["prediction"] for record in records],
        references=[record["label"] for record in records],
        labels=labels.labels,
        format_ok=[record["format_ok"] for record in records],
        answered=[read_prediction(r["text"], labels, r["ended"]).answered for r in records],
        groups=groups_of(records),
    )
    explanations = evaluate_explanations(records, labels.labels, condition)
    return recognition.to_dict(), explanations.to_dict()


def score_files(
    files: Sequence[Path], label_set: str | None = None
) -> tuple[dict[str, Any], dict[Path, list[dict[str, Any]]]]:
    """The figures of files of predictions, and their records as this version reads them.

    Args:
        files: named `<set>.<condition>.jsonl`.
        label_set: in place of the recorded one.

    Returns:
        what `results.json` holds of them: `sets`, `explanations`, `label_sets`, where they were
        measured `answer_modes` and `dependence`, and `breakdown` where records know their part; and
        file -> records.

    Raises:
        UsageError: a file that cannot be read or judged, or none with labelled answers.
    """
    results: dict[str, Any] = {"sets": {}, "explanations": {}, "label_sets": {}}
    read: dict[Path, list[dict[str, Any]]] = {}
    for file in files:
        name, condition = set_and_condition(file)
        records = read_predictions(file)
        labels = label_set_of(file, records, label_set)
        read[file] = [read_again(record, labels, condition) for record in records]
        if results["label_sets"].setdefault(name, labels.name) != labels.name:
            raise UsageError(
                f"{file}: has the label set {labels.name}, another condition of {name} has "
                f"{results['label_sets'][name]}; give --label-set"
            )
        labelled = [record for record in read[file] if record["label"] is not None]
        if not labelled:
            continue
        try:
            recognition, explanations = score_records(labelled, labels, condition)
        except UsageError as error:
            raise UsageError(f"{file}: {error}") from error
        results["sets"].setdefault(name, {})[condition] = recognition
        results["explanations"].setdefault(name, {})[condition] = explanations
    by_set: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for file, records in read.items():
        name, condition = set_and_condition(file)
        by_set.setdefault(name, {})[condition] = records
    results |= paired_answers(by_set, results["label_sets"]).to_dict()
    results |= breakdowns(by_set, results["label_sets"])
    if not results["sets"]:
        named = ", ".join(str(file) for file in files[:NUM_EXAMPLES])
        raise UsageError(f"{named}: no answer has a label; there is nothing to score")
    return results, read
