"""SubRip and WebVTT: a caption a segment, for video players."""

from __future__ import annotations

import html
from pathlib import Path

from webvtt import Caption, WebVTT

from r1omni.recordings.formats.words import caption_of, name_of
from r1omni.recordings.records import Recording

# SubRip has tags, but no way to write their signs as text; these look like them.
_SIGNS = str.maketrans("<>", "‹›")


def write_srt(recording: Recording, path: Path) -> None:
    """SubRip: "Anna: happy 83%"; `<` and `>` of a name become `‹` and `›`."""
    spoken = [
        (segment.start_s, segment.end_s, caption_of(segment).translate(_SIGNS))
        for segment in recording.segments
    ]
    _write(spoken, path, "srt")


def write_vtt(recording: Recording, path: Path) -> None:
    """WebVTT: the same, with the speaker as its voice, too."""
    spoken = []
    for segment in recording.segments:
        text = html.escape(caption_of(segment), quote=False)
        if segment.speaker:
            text = f"<v {html.escape(name_of(segment.speaker), quote=False)}>{text}"
        spoken.append((segment.start_s, segment.end_s, text))
    _write(spoken, path, "vtt")


def _write(spoken: list[tuple[float, float, str]], path: Path, form: str) -> None:
    """Captions in order of time; a span that rounds to no millisecond has none."""
    captions = WebVTT()
    for start_s, end_s, text in sorted(spoken):
        start, end = _clock(start_s), _clock(end_s)
        if start != end:
            captions.captions.append(Caption(start, end, text))
    with path.open("w", encoding="utf-8", newline="\n") as file:
        captions.write(file, format=form)


def _clock(time_s: float) -> str:
    seconds, ms = divmod(round(time_s * 1000), 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ms:03d}"
