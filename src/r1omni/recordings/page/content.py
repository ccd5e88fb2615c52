"""What a page holds of one recording."""

from __future__ import annotations

import base64
import mimetypes
import os
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1omni.extras import how_to_install
from r1omni.media.container import MediaError
from r1omni.media.previews import Picture, outline, pictures
from r1omni.media.timeline import scan_extent, scan_timeline
from r1omni.recordings.formats.words import name_of, plain
from r1omni.recordings.page.attachments import attachments
from r1omni.recordings.records import Record, Recording
from r1omni.recordings.segments import pieces
from r1omni.types import TAKEN_AWAY, Ablated

Content = dict[str, Any]

# Containers that today's browsers play; whether they know the codec inside, only they can tell.
_PLAYED = (
    ".mp4", ".m4v", ".mov", ".webm", ".ogv", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac",
    ".wav", ".flac",
)  # fmt: skip
# Stretches of the small strip that stands for a recording in a list.
_MAX_STRIP = 80


def content(
    recording: Recording,
    name: str,
    folder: Path,
    embed_mb: int,
    num_frames: int | None,
    source: Path | None = None,
) -> Content:
    """All that the page knows of a recording; docs/page.md says how it is shown.

    A recording that is gone or cannot be read has no pictures and no waveform, and a note says why.

    Args:
        recording: what is said about it.
        name: of its files, without a suffix.
        folder: of the page.
        embed_mb: recordings of up to so many megabytes are in the page itself.
        num_frames: frames of each span that the model was shown, where that is known.
        source: where the recording lies, if its path is only a name of it.
    """
    path, notes = Path(recording.path) if source is None else source, []
    answers = [record for record in recording.records if record.error is None]
    length_s = max((record.end_s for record in answers), default=0.0)
    shown: list[Picture] = []
    places: list[list[int]] = [[] for _ in answers]
    is_video, sound = False, None
    try:
        if answers and path.is_file():  # what could not be analyzed is not opened again
            extent = scan_extent(path)
            length_s, is_video = max(length_s, extent.length_s), extent.picture_s > 0
            found = outline(path, length_s)
            if isinstance(found, str):
                notes.append(f"No waveform: {found}.")
            else:
                sound = {"step": found.step_s, "lows": found.lows, "highs": found.highs}
        if is_video:
            spans = [(record.start_s, record.end_s) for record in answers]
            shown, places = pictures(path, scan_timeline(path), spans, num_frames)
    except MediaError as error:
        notes.append(f"Not all of the recording can be shown: {error}.")
    if not recording.summary.is_complete:
        answered = max((record.end_s for record in answers), default=0.0)
        notes.append(
            f"Not complete: analyze was stopped at {answered:.1f} s of {length_s:.1f} s; resume it "
            "to have the rest."
        )
    media, said = _media(path, folder, embed_mb)
    files, missing = attachments(recording, name, folder)
    if missing:
        notes.append(f"For {' and '.join(missing)}, {how_to_install('formats')}.")
    numbers = {id(record): number for number, record in enumerate(answers)}
    return {
        "name": plain(Path(recording.path).name),
        "path": plain(recording.path),
        "length": round(length_s, 3),
        "video": is_video,
        "media": media,
        "notes": [*said, *notes],
        "records": [
            *(_record(r, own) for r, own in zip(answers, places, strict=True)),
            *({"error": plain(r.error)} for r in recording.records if r.error is not None),
        ],
        "pieces": [
            [round(p.start_s, 3), round(p.end_s, 3), numbers[id(p.record)]]
            for p in pieces(recording.records)
        ],
        "segments": [
            {
                "start": round(s.start_s, 3),
                "end": round(s.end_s, 3),
                "speaker": _speaker(s.speaker),
                "label": s.label,
                "scores": _rounded(s.scores),
                "answers": s.num_records,
            }
            for s in recording.segments
        ],
        "pictures": [[round(p.time_s, 2), p.source] for p in shown],
        "sound": sound,
        "files": files,
        "frames": num_frames,
        "model": answers[0].model if answers else "",
        "settings": answers[0].settings if answers else "",
    }


def row(recording: Recording, page: str) -> Content:
    """A recording in the list of recordings.

    Args:
        recording: what is said about it.
        page: its own page, or "".
    """
    told, answers = recording.summary, [r for r in recording.records if r.error is None]
    longest = sorted(recording.segments, key=lambda s: s.start_s - s.end_s)[:_MAX_STRIP]
    end_s = max((s.end_s for s in recording.segments), default=0.0) or 1.0
    return {
        "name": plain(Path(recording.path).name),
        "path": plain(recording.path),
        "page": page,
        "length": round(told.length_s, 3),
        "answers": told.num_records,
        "dominant": told.dominant,
        "share": round(told.shares.get(told.dominant or "", 0.0), 4),
        "changes": told.changes,
        "unreadable": sum(r.label is None for r in answers),
        "contradicted": sum(r.supported == "contradicted" for r in answers),
        "labels": sorted({r.label for r in answers if r.label is not None}),
        "speakers": sorted({_speaker(r.speaker) for r in answers if r.speaker is not None}),
        "error": None if told.error is None else plain(told.error),
        "strip": [
            [round(s.start_s / end_s, 4), round(s.end_s / end_s, 4), s.label]
            for s in sorted(longest, key=lambda s: s.start_s)
        ],
    }


def _record(record: Record, own: list[int]) -> Content:
    return {
        "start": round(record.start_s, 3),
        "end": round(record.end_s, 3),
        "speaker": _speaker(record.speaker),
        "label": record.label,
        "scores": _rounded(record.scores),
        "direct": record.direct_label,
        "directScores": None if record.direct_scores is None else _rounded(record.direct_scores),
        "ablation": None if record.ablation is None else _ablation(record.ablation),
        "reasoning": plain(record.reasoning),
        "supported": record.supported,
        # An answer in form says no more than its reasoning and its label.
        "text": "" if record.format_ok else plain(record.text),
        "media": record.media,
        "warnings": [plain(warning) for warning in record.warnings],
        "pictures": own,
    }


def _ablation(ablation: Mapping[str, Ablated]) -> Content:
    return {
        TAKEN_AWAY[condition]: {
            "label": said.label,
            "scores": _rounded(said.scores),
            "directScores": None if said.direct_scores is None else _rounded(said.direct_scores),
        }
        for condition, said in ablation.items()
    }


def _speaker(speaker: str | None) -> str:
    return "" if speaker is None else name_of(speaker)


def _rounded(scores: Mapping[str, float]) -> dict[str, float]:
    return {emotion: round(score, 4) for emotion, score in scores.items()}


def _media(path: Path, folder: Path, embed_mb: int) -> tuple[str | None, list[str]]:
    """What the player is given, a data URL or a path from the page's folder, and notes."""
    if not path.is_file():
        return None, ["The recording is not where it was; put it back to play it here."]
    if path.suffix.lower() not in _PLAYED:
        kind = path.suffix.lower() or "such"
        return None, [f"Browsers do not play {kind} files; convert it to mp4 to play it here."]
    size_mb = path.stat().st_size / 1e6
    if embed_mb and size_mb <= embed_mb:
        kind = mimetypes.guess_type(f"x{path.suffix.lower()}")[0] or "video/mp4"
        return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}", []
    # Bytes, since a name need not be text.
    link = urllib.parse.quote(os.fsencode(os.path.relpath(path, folder)))
    too_large = f"It is not in this page, since its {size_mb:.0f} MB are more than {embed_mb} MB."
    return link, [too_large] if embed_mb else []
