"""Label Studio: a task a recording, with its segments as predictions that people can correct."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from r1omni.recordings.formats.files import whole_file
from r1omni.recordings.formats.words import name_of, plain, score_of
from r1omni.recordings.records import Record, Recording, Segment
from r1omni.recordings.segments import Piece, pieces
from r1omni.text.emotions import CLASSES

# Names of the tags in the labelling interface, which predictions refer to.
_LABELS, _MEDIA, _TEXT = "emotion", "media", "reasoning"


@contextmanager
def writing(folder: Path, written: list[Path]) -> Iterator[Callable[[Recording, str], None]]:
    """One list of tasks that recordings are added to, and the labelling interface beside it.

    Recordings without a segment that could be read have no task.
    """
    with whole_file(folder / "labelstudio.xml", written) as partial:
        partial.write_text(interface(), encoding="utf-8")
    with (
        whole_file(folder / "labelstudio.json", written) as partial,
        partial.open("w", encoding="utf-8") as file,
    ):
        number = count()

        def write(recording: Recording, _: str) -> None:
            task = task_of(recording)
            if task is not None:
                file.write(",\n" if next(number) else "[\n")
                json.dump(task, file, ensure_ascii=False)

        yield write
        file.write("\n]\n" if next(number) else "[]\n")


def interface() -> str:
    """The labelling interface: picture and sound in step, and a waveform to mark emotions on.

    Regions lie on the sound, which Label Studio places in seconds; those of a video it counts in
    frames.
    """
    labels = "\n".join(f"    <Label value={quoteattr(emotion)}/>" for emotion in CLASSES)
    return f"""<View>
  <Video name="video" value="${_MEDIA}" sync="{_MEDIA}"/>
  <Labels name="{_LABELS}" toName="{_MEDIA}">
{labels}
  </Labels>
  <Audio name="{_MEDIA}" value="${_MEDIA}" sync="video"/>
  <TextArea name="{_TEXT}" toName="{_MEDIA}" perRegion="true" editable="true" rows="3"/>
</View>
"""


def task_of(recording: Recording) -> dict[str, Any] | None:
    """A task as Label Studio imports it, or None for a recording without a readable segment.

    The score of the prediction, which tasks can be sorted by, is that of its least sure segment.
    """
    result: list[dict[str, Any]] = []
    scores = []
    owned: dict[str | None, list[Piece]] = defaultdict(list)
    for piece in pieces(recording.records):
        owned[piece.record.speaker].append(piece)
    for number, segment in enumerate(recording.segments):
        if segment.label is None:
            continue
        span = {"start": segment.start_s, "end": segment.end_s, "channel": 0}
        region: dict[str, Any] = {"id": f"segment{number}", "to_name": _MEDIA}
        if (score := score_of(segment)) is not None:
            region["score"] = score
            scores.append(score)
        value = {**span, "labels": [segment.label]}
        result.append({**region, "from_name": _LABELS, "type": "labels", "value": value})
        if texts := _reasonings(segment, owned[segment.speaker]):
            value = {**span, "text": texts}
            result.append({**region, "from_name": _TEXT, "type": "textarea", "value": value})
    if not result:
        return None
    prediction = {
        "model_version": recording.records[0].model or "r1omni",
        "score": min(scores, default=0.0),
        "result": result,
    }
    path = plain(recording.path)
    served = f"/data/local-files/?d={quote(path.lstrip('/'))}"
    return {"data": {_MEDIA: served, "path": path}, "predictions": [prediction]}


def _reasonings(segment: Segment, own: Sequence[Piece]) -> list[str]:
    """What the records of a segment say, each once, with their spans.

    Args:
        segment: the segment.
        own: the pieces of its speaker, in order of time.
    """
    first, last = (
        bisect_left(own, time_s, key=lambda piece: piece.start_s)
        for time_s in (segment.start_s, segment.end_s)
    )
    texts = [_reasoning(piece.record) for piece in own[first:last] if piece.record.reasoning]
    return list(dict.fromkeys(texts))


def _reasoning(record: Record) -> str:
    speaker = "" if record.speaker is None else f"{name_of(record.speaker)}, "
    return f"{speaker}{record.start_s:.1f}-{record.end_s:.1f} s: {plain(record.reasoning).strip()}"
