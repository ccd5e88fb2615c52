"""What the records of a recording say together: its segments, and one row of summary.

Three steps lead from records to segments, for each speaker alone:

1. Each moment belongs to one record. Where windows overlap it is the one whose middle is nearest,
   so windows of one length share an overlap in its middle. Of records with the same middle it is
   the shorter one.
2. Neighbours with the same label make one stretch, across gaps of at most `MAX_GAP_S`. A record
   without a label (its answer could not be read) makes a stretch of its own kind.
3. One record does not cut a stretch that it hardly contradicts (`_is_doubtful`).

All functions are pure, and the order in which records are given does not matter.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Protocol, TypeVar

from r1omni.recordings.records import Record, Recording, Segment, Summary

# Longer gaps part two segments. Times that were rounded to frames or milliseconds are less apart.
MAX_GAP_S = 0.05
# A single record that puts its label above that of its neighbours by less does not cut them.
MIN_MARGIN = 0.1


@dataclass(frozen=True)
class Piece:
    """A stretch that belongs to one record.

    Attributes:
        start_s, end_s: the stretch in seconds; within the span of the record.
        record: the answer that counts there.
    """

    start_s: float
    end_s: float
    record: Record


class _HasSpan(Protocol):
    @property
    def start_s(self) -> float: ...
    @property
    def end_s(self) -> float: ...


_Spanned = TypeVar("_Spanned", bound=_HasSpan)


def pieces(records: Iterable[Record]) -> tuple[Piece, ...]:
    """Which record each moment belongs to; pieces of one speaker do not overlap.

    Records with an error or without length have no piece. Speakers come in the order in which they
    begin, each with its pieces in order of time.
    """
    by_speaker: dict[str | None, list[Record]] = defaultdict(list)
    for record in sorted(records, key=_order):
        if record.error is None and record.end_s > record.start_s:
            by_speaker[record.speaker].append(record)
    return tuple(piece for own in by_speaker.values() for piece in _pieces_of_speaker(own))


def segments(records: Sequence[Record]) -> tuple[Segment, ...]:
    """Stretches of one emotion; those of one speaker do not overlap. The module says how.

    Args:
        records: of one recording, in any order; those with an error say nothing here.

    Returns:
        segments, in the order of `pieces`.
    """
    found = []
    for _, group in groupby(pieces(records), key=lambda piece: piece.record.speaker):
        own = list(group)
        labels = _labels(own)
        first = 0
        for last in range(len(own)):
            ends = last + 1 == len(own) or labels[last] != labels[last + 1]
            if ends or not _touch(own[last], own[last + 1]):
                found.append(_segment(own[first : last + 1], labels[last]))
                first = last + 1
    return tuple(found)


def summary(path: str, records: Sequence[Record], segments: Sequence[Segment]) -> Summary:
    """A recording in one row.

    A second during which several speakers have a segment is divided evenly among those segments,
    so every second weighs the same, whoever speaks. `changes` passes over stretches that could not
    be read. Of equal shares the dominant emotion is the first in alphabetical order; of equal
    scores the peak is the earliest.

    Args:
        path: the recording.
        records: all of it, those with an error too.
        segments: made of them by `segments`.
    """
    seconds: dict[str | None, list[float]] = defaultdict(list)
    for start_s, end_s, there in _stretches(segments):
        for segment in there:
            seconds[segment.label].append((end_s - start_s) / len(there))
    sums = {label: math.fsum(parts) for label, parts in seconds.items()}
    length_s = math.fsum(sums.values())
    unreadable = sums.pop(None, 0.0) / length_s if length_s else 0.0
    shares = {label: part / length_s for label, part in sums.items() if label is not None}
    shares = dict(sorted(shares.items(), key=lambda entry: (-entry[1], entry[0])))
    answers = [record for record in records if record.error is None]
    peak = min(
        (
            (-score, record.start_s, emotion)
            for record in answers
            for emotion, score in record.scores.items()
        ),
        default=None,
    )
    errors = sorted(record.error for record in records if record.error is not None)
    return Summary(
        path=path,
        length_s=length_s,
        num_records=len(answers),
        shares=shares,
        unreadable=unreadable,
        dominant=next(iter(shares), None),
        peak=None if peak is None else peak[2],
        peak_score=None if peak is None else -peak[0],
        peak_s=None if peak is None else peak[1],
        changes=_changes(segments),
        error=errors[0] if errors else None,
        is_complete=not records or any(record.is_last for record in records),
    )


def recording_of(path: str, records: Iterable[Record]) -> Recording:
    """All that the records of one recording say together.

    Args:
        path: the recording.
        records: of it, as they were answered: by their ends.
    """
    own = tuple(sorted(records, key=lambda r: (r.error is not None, r.start_s, r.end_s)))
    found = segments(own)
    return Recording(path, own, found, summary(path, own, found))


def _order(record: Record) -> tuple[object, ...]:
    """An order of records that does not depend on the one they are given in."""
    scores = sorted(record.scores.items())
    speaker = (record.speaker is not None, record.speaker or "")
    return (record.start_s, record.end_s, speaker, record.label or "", scores, record.text)


def _stretches(spans: Sequence[_Spanned]) -> Iterator[tuple[float, float, list[_Spanned]]]:
    """Stretches in which the same spans are open, in order of time; those with none are left out.

    Within a stretch, spans keep the order of their starts.
    """
    coming = sorted(spans, key=lambda span: span.start_s)
    edges = sorted({edge for span in spans for edge in (span.start_s, span.end_s)})
    there: list[_Spanned] = []
    begun = 0
    for left, right in pairwise(edges):
        there = [span for span in there if span.end_s > left]
        while begun < len(coming) and coming[begun].start_s <= left:
            there.append(coming[begun])
            begun += 1
        if there:
            yield left, right, there


def _pieces_of_speaker(records: Sequence[Record]) -> list[Piece]:
    found: list[Piece] = []
    for left, right, there in _stretches(records):
        middles = sorted({_middle(record) for record in there})
        borders = [(one + other) / 2 for one, other in pairwise(middles)]
        cuts = [left, *(border for border in borders if left < border < right), right]
        for start_s, end_s in pairwise(cuts):
            owner = _nearest(there, (start_s + end_s) / 2)
            if found and found[-1].record is owner and found[-1].end_s == start_s:
                found[-1] = Piece(found[-1].start_s, end_s, owner)
            else:
                found.append(Piece(start_s, end_s, owner))
    return found


def _middle(record: Record) -> float:
    return (record.start_s + record.end_s) / 2


def _nearest(records: Sequence[Record], moment: float) -> Record:
    """The record with the nearest middle; of several the shortest, then the first."""
    return min(records, key=lambda r: (abs(_middle(r) - moment), r.end_s - r.start_s))


def _touch(one: Piece, other: Piece) -> bool:
    return other.start_s - one.end_s <= MAX_GAP_S


def _labels(own: Sequence[Piece]) -> list[str | None]:
    """The label of each piece of one speaker, doubtful ones taking that of their neighbours."""
    stretches: list[list[int]] = []
    for place, piece in enumerate(own):
        last = own[place - 1] if place else None
        if last and last.record.label == piece.record.label and _touch(last, piece):
            stretches[-1].append(place)
        else:
            stretches.append([place])
    labels = [piece.record.label for piece in own]
    for before, middle, after in zip(stretches, stretches[1:], stretches[2:], strict=False):
        if _is_doubtful(*([own[place] for place in part] for part in (before, middle, after))):
            for place in middle:
                labels[place] = own[before[0]].record.label
    return labels


def _is_doubtful(before: list[Piece], middle: list[Piece], after: list[Piece]) -> bool:
    """Whether a stretch between two of one emotion says too little to part them.

    It does if it is a single record no longer than either neighbour, each neighbour joins two
    records at least, and the record puts its own emotion above theirs by less than `MIN_MARGIN`.
    A doubtful stretch can so never be the neighbour of another, and no order of looking matters.
    An answer that could not be read is no doubt: it stays visible.
    """
    own, theirs = middle[0].record.label, before[0].record.label
    if own is None or theirs is None or theirs != after[0].record.label:
        return False
    if not (_touch(before[-1], middle[0]) and _touch(middle[-1], after[0])):
        return False
    if _num_records(middle) > 1 or min(_num_records(before), _num_records(after)) < 2:
        return False
    if _length_s(middle) > min(_length_s(before), _length_s(after)) + MAX_GAP_S:
        return False
    scores = middle[0].record.scores
    return own in scores and scores[own] - scores.get(theirs, 0.0) < MIN_MARGIN


def _num_records(part: Sequence[Piece]) -> int:
    return len({id(piece.record) for piece in part})


def _length_s(part: Sequence[Piece]) -> float:
    return part[-1].end_s - part[0].start_s


def _segment(part: Sequence[Piece], label: str | None) -> Segment:
    return Segment(
        start_s=part[0].start_s,
        end_s=part[-1].end_s,
        speaker=part[0].record.speaker,
        label=label,
        scores=_mean_scores(part),
        num_records=_num_records(part),
    )


def _mean_scores(part: Sequence[Piece]) -> Mapping[str, float]:
    """The mean of the scores, each weighted by the time its record has here; {} without scores."""
    scored = [piece for piece in part if piece.record.scores]
    total_s = math.fsum(piece.end_s - piece.start_s for piece in scored)
    emotions = dict.fromkeys(emotion for piece in scored for emotion in piece.record.scores)
    return {
        emotion: math.fsum(
            piece.record.scores.get(emotion, 0.0) * (piece.end_s - piece.start_s)
            for piece in scored
        )
        / total_s
        for emotion in emotions
    }


def _changes(segments: Sequence[Segment]) -> int:
    by_speaker: dict[str | None, list[str]] = defaultdict(list)
    for segment in sorted(segments, key=lambda segment: segment.start_s):
        if segment.label is not None:
            by_speaker[segment.speaker].append(segment.label)
    return sum(one != other for own in by_speaker.values() for one, other in pairwise(own))
