"""From files of predictions to figures: everything that `test` measured, without a model.

What a completion says is read again from its text, so that predictions of an earlier version get
the figures of this one. A record whose `text` is null is of a system that writes no completions:
its answer is the word in `answer`, beside a `reasoning` where it gives one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from types import NoneType
from typing import Any

from r1omni.metrics.breakdown import breakdowns, wrong_part_fields
from r1omni.metrics.explanation import (
    cues_from_json,
    evaluate_explanations,
    explanation_fields,
    reasoning_fields,
)
from r1omni.metrics.open_vocabulary import open_vocabulary
from r1omni.metrics.paired import paired_answers
from r1omni.metrics.recognition import evaluate_recognition, read_prediction
from r1omni.metrics.resampling import groups_of
from r1omni.text.cue_words import VALUES
from r1omni.text.emotions import EMOTIONS, LABEL_SETS, LabelSet, canonical
from r1omni.text.wheels import SHIPPED, Wheel
from r1omni.types import NUM_EXAMPLES, UsageError

RESULTS_FILE = "results.json"
# Without one of these an answer cannot be judged. Files of a version hold more.
_NEEDED: dict[str, tuple[type, ...]] = {
    "sample_id": (str,), "label": (str, NoneType), "text": (str, NoneType), "ended": (bool,),
    "group": (str, NoneType),
}  # fmt: skip
_SCORES = ("scores", "direct_scores")


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


def read_predictions(file: Path) -> list[dict[str, Any]]:
    """The records of a file.

    Raises:
        UsageError: no JSON Lines, no record, one that lacks what an answer is judged by, or two of
            one sample.
    """
    records: dict[str, dict[str, Any]] = {}
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read ({error})") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UsageError(f"{file}, line {number}: is no JSON ({error.msg})") from error
        lacking = [k for k in _NEEDED if not isinstance(record, dict) or k not in record]
        if lacking:
            raise UsageError(
                f"{file}, line {number}: is no prediction, it has no {', '.join(lacking)}; name a "
                "file that `test` or `predict` wrote, or give labels of another system's clips to "
                "`score` by --references"
            )
        wrong = [key for key, kinds in _NEEDED.items() if not isinstance(record[key], kinds)]
        wrong += [key for key in _SCORES if key in record and not _are_scores(record[key])]
        wrong += [] if are_cues(record.get("known_cues")) else ["known_cues"]
        wrong += [] if _is_word(record) else ["answer"]
        wrong += [] if _are_words(record.get("open_labels")) else ["open_labels"]
        wrong += [] if isinstance(record.get("reference"), str | None) else ["reference"]
        wrong += wrong_part_fields(record)
        if wrong:
            raise UsageError(
                f"{file}, line {number}: {wrong[0]} is {record.get(wrong[0])!r:.60}, which "
                "`test` and `predict` do not write; mend or remove the line"
            )
        if records.setdefault(record["sample_id"], record) is not record:
            raise UsageError(
                f"{file}, line {number}: a second answer to {record['sample_id']}; keep one"
            )
    if not records:
        raise UsageError(f"{file}: holds no answer; leave it out")
    return list(records.values())


def _are_scores(values: Any) -> bool:
    """Whether they are one finite number an emotion."""
    return isinstance(values, dict) and all(
        name in EMOTIONS and isinstance(value, int | float) and isfinite(value)
        for name, value in values.items()
    )


def _are_words(words: Any) -> bool:
    """Whether they are None, or a list of texts."""
    return words is None or (isinstance(words, list) and all(isinstance(w, str) for w in words))


def _is_word(record: Mapping[str, Any]) -> bool:
    """Whether a record without a text says what the answer is: a word for an emotion, or None."""
    if record["text"] is not None:
        return True
    word = record.get("answer")
    return "answer" in record and (word is None or (isinstance(word, str) and is_emotion(word)))


def is_emotion(word: str) -> bool:
    """Whether a word names an emotion of the taxonomy."""
    return canonical(word) is not None


def are_cues(known: Any) -> bool:
    """Whether they are None, or medium -> pairs of an attribute and its value, each once."""
    if known is None:
        return True
    return isinstance(known, dict) and all(
        medium in VALUES
        and isinstance(pairs, list)
        and all(isinstance(p, list) and list(map(type, p)) == [str, str] for p in pairs)
        and all(value in VALUES[medium].get(name, ()) for name, value in pairs)
        and len({name for name, _ in pairs}) == len(pairs)
        for medium, pairs in known.items()
    )


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
        told = reasoning_fields(reasoning, canonical(word), labels, cues, condition)
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
        **told,
    }


def _answered(record: Mapping[str, Any], labels: LabelSet) -> bool:
    """Whether the answer is a word for an emotion, of the set or not."""
    if record["text"] is None:
        return record["answer"] is not None
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
        measured `answer_modes` and `dependence`, `breakdown` and `smallest_part` where records
        know their part, and `open_vocabulary` where they have free words.

    Raises:
        UsageError: answers that cannot be judged, or none with a label.
    """
    results: dict[str, Any] = {"sets": {}, "explanations": {}, "label_sets": {}}
    by_set: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for one in answers:
        results["label_sets"][one.name] = one.labels.name
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
    results |= breakdowns(by_set, results["label_sets"])
    results |= open_vocabulary(by_set, wheels, source)
    if not results["sets"] and "open_vocabulary" not in results:
        named = ", ".join(str(one.file) for one in answers[:NUM_EXAMPLES])
        raise UsageError(f"{named}: no answer has a label or free words; there is nothing to score")
    return results
