"""The tiers of annotation files: what each speaker's segments and records say, in lanes.

A lane of Praat or ELAN holds no two annotations at once, while windows may overlap. So a record is
shown where it is the one that counts (`segments.pieces`), not over its whole span.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, count

from r1omni.recordings.formats.words import UNREADABLE, name_of, plain, score_of
from r1omni.recordings.records import Recording
from r1omni.recordings.segments import pieces


@dataclass(frozen=True)
class AnnotationTier:
    """One lane.

    Attributes:
        name: "emotion", "score" or "reasoning", with "@" and the speaker where there is one;
            unique in its file.
        speaker: who it is about, or None.
        marks: start and end in seconds and the text, in order of time, without overlaps or empty
            texts.
    """

    name: str
    speaker: str | None
    marks: tuple[tuple[float, float, str], ...]


def annotation_tiers(recording: Recording) -> list[AnnotationTier]:
    """Lanes speaker by speaker; one without marks is left out."""
    owned = pieces(recording.records)
    made: list[AnnotationTier] = []
    for speaker in dict.fromkeys(segment.speaker for segment in recording.segments):
        own = [segment for segment in recording.segments if segment.speaker == speaker]
        scores = [(segment, score_of(segment)) for segment in own]
        lanes = {
            "emotion": [(s.start_s, s.end_s, s.label or UNREADABLE) for s in own],
            "score": [(s.start_s, s.end_s, f"{p:.3f}") for s, p in scores if p is not None],
            "reasoning": [
                (piece.start_s, piece.end_s, plain(piece.record.reasoning).strip())
                for piece in owned
                if piece.record.speaker == speaker and piece.record.reasoning.strip()
            ],
        }
        shown = None if speaker is None else name_of(speaker)
        for lane, marks in lanes.items():
            if marks:
                name = lane if shown is None else f"{lane}@{shown}"
                made.append(AnnotationTier(_unique(name, made), shown, tuple(marks)))
    return made


def _unique(name: str, made: list[AnnotationTier]) -> str:
    """A name that no tier has; two speakers may differ in what `name_of` takes away."""
    taken = {tier.name for tier in made}
    others = (f"{name} ({number})" for number in count(2))
    return next(one for one in chain([name], others) if one not in taken)
