"""From files of predictions to figures: everything that `test` measured, without a model.

What a completion says is read again from its text, so that predictions of an earlier version get
the figures of this one. A record whose `text` is null is of a system that writes no completions:
its answer is the word in `answer`, beside a `reasoning` where it gives one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1omni.metrics.breakdown import breakdowns
from r1omni.metrics.explanation import (
    cues_from_json,
    evaluate_explanations,
    explanation_fields,
    reasoning_fields,
)
from r1omni.metrics.open_vocabulary import open_vocabulary
from r1omni.metrics.paired import paired_answers
from r1omni.metrics.prediction_rows import read_predictions
from r1omni.metrics.recognition import evaluate_recognition, read_prediction
from r1omni.metrics.resampling import groups_of
from r1omni.metrics.voting import tally, voted
from r1omni.text.emotions import LABEL_SETS, LabelSet
from r1omni.text.wheels import SHIPPED, Wheel
from r1omni.types import NUM_EXAMPLES, UsageError

RESULTS_FILE = "results.json"


@dataclass(frozen=True)
class Answers:
    """The answers to one test set under one condition.

    Attributes:
        file: where they were read.
        name: of the set.
        condition: under which its clips were shown.
        labels: the classes.
        records: as this version reads them.
    """

    file: Path
    name: str
    condition: str
    labels: LabelSet
    records: list[dict[str, Any]]

    @property
    def labelled(self) -> list[dict[str, Any]]:
        """Those whose label is known."""
        return [record for record in self.records if record["label"] is not None]


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
            folds = [path / "pooled" for path in paths if (path / "pooled").is_dir()]
            better = f"score {folds[0]}, which has all folds" if folds else "score them one by one"
            raise UsageError(f"{first} and {file} are of the same set; {better}")
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
    known = record.get("known_cues")
    cues = None if known is None else cues_from_json(known)
    if text is None:
        word, reasoning = record["answer"] or "", record.get("reasoning") or ""
        prediction, format_ok = labels.parse(word), None
        told = reasoning_fields(reasoning, labels.counted(word), labels, cues, condition)
    else:
        found = read_prediction(text, labels, ended)
        prediction, format_ok, reasoning = found.label, found.format_ok, found.reasoning
        told = explanation_fields(text, labels, ended, cues, condition)
    return {
        **record,
        "prediction": prediction,
        "format_ok": format_ok,
        "reasoning": reasoning,
        "label_set": labels.name,
        "known_cues": known,
        **({"voted": tally(record["votes"], labels.labels)} if "votes" in record else {}),
        **told,
    }


def _answered(record: Mapping[str, Any], labels: LabelSet) -> bool:
    """Whether the answer is a word for an emotion, of the set or not."""
    if record["text"] is None:
        return record["answer"] is not None and labels.counted(record["answer"]) is not None
    return read_prediction(record["text"], labels, record["ended"]).answered


def score_records(
    records: Sequence[Mapping[str, Any]], labels: LabelSet, condition: str
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Recognition and explanations of labelled records, as `results.json` holds them.

    Format is that of completions, and not measured where a record has none; explanations are not
    where there are neither completions nor reasonings.

    Raises:
        UsageError: no record, or a label that is no class.
    """
    has_texts = all(record["text"] is not None for record in records)
    recognition = evaluate_recognition(
        predictions=[record["prediction"] for record in records],
        references=[record["label"] for record in records],
        labels=labels.labels,
        format_ok=[record["format_ok"] for record in records] if has_texts else None,
        answered=[_answered(record, labels) for record in records],
        groups=groups_of(records),
    )
    if not has_texts and not any(record["reasoning"] for record in records):
        return recognition.to_dict(), None
    explanations = evaluate_explanations(records, labels.labels, condition)
    return recognition.to_dict(), explanations.to_dict()


def read_answers(file: Path, label_set: str | None = None) -> Answers:
    """The answers of a file that is named `<set>.<condition>.jsonl`.

    Args:
        file: of predictions.
        label_set: in place of the recorded one.

    Raises:
        UsageError: a file that cannot be read or judged.
    """
    name, condition = set_and_condition(file)
    records = read_predictions(file)
    labels = label_set_of(file, records, label_set)
    read = [read_again(record, labels, condition) for record in records]
    return Answers(file, name, condition, labels, read)


def score_answers(
    answers: Sequence[Answers], wheels: Mapping[str, Wheel] = SHIPPED, source: str = "shipped"
) -> dict[str, Any]:
    """The figures of answers.

    Args:
        answers: of sets and conditions.
        wheels, source: of emotions, for answers in free words.

    Returns:
        what `results.json` holds of them: `sets`, `explanations`, `label_sets`, where they were
        measured `answer_modes`, `dependence` and `voting`, `breakdown` and `smallest_part` where
        records know their part, and `open_vocabulary` where they have free words.

    Raises:
        UsageError: answers that cannot be judged, or none with a label.
    """
    results: dict[str, Any] = {"sets": {}, "explanations": {}, "label_sets": {}}
    by_set: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for one in answers:
        known = results["label_sets"].setdefault(one.name, one.labels.name)
        if known != one.labels.name:
            raise UsageError(
                f"{one.file}: has the label set {one.labels.name}, another condition of {one.name} "
                f"has {known}; give --label-set"
            )
        by_set.setdefault(one.name, {})[one.condition] = one.records
        if not one.labelled:
            continue
        try:
            recognition, explanations = score_records(one.labelled, one.labels, one.condition)
        except UsageError as error:
            raise UsageError(f"{one.file}: {error}") from error
        results["sets"].setdefault(one.name, {})[one.condition] = recognition
        if explanations is not None:
            results["explanations"].setdefault(one.name, {})[one.condition] = explanations
    results |= paired_answers(by_set, results["label_sets"]).to_dict()
    if figures := voted(by_set, results["label_sets"]):
        results["voting"] = figures
    results |= breakdowns(by_set, results["label_sets"])
    results |= open_vocabulary(by_set, wheels, source)
    if not results["sets"] and "open_vocabulary" not in results:
        named = ", ".join(str(one.file) for one in answers[:NUM_EXAMPLES])
        raise UsageError(f"{named}: no answer has a label or free words; there is nothing to score")
    return results
