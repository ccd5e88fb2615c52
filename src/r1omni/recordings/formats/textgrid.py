"""Praat's TextGrid: a tier a lane, each over the whole length, with empty intervals in the gaps."""

from __future__ import annotations

from pathlib import Path

from praatio import textgrid

from r1omni.recordings.formats.annotations import annotation_tiers
from r1omni.recordings.records import Recording


def write(recording: Recording, path: Path) -> None:
    """The lanes of a recording as a long TextGrid, from 0 to the end of its last segment."""
    end_s = max(segment.end_s for segment in recording.segments)
    grid = textgrid.Textgrid()
    for tier in annotation_tiers(recording):
        grid.addTier(textgrid.IntervalTier(tier.name, list(tier.marks), 0, end_s))
    grid.save(str(path), "long_textgrid", includeBlankSpaces=True)
