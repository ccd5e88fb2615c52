"""The four tables of CSV and Parquet: their columns, and the rows of a recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from r1omni.recordings.formats.words import plain, score_of
from r1omni.recordings.records import Record, Recording
from r1omni.text.emotions import CLASSES
from r1omni.types import TAKEN_AWAY, R1OmniError

Kind = Literal["text", "number", "count", "flag"]
Row = dict[str, Any]
# What every table of spans begins with.
SPAN: dict[str, Kind] = {
    "path": "text", "start_s": "number", "end_s": "number", "speaker": "text",
}  # fmt: skip
# And every table of answers.
ANSWER: dict[str, Kind] = {**SPAN, "interval": "count"}


# What is said without a medium.
_ABLATED_LABELS: dict[str, Kind] = {
    f"{condition}_{which}": "text"
    for condition in TAKEN_AWAY
    for which in ("label", "direct_label")
}
_ABLATED_SCORES: dict[str, Kind] = {
    f"{condition}_{which}": "number"
    for condition in TAKEN_AWAY
    for which in ("score", "direct_score")
}


def _columns(prefix: str) -> dict[str, Kind]:
    return {f"{prefix}{emotion}": "number" for emotion in CLASSES}


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        columns: kind by name, in order. Every cell may be empty but for the path.
        rows: those of a recording; each has every column, in order.
    """

    columns: Mapping[str, Kind]
    rows: Callable[[Recording], Iterator[Row]]


def _record_rows(recording: Recording) -> Iterator[Row]:
    for record in recording.records:
        own = None if record.label is None else record.scores.get(record.label)
        yield {
            **_span(record),
            "label": record.label,
            "score": own,
            **_by_emotion("p_", record.scores, record.path),
            "direct_label": record.direct_label,
            **_by_emotion("direct_p_", record.direct_scores or {}, record.path),
            **_ablated_labels(record),
            "supported": record.supported,
            "reasoning": plain(record.reasoning),
            "text": plain(record.text),
            "format_ok": None if record.error else record.format_ok,
            "media": ";".join(record.media),
            "warnings": plain("; ".join(record.warnings)),
            "error": None if record.error is None else plain(record.error),
            "model": record.model,
            "settings": record.settings,
        }


def _score_rows(recording: Recording) -> Iterator[Row]:
    for record in recording.records:
        direct = record.direct_scores or {}
        for emotion in dict.fromkeys([*record.scores, *direct]):
            yield {
                **_span(record),
                "emotion": emotion,
                "score": record.scores.get(emotion),
                "direct_score": direct.get(emotion),
                **_ablated_scores(record, emotion),
                "is_label": emotion == record.label,
            }


def _ablated_labels(record: Record) -> Row:
    row: Row = dict.fromkeys(_ABLATED_LABELS)
    for condition, said in (record.ablation or {}).items():
        row[f"{condition}_label"] = said.label
        row[f"{condition}_direct_label"] = said.direct_label
    return row


def _ablated_scores(record: Record, emotion: str) -> Row:
    row: Row = dict.fromkeys(_ABLATED_SCORES)
    for condition, said in (record.ablation or {}).items():
        row[f"{condition}_score"] = said.scores.get(emotion)
        row[f"{condition}_direct_score"] = (said.direct_scores or {}).get(emotion)
    return row


def _segment_rows(recording: Recording) -> Iterator[Row]:
    for segment in recording.segments:
        yield {
            "path": plain(recording.path),
            "start_s": segment.start_s,
            "end_s": segment.end_s,
            "speaker": None if segment.speaker is None else plain(segment.speaker),
            "label": segment.label,
            "score": score_of(segment),
            **_by_emotion("p_", segment.scores, recording.path),
            "num_records": segment.num_records,
        }


def _summary_rows(recording: Recording) -> Iterator[Row]:
    told = recording.summary
    # An emotion that was not found has a share of none; a recording without answers has no shares.
    none = dict.fromkeys(CLASSES, 0.0) if told.length_s else {}
    yield {
        "path": plain(told.path),
        "length_s": told.length_s,
        "num_records": told.num_records,
        "dominant": told.dominant,
        **_by_emotion("share_", {**none, **told.shares}, told.path),
        "unreadable": told.unreadable if told.length_s else None,
        "peak": told.peak,
        "peak_score": told.peak_score,
        "peak_s": told.peak_s,
        "changes": told.changes,
        "error": None if told.error is None else plain(told.error),
        "is_complete": told.is_complete,
    }


def _span(record: Record) -> Row:
    """The columns of `ANSWER`; a record with an error has no span."""
    failed = record.error is not None
    return {
        "path": plain(record.path),
        "start_s": None if failed else record.start_s,
        "end_s": None if failed else record.end_s,
        "speaker": None if record.speaker is None else plain(record.speaker),
        "interval": record.interval,
    }


def _by_emotion(prefix: str, values: Mapping[str, float], path: str) -> Row:
    if foreign := set(values) - set(CLASSES):
        raise R1OmniError(
            f"{path}: tables have no column for {', '.join(sorted(foreign))}; analyze it again"
        )
    return {f"{prefix}{emotion}": values.get(emotion) for emotion in CLASSES}


TABLES: Mapping[str, Table] = {
    "records": Table(
        {
            **ANSWER, "label": "text", "score": "number", **_columns("p_"), "direct_label": "text",
            **_columns("direct_p_"), **_ABLATED_LABELS, "supported": "text", "reasoning": "text",
            "text": "text", "format_ok": "flag", "media": "text", "warnings": "text",
            "error": "text", "model": "text", "settings": "text",
        },
        _record_rows,
    ),
    "scores": Table(
        {
            **ANSWER, "emotion": "text", "score": "number", "direct_score": "number",
            **_ABLATED_SCORES, "is_label": "flag",
        },
        _score_rows,
    ),
    "segments": Table(
        {
            **SPAN, "label": "text", "score": "number", **_columns("p_"), "num_records": "count",
        },
        _segment_rows,
    ),
    "summary": Table(
        {
            "path": "text", "length_s": "number", "num_records": "count", "dominant": "text",
            **_columns("share_"), "unreadable": "number", "peak": "text", "peak_score": "number",
            "peak_s": "number", "changes": "count", "error": "text", "is_complete": "flag",
        },
        _summary_rows,
    ),
}  # fmt: skip
