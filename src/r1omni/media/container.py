"""Opening recordings: one place for the safety options and for the wording of failures."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer

from r1omni.types import R1OmniError

# FFmpeg guesses formats by content: a file named x.mp4 that holds ffconcat or playlist text
# would open its neighbours. Only containers that hold media themselves are accepted.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,flv,ogg,wav,mp3,flac,aac,asf,mpeg"
_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}


REMEDY = "copy it again, or convert it to mp4"
# What PyAV raises on damaged files besides FFmpeg's own errors, which name no common parent.
_FAILURES = (av.error.FFmpegError, ArithmeticError, MemoryError, ValueError)


class MediaError(R1OmniError):
    """A recording that cannot be read: one line with the path, the reason and what to do.

    A file name may hold line breaks, terminal commands and bytes that are no text; these are
    escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(map(_printable, message)))


def _printable(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """Open a recording for reading and close it afterwards.

    Whatever the decoder raises meanwhile on a damaged file leaves as a MediaError.

    Raises:
        MediaError: the file is missing, empty, or no recording that FFmpeg can open.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if not stat.S_ISREG(status.st_mode):
        # A named pipe would be waited for without end.
        raise MediaError(f"{path}: is no regular file; give a recording")
    if status.st_size == 0:
        raise MediaError(f"{path}: the file is empty (0 bytes); copy it again")
    try:
        # The prefix keeps a name such as "http:x.mp4" from being taken for an address.
        container = av.open(f"file:{path}", options=dict(_OPTIONS), metadata_errors="replace")
    except _FAILURES as error:
        raise MediaError(
            f"{path}: is no recording that can be opened, or is truncated {explained(error)}"
        ) from error
    with container:
        try:
            yield container
        except _FAILURES as error:
            raise MediaError(f"{path}: cannot be decoded {explained(error)}") from error


def explained(error: Exception) -> str:
    """The decoder's own reason in brackets, and what to do about it."""
    reason = f"{type(error).__name__}: {error}"
    if isinstance(error, av.error.FFmpegError):
        reason = str(error.strerror)
    remedy = "scale the recording down" if isinstance(error, MemoryError) else REMEDY
    return f"({reason}); {remedy}"


def start_offset_s(container: InputContainer) -> float:
    """Time stamp of the beginning of the recording in seconds (MPEG-TS seldom begins at 0)."""
    return 0.0 if container.start_time is None else container.start_time / av.time_base


def duration_s(container: InputContainer) -> float | None:
    """Length in seconds as the container states it, or None when it does not."""
    return None if container.duration is None else container.duration / av.time_base


def check_span(path: Path, start_s: float | None, end_s: float | None) -> None:
    """Raise MediaError unless 0 <= start_s < end_s (None stands for the clip's own end)."""
    start = 0.0 if start_s is None else start_s
    if start < 0 or (end_s is not None and end_s <= start):
        raise MediaError(
            f"{path}: the span {start_s} s to {end_s} s is empty or negative; correct it"
        )


def read_duration_s(path: Path) -> float:
    """Length of a recording in seconds: as it credibly states it, or else up to its last packet.

    Raises:
        MediaError: the recording cannot be opened, or holds neither picture nor sound.
    """
    with open_media(path) as container:
        stated_s = duration_s(container)
        # More seconds than bytes: a damaged header, which would be taken for years of recording.
        if stated_s is not None and 0 < stated_s <= container.size:
            return stated_s
        end_s = _last_packet_s(container)
    if end_s <= 0:
        raise MediaError(f"{path}: has neither picture nor sound; {REMEDY}")
    return end_s


def _last_packet_s(container: InputContainer) -> float:
    """Where the last packet that can be read ends, in seconds; 0 without any."""
    end_s = 0.0
    tracks = [*container.streams.video[:1], *container.streams.audio[:1]]
    # A file that breaks off is as long as what it holds; reading its picture warns of it.
    with contextlib.suppress(av.error.FFmpegError):
        for packet in container.demux(tracks) if tracks else ():
            if packet.pts is not None and packet.time_base is not None:
                end_s = max(end_s, (packet.pts + (packet.duration or 0)) * float(packet.time_base))
    return end_s - start_offset_s(container)
