"""Opening recordings: one place for the safety options and for the wording of failures."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from r1omni.types import R1OmniError

# FFmpeg guesses formats by content: a file named x.mp4 that holds ffconcat or playlist text
# would open its neighbours. Only containers that hold media themselves are accepted.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,flv,ogg,wav,mp3,flac,aac,asf,mpeg,"
    "amr,aiff,caf,w64"
)
_OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
# How texts begin that name other files: ffconcat, HLS, SDP, DASH.
_PLAYLISTS = {b"ffconcat": "ffconcat", b"#EXTM3U": "HLS", b"v=0": "SDP", b"<MPD": "DASH"}
_NOT_READ = "convert it to mp4 or wav"

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
        raise MediaError(f"{path}: {_refusal(path, error)}") from error
    with container:
        try:
            yield container
        except _FAILURES as error:
            raise MediaError(f"{path}: cannot be decoded {explained(error)}") from error


def _refusal(path: Path, error: Exception) -> str:
    """Why a file cannot be opened, and what to do."""
    head = b""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(200)
    for mark, name in _PLAYLISTS.items():
        if head.startswith(mark) or (name == "DASH" and mark in head):
            return f"is a playlist ({name}), which is not read; give the recordings it names"
    if isinstance(error, av.error.ArgumentError):  # FFmpeg knows the format, and may not open it
        return f"is a picture, a text or a recording of a kind that is not read; {_NOT_READ}"
    return f"is no recording that can be opened, or is truncated {explained(error)}"


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


def picture_streams(container: InputContainer) -> list[VideoStream]:
    """Picture tracks; a cover picture of an audio file is none."""
    return [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]


def is_sound_alone(path: Path) -> bool:
    """Whether a recording has sound and no picture.

    Raises:
        MediaError: it cannot be opened.
    """
    with open_media(path) as container:
        return bool(container.streams.audio) and not picture_streams(container)


def read_packets(
    container: InputContainer, streams: Sequence[VideoStream | AudioStream]
) -> Iterator[Packet]:
    """Packets from where the container stands; of the empty ones only the last.

    The last one asks a decoder for what it still holds. Any other says that a frame is shown once
    more (Theora, AVI) or that nothing is said (Speex), and a decoder would take it for the end.
    """
    end = None
    for packet in container.demux(*streams) if streams else ():
        if packet.size:
            yield packet
        else:
            end = packet
    if end is not None:
        yield end


def seek(container: InputContainer, ticks: int, stream: VideoStream | None = None) -> bool:
    """Go to a packet at or before a time, as near to it as the container can; False if it cannot.

    Args:
        container: where to seek.
        ticks: the time, of the stream's time base, or in microseconds without a stream.
        stream: the track that counts; the container's first picture, or sound, without.
    """
    try:
        container.seek(ticks, stream=stream, backward=True)
    except av.error.FFmpegError:
        return False
    return True


def decode(path: Path, stream: VideoStream | AudioStream, packet: Packet) -> Sequence[Any] | None:
    """Frames of the stream's kind that a packet completes, or None for a damaged packet.

    Raises:
        MediaError: the decoder fails for another reason than damage.
    """
    try:
        return stream.codec_context.decode(packet)
    except av.error.InvalidDataError:
        return None
    except av.error.FFmpegError as error:
        what = "picture" if stream.type == "video" else "sound"
        raise MediaError(f"{path}: the {what} cannot be decoded {explained(error)}") from error
