"""What the page shows of an answered recording: that of `analyze --format html`, as JSON."""

from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from r1omni.media.workers import Remedies, in_workers
from r1omni.recordings.formats.files import FileNames
from r1omni.recordings.page.content import content, row
from r1omni.recordings.records import Recording
from r1omni.serving.uploads import PRELOAD
from r1omni.types import Clip

_logger = logging.getLogger(__name__)
_REMEDIES = Remedies("pages at a time", None, None)


def shown(recording: Recording, source: Path, num_frames: int, limit_s: float) -> str:
    """JSON {rows, contents} of a recording, each of one, as the script `showRecordings` takes them.

    A process of its own draws pictures and waveform. If it dies or takes too long, the answers are
    shown without them, and a note says so.

    Args:
        recording: named as its owner calls it.
        source: where it lies.
        num_frames: frames of a span that the model was shown.
        limit_s: seconds that drawing may take.

    Raises:
        R1OmniError: no process can be started.
    """
    with TemporaryDirectory(prefix="r1omni-demo-") as place:
        folder = Path(place)
        work = partial(_draw, recording=recording, folder=folder, num_frames=num_frames)
        ((_, ended),) = in_workers(
            [Clip(source)], work, 1, limit_s, preload=PRELOAD, remedies=_REMEDIES
        )
        file = folder / "content.json"
        if ended is None:
            made: dict[str, Any] = json.loads(file.read_text(encoding="ascii"))
        else:
            _logger.warning("pictures and waveform cannot be drawn: %s", ended)
            made = _content(recording, folder / "gone", folder, num_frames)
            made["notes"] = ["No pictures and no waveform: drawing them failed."]
    return json.dumps({"rows": [row(recording, "")], "contents": [made]})


def _draw(clip: Clip, recording: Recording, folder: Path, num_frames: int) -> None:
    """In the process."""
    made = _content(recording, clip.path, folder, num_frames)
    (folder / "content.json").write_text(json.dumps(made), encoding="ascii")


def _content(recording: Recording, source: Path, folder: Path, num_frames: int) -> dict[str, Any]:
    name = FileNames().of(recording.path)
    made = content(recording, name, folder, 0, num_frames, source)
    # The browser has the recording itself, and plays that.
    return made | {"media": None if made["media"] is None else ""}
