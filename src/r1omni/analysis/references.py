"""Answers of any system, joined with a table of labels: what `score --references` reads.

docs/evaluation.md says which fields both files have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1omni.data.labels_io import Row, class_of, read_csv, read_json_rows
from r1omni.data.own import intensity_of, sex_of
from r1omni.metrics.breakdown import BINS, wrong_part_fields
from r1omni.metrics.prediction_rows import are_cues, is_emotion
from r1omni.metrics.predictions import Answers, read_again
from r1omni.metrics.recognition import read_prediction
from r1omni.text.emotions import LABEL_SETS, LabelSet
from r1omni.types import CONDITIONS, NUM_EXAMPLES, Missing, UsageError

_ID, _LABEL = "sample_id", "label"
# A share is a rounded number in many a file.
_SUM_TOLERANCE = 1e-3


def answers_to(
    predictions: Sequence[Path],
    references: Path,
    label_set: str | None = None,
    missing: Missing = "refuse",
) -> list[Answers]:
    """Answers of a system to the clips of a table of labels.

    The set has the name of the table's file, which may be one of our predictions. A file of answers
    is of the condition that it is named for (`NAME.muted.jsonl`), or else of the full input.

    Args:
        predictions: JSON Lines with `sample_id` and either `prediction` or `text`; a file a
            condition.
        references: CSV, TSV, JSON or JSON Lines with `sample_id` and `label`.
        label_set: the classes; None for those that the table names in `label_set`.
        missing: "wrong" counts a clip that has no answer as one that was answered wrong.

    Raises:
        UsageError: a file that cannot be read, a clip that is there twice, or in one of the files
            alone, a word that is no emotion, a label that is no class, or two files of a condition.
    """
    rows = _table(references)
    labels = _label_set(references, rows, label_set)
    known = {row.text(_ID): _reference(row, labels) for row in rows}
    files: dict[str, Path] = {}
    for file in predictions:
        if not file.is_file():
            raise UsageError(f"{file}: give the file of answers itself with --references")
        condition = _stem_and_condition(file)[1]
        if files.setdefault(condition, file) != file:
            raise UsageError(
                f"{files[condition]} and {file}: both are answers to the {condition} input; score "
                "them one by one, and `compare` what was scored"
            )
    name = _stem_and_condition(references)[0]
    found = []
    for condition in (condition for condition in CONDITIONS if condition in files):
        records = _joined(files[condition], references, known, labels, missing)
        read = [read_again(record, labels, condition) for record in records]
        found.append(Answers(files[condition], name, condition, labels, read))
    return found


def _stem_and_condition(file: Path) -> tuple[str, str]:
    """Of `dfew.muted.jsonl` "dfew" and "muted"; of a name without a condition "full"."""
    stem, _, last = file.stem.rpartition(".")
    return (stem, last) if stem and last in CONDITIONS else (file.stem, "full")


def _table(path: Path) -> list[Row]:
    """The rows of the labels, each of another clip."""
    is_json = path.suffix.lower() in (".json", ".jsonl")
    rows = list(read_json_rows(path) if is_json else read_csv(path, [_ID, _LABEL]))
    _once(rows, "label")
    if not rows:
        raise UsageError(f"{path}: holds no label; write a line a clip")
    return rows


def _once(rows: Sequence[Row], what: str) -> None:
    first: dict[str, Row] = {}
    for row in rows:
        other = first.setdefault(row.text(_ID), row)
        if other is not row:
            raise UsageError(
                f"{row.place}: a second {what} for {row.text(_ID)}, after line {other.line}; "
                "keep one"
            )


def _label_set(path: Path, rows: Sequence[Row], asked: str | None) -> LabelSet:
    names = {row.optional("label_set") for row in rows} - {None} if asked is None else {asked}
    if len(names) != 1 or not names <= LABEL_SETS.keys():
        found = ", ".join(sorted(map(str, names))) or "none is named"
        raise UsageError(
            f"{path}: which label set? ({found}); give --label-set, one of {', '.join(LABEL_SETS)}"
        )
    return LABEL_SETS[str(names.pop())]


def _reference(row: Row, labels: LabelSet) -> dict[str, Any]:
    """What a record holds of a clip."""
    told = {
        "sample_id": row.text(_ID),
        "path": row.optional("path"),
        "label": class_of(row.text(_LABEL), labels, row.place),
        # What `test` writes has it as the unit of resampling.
        "group": row.optional("speaker") or row.optional("group"),
        "sex": sex_of(row),
        "intensity": intensity_of(row),
        "language": row.optional("language"),
        **{name: row.number(name) for name in BINS},
        "known_cues": row.values.get("known_cues") or None,
    }
    wrong = wrong_part_fields(told) + ([] if are_cues(told["known_cues"]) else ["known_cues"])
    if wrong:
        raise UsageError(f"{row.place}: {wrong[0]} is {told[wrong[0]]!r:.60}, which it cannot be")
    return told


def _joined(
    file: Path,
    references: Path,
    known: Mapping[str, Mapping[str, Any]],
    labels: LabelSet,
    missing: Missing,
) -> list[dict[str, Any]]:
    """A record a labelled clip, in the order of the labels."""
    rows = list(read_json_rows(file))
    _once(rows, "answer")
    answers = {row.text(_ID): _answer(row, labels) for row in rows}
    for row in rows:
        if row.text(_ID) not in known:
            raise UsageError(
                f"{row.place}: {row.text(_ID)} has no label in {references}; add it there, or take "
                "the line out"
            )
    lacking = [name for name in known if name not in answers]
    if lacking and missing == "refuse":
        raise UsageError(
            f"{file}: no answer to {len(lacking)} of {len(known)} clips of {references} "
            f"({', '.join(lacking[:NUM_EXAMPLES])}); add them, or count them as wrong by "
            "--missing wrong"
        )
    # A clip without an answer is like one with an empty answer, in the form of the others.
    has_texts = any(answer["text"] is not None for answer in answers.values())
    empty = {"text": "" if has_texts else None, "answer": None, "ended": True, "missing": True}
    return [{**told, **answers.get(name, empty)} for name, told in known.items()]


def _answer(row: Row, labels: LabelSet) -> dict[str, Any]:
    """What a record holds of an answer: a text that is read, or a word with its reasoning."""
    word, text = row.values.get("prediction"), row.values.get("text")
    for name, value in (("prediction", word), ("text", text)):
        if not isinstance(value, str | None):
            raise UsageError(f"{row.place}: {name} is {value!r:.60}, expected a text or null")
    scores = _scores(row, labels)
    found: dict[str, Any] = {} if scores is None else {"scores": scores}
    if text is not None:
        ended = row.values.get("ended", True)
        if not isinstance(ended, bool):
            raise UsageError(f"{row.place}: ended is {ended!r:.60}, expected true or false")
        read = read_prediction(text, labels, ended).label
        if word is not None and labels.parse(word) != read:
            raise UsageError(
                f"{row.place}: prediction is {word!r}, and the text answers {read or 'nothing'}; "
                "give one of them, and what explains a prediction as `reasoning`"
            )
        return {"text": text, "ended": ended, **found}
    if "prediction" not in row.values:
        hint = "; `label` is what is right" if _LABEL in row.values else ""
        raise UsageError(
            f"{row.place}: has neither `prediction`, an emotion or null, nor `text`{hint}"
        )
    if word is not None and not is_emotion(word):
        raise UsageError(
            f"{row.place}: prediction {word!r} names no emotion that is known here; translate it, "
            "or write null for an answer that is none"
        )
    reasoning = row.values.get("reasoning")
    if not isinstance(reasoning, str | None):
        raise UsageError(f"{row.place}: reasoning is {reasoning!r:.60}, expected a text")
    return {"text": None, "answer": word, "reasoning": reasoning or "", "ended": True, **found}


def _scores(row: Row, labels: LabelSet) -> dict[str, float] | None:
    """Shares of probability by class; None where there are none."""
    given = row.values.get("scores")
    if given is None:
        return None
    shares: dict[str, float] = {}
    if isinstance(given, dict):
        for word, share in given.items():
            emotion = class_of(word, labels, f"{row.place}: scores")
            is_share = isinstance(share, int | float) and not isinstance(share, bool)
            if not is_share or not 0 <= share <= 1 or emotion in shares:
                shares = {}
                break
            shares[emotion] = float(share)
    if set(shares) != set(labels.labels) or abs(sum(shares.values()) - 1) > _SUM_TOLERANCE:
        raise UsageError(
            f"{row.place}: scores have to give each of {', '.join(labels.labels)} once a share "
            "between 0 and 1, which make 1 together"
        )
    return {label: shares[label] for label in labels.labels}
