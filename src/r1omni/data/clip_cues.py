"""What is known to be in a clip: `cues.jsonl`, a file beside the annotations of any data set.

One JSON object a line: `path`, the recording from the file's folder on, and `face` and `voice`,
each with attributes and values of `text/cue_words.py`:

    {"path": "clips/a.mp4", "face": {"brows": "raised"}, "voice": {"pitch": "high"}}

Other keys are for whoever wrote the file. The file lies in the root of the data set, or in the
folder above it for sets that share one. Its cues are for judging explanations; no model is shown
them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from r1omni.data.labels_io import Row, read_json_rows
from r1omni.text.cue_words import VALUES
from r1omni.text.cues import CUES_FILE
from r1omni.types import Sample, UsageError

_COLUMNS = {"face": "video", "voice": "audio"}

Cues = tuple[tuple[str, str, str], ...]


def with_cues(samples: Sequence[Sample], root: Path) -> list[Sample]:
    """The samples, with the cues of their clips where a file beside the data set tells them.

    Args:
        samples: of one data set.
        root: its folder, or its label file.

    Raises:
        UsageError: a malformed row, an attribute or value that is none, or a clip told twice.
    """
    folder = root if root.is_dir() else root.parent
    file = next((f / CUES_FILE for f in (folder, folder.parent) if (f / CUES_FILE).is_file()), None)
    if file is None:
        return list(samples)
    cues = _read(file)
    base = os.path.abspath(file.parent)
    return [
        replace(sample, cues=cues.get(os.path.relpath(os.path.abspath(sample.clip.path), base)))
        for sample in samples
    ]


def _read(file: Path) -> dict[str, Cues]:
    """Recording, relative to the file's folder -> its cues."""
    found: dict[str, Cues] = {}
    for row in read_json_rows(file):
        path = os.path.normpath(row.text("path").replace("\\", "/"))
        if path in found:
            raise UsageError(f"{row.place}: tells of {path} again; keep one of the rows")
        found[path] = tuple(
            (medium, name, value)
            for column, medium in _COLUMNS.items()
            for name, value in _column(row, column, medium).items()
        )
    return found


def _column(row: Row, column: str, medium: str) -> dict[str, str]:
    """The attributes that a row gives of the face or of the voice; empty where it has none.

    Raises:
        UsageError: no object, or an attribute or value that is none.
    """
    values, known = row.values.get(column), VALUES[medium]
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{row.place}: {column!r} holds {values!r}, expected an object")
    for name, value in values.items():
        if name not in known:
            raise UsageError(
                f"{row.place}: {column} has no attribute {name!r}; use one of {', '.join(known)}"
            )
        if value not in known[name]:
            raise UsageError(
                f"{row.place}: {column} {name} is {value!r}; use one of {', '.join(known[name])}"
            )
    return values
