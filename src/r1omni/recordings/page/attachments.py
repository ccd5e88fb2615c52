"""The files of other tools that a page hands out, made by the writers of the formats themselves."""

from __future__ import annotations

import base64
import gzip
import importlib
import json
import tempfile
from pathlib import Path

from r1omni.extras import missing as lacks
from r1omni.recordings.formats import FORMATS, csv
from r1omni.recordings.records import Recording

# Of the tables and formats that are written: what the buttons say.
_TABLES = {"records": "CSV of answers", "segments": "CSV of segments"}
_ANNOTATIONS = {"textgrid": "TextGrid", "eaf": "EAF"}


def attachments(recording: Recording, name: str, folder: Path) -> tuple[str, list[str]]:
    """What the buttons of a recording save.

    Args:
        recording: whose files they are; one without segments has no annotations.
        name: of the files, without a suffix.
        folder: of the page; files that link the recording do so as if they lay there.

    Returns:
        JSON {button: [file name, text]}, compressed by gzip and in base64; and the formats whose
        library is not installed.

    Raises:
        OSError: the folder cannot be written.
    """
    files: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as place:
        with csv.writing(Path(place), []) as write:
            write(recording, name)
        for table, button in _TABLES.items():
            text = (Path(place) / f"{table}.csv").read_text(encoding="utf-8")
            files[button] = [f"{name}-{table}.csv", text]
    missing = []
    for form, button in _ANNOTATIONS.items():
        entry = FORMATS[form]
        if entry.library is not None and lacks(entry.library):
            missing.append(button)
        elif recording.segments:
            module = importlib.import_module(entry.function.rpartition(".")[0])
            partial = folder / f".page{entry.suffix}.partial"
            try:
                module.write(recording, partial)
                files[button] = [f"{name}{entry.suffix}", partial.read_text(encoding="utf-8")]
            finally:
                partial.unlink(missing_ok=True)
    # The files repeat each other: compressed, together they are smaller than one of them.
    packed = gzip.compress(json.dumps(files).encode(), mtime=0)
    return base64.b64encode(packed).decode(), missing
