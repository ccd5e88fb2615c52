"""What `analyze` writes: a record an answer, and what its records say of a recording.

A record is one line of `analyses.jsonl`. Everything else (segments, summary, every format, the
page) is made from records alone, so it can be made again without a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from r1omni.text.reasoning import Verdict
from r1omni.types import Ablated, Medium, R1OmniError

# Raised when a field changes its meaning or goes; a new field does not raise it.
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Record:
    """One answer about one span of one recording, or the reason why a recording has none.

    Attributes:
        path: the recording, as the command line or the caller named it.
        start_s, end_s: the span in seconds.
        speaker: who speaks there, where the user's intervals say so.
        label: emotion, or None where the answer could not be read or there is none.
        scores: by emotion, its share of probability (they sum to 1), of the answer in `text`.
        direct_label, direct_scores: the same after an empty reasoning; None where not asked for.
        ablation: by condition ("muted" without the sound, "blanked" without the picture) what is
            said without a medium that the span has; None where it was not asked for.
        reasoning: text inside `<think>`, or "".
        supported: whether the reasoning concludes with the label; None without a label.
        text: the whole completion.
        format_ok: whether the completion has exactly the answer format and has ended.
        media: the media that were there; one that was missing is told in `warnings`.
        warnings: what a person should know about the input.
        error: why the recording could not be analyzed, in one line. Such a record has a path, and
            no answer.
        interval: which of the user's intervals it answers: its place in their file, from 1; None
            where the spans are of another kind.
        is_last: whether it is the last record of its recording, which is complete with it.
        model, settings: hashes of the model folder and of the settings that made the answer.
        schema: `SCHEMA_VERSION`.
    """

    path: str
    start_s: float = 0.0
    end_s: float = 0.0
    speaker: str | None = None
    label: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    direct_label: str | None = None
    direct_scores: Mapping[str, float] | None = None
    ablation: Mapping[str, Ablated] | None = None
    reasoning: str = ""
    supported: Verdict | None = None
    text: str = ""
    format_ok: bool = False
    media: tuple[Medium, ...] = ()
    warnings: tuple[str, ...] = ()
    error: str | None = None
    interval: int | None = None
    is_last: bool = False
    model: str = ""
    settings: str = ""
    schema: int = SCHEMA_VERSION

    def row(self) -> dict[str, Any]:
        """The record as a line of JSON holds it."""
        return asdict(self)

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Record:
        """A record from a line of JSON; fields that a later version added are left out.

        Raises:
            R1OmniError: a field is missing, or the line has another schema.
        """
        if row.get("schema") != SCHEMA_VERSION:
            raise R1OmniError(
                f"schema {row.get('schema')!r} is not {SCHEMA_VERSION}; analyze again"
            )
        # Records of before these were told are whole without.
        row = {"ablation": None, "interval": None, **row}
        names = {entry.name for entry in fields(cls)}
        if missing := names - set(row):
            raise R1OmniError(f"lacks {', '.join(sorted(missing))}; analyze again")
        known = {name: row[name] for name in names}
        known |= {name: tuple(row[name]) for name in ("media", "warnings")}
        if known["ablation"] is not None:
            known["ablation"] = {name: Ablated(**own) for name, own in known["ablation"].items()}
        return cls(**known)


@dataclass(frozen=True)
class Segment:
    """Neighbouring records of one speaker that agree, as one stretch.

    Attributes:
        start_s, end_s: the stretch in seconds.
        speaker: as in its records.
        label: its emotion; None for a stretch that could not be read.
        scores: by emotion, the mean of its records' scores, weighted by the time each has here.
        num_records: how many records it joins.
    """

    start_s: float
    end_s: float
    speaker: str | None
    label: str | None
    scores: Mapping[str, float]
    num_records: int


@dataclass(frozen=True)
class Summary:
    """A recording in one row.

    Attributes:
        path: the recording.
        length_s: seconds that segments cover, each second once.
        num_records: answers.
        shares: by emotion, its share of `length_s`; with `unreadable` they sum to 1.
        unreadable: share of `length_s` without a label.
        dominant: emotion of the largest share; None where nothing could be read.
        peak: the emotion of the highest score of all records, beside `peak_score` and `peak_s`, the
            start of its record.
        changes: how often the emotion changes from one segment to the next of the same speaker.
        error: why the recording could not be analyzed.
        is_complete: whether all of the recording was answered; not where `analyze` was stopped.
    """

    path: str
    length_s: float
    num_records: int
    shares: Mapping[str, float]
    unreadable: float
    dominant: str | None
    peak: str | None
    peak_score: float | None
    peak_s: float | None
    changes: int
    error: str | None = None
    is_complete: bool = True


@dataclass(frozen=True)
class Recording:
    """All that is said about one recording; what a format is written from.

    Attributes:
        path: the recording.
        records: in order of time; those with an error last.
        segments: made of the records, in order of time, speaker by speaker.
        summary: made of both.
    """

    path: str
    records: tuple[Record, ...]
    segments: tuple[Segment, ...]
    summary: Summary
