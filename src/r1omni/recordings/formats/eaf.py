"""ELAN's .eaf: a tier a lane, with the speaker as its participant and the recording linked."""

from __future__ import annotations

import mimetypes
import os
from pathlib import Path

import pympi

from r1omni.recordings.formats.annotations import annotation_tiers
from r1omni.recordings.formats.words import plain
from r1omni.recordings.records import Recording


def write(recording: Recording, path: Path) -> None:
    """The lanes of a recording; times are whole milliseconds, and a shorter mark is left out.

    The recording is linked by its full path and by the path from the file's own folder, so a
    folder that holds both can be moved.
    """
    file = pympi.Eaf(author="r1omni")
    file.remove_tier("default")
    media = os.path.abspath(recording.path)
    linked = plain(Path(media).as_posix())
    near = plain(Path(os.path.relpath(media, path.parent)).as_posix())
    kind = mimetypes.guess_type(recording.path)[0] or "unknown"
    file.add_linked_file(f"file://{linked}", relpath=f"./{near}", mimetype=kind)
    for tier in annotation_tiers(recording):
        file.add_tier(tier.name, part=tier.speaker)
        for start_s, end_s, text in tier.marks:
            start_ms, end_ms = round(start_s * 1000), round(end_s * 1000)
            if start_ms < end_ms:
                file.add_annotation(tier.name, start_ms, end_ms, text)
    file.to_file(path)
