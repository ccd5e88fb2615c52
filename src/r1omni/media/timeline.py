"""When each frame of a clip is shown, found without decoding."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from r1omni.media.container import (
    REMEDY,
    MediaError,
    duration_s,
    open_media,
    start_offset_s,
)

# Codecs let at most 16 frames precede, in the file, a frame that is shown before them.
_MAX_REORDER = 16
# A frame of 65000 x 16 pixels has few, but the square around it would take 12 GB.
MAX_SIDE_PX = 8192


@dataclass
class Timeline:
    """Presentation times of a span, in ticks of the stream's time base.

    `by_order` holds the times of all frames from the file's beginning where packets carry no
    presentation time: the k-th decoded frame then has the k-th time. AVI is such a container;
    the presentation times FFmpeg makes up for it are wrong when frames are reordered.
    """

    time_base: float
    offset_s: float
    pts: list[int] = field(default_factory=list)
    by_order: list[int] | None = None
    keyframes: list[int] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def seconds(self, pts: int) -> float:
        """Seconds from the beginning of the recording."""
        return pts * self.time_base - self.offset_s


def video_stream(path: Path, container: InputContainer, max_pixels: int) -> VideoStream:
    """The picture track, its decoder set up; a cover picture of an audio file does not count."""
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]
    if not streams:
        raise MediaError(f"{path}: has no picture track; use a file with a picture")
    stream = streams[0]
    context = stream.codec_context
    if context is None:
        raise MediaError(f"{path}: no decoder is known for its picture track; {REMEDY}")
    check_frame_size(path, context.width, context.height, max_pixels)
    # The header may lie about the size, so the decoder gets the limit as well. Frame threads can
    # deadlock with FFmpeg's logging, and clips are decoded side by side in processes anyway.
    context.options = {"max_pixels": str(max_pixels)}
    context.thread_type = "SLICE"
    context.thread_count = 1
    return stream


def check_frame_size(path: Path, width: int, height: int, max_pixels: int) -> None:
    """Raise MediaError for frames that are too large, or too long to be centred on a square."""
    if width * height > max_pixels:
        limit = f"{max_pixels} pixels"
    elif max(width, height) > MAX_SIDE_PX:
        limit = f"{MAX_SIDE_PX} pixels a side"
    else:
        return
    raise MediaError(
        f"{path}: frames of {width}x{height} pixels exceed the limit of {limit}; scale it down"
    )


def scan_timeline(
    path: Path, start_s: float | None, end_s: float | None, max_pixels: int
) -> Timeline:
    """Collect the presentation times of [start_s, end_s), or of the whole clip.

    Raises:
        MediaError: unreadable file, no picture track, too large frames, no frame in the span.
    """
    timeline, times, reached_s, stated_s = _scan_once(path, start_s, end_s, max_pixels)
    if timeline.by_order is not None:
        timeline, times, reached_s, stated_s = _scan_once(path, None, end_s, max_pixels)
        timeline.by_order = times
        timeline.keyframes = []  # frames are counted, so none may be jumped over
    # A truncated Matroska or AVI file opens and silently gives fewer frames.
    if end_s is None and stated_s is not None and reached_s < stated_s * 0.98 - 0.25:
        timeline.warnings.append(
            f"the file is truncated: {reached_s:.2f} of {stated_s:.2f} s can be read"
        )
    timeline.pts = _within(times, timeline, start_s, end_s)
    if not timeline.pts:
        if start_s is None and end_s is None:
            raise MediaError(f"{path}: holds no frames, or is damaged; {REMEDY}")
        raise MediaError(
            f"{path}: has no picture between {start_s or 0:.2f} s and "
            f"{'its end' if end_s is None else f'{end_s:.2f} s'} (it ends at {reached_s:.2f} s)"
        )
    return timeline


def _scan_once(
    path: Path, start_s: float | None, end_s: float | None, max_pixels: int
) -> tuple[Timeline, list[int], float, float | None]:
    """Timeline without its span, sorted times, seconds read, and seconds stated by the file."""
    with open_media(path) as container:
        stream = video_stream(path, container, max_pixels)
        if stream.time_base is None:
            raise MediaError(f"{path}: its picture track states no time base; {REMEDY}")
        timeline = Timeline(float(stream.time_base), start_offset_s(container))
        if container.format.name == "avi":
            timeline.by_order = []
        if start_s is not None and start_s > 0:
            container.seek(int((start_s + timeline.offset_s) * av.time_base), backward=True)
        times, reached_s = _packet_times(container, stream, timeline, end_s)
        times.sort()
        timeline.keyframes.sort()
        return timeline, times, reached_s, duration_s(container)


def _packet_times(
    container: InputContainer,
    stream: VideoStream,
    timeline: Timeline,
    end_s: float | None,
) -> tuple[list[int], float]:
    """Times of the frames in ticks, and the second up to which any track reaches."""
    times: list[int] = []
    reached_s = 0.0
    num_beyond = 0
    # Sound is scanned too: it may outlast the picture, which is no truncation.
    tracks = [stream, *container.streams.audio[:1]]
    try:
        for packet in container.demux(tracks):
            pts = packet.dts if packet.pts is None or timeline.by_order is not None else packet.pts
            if pts is None or packet.time_base is None:
                continue
            end = (pts + (packet.duration or 0)) * float(packet.time_base) - timeline.offset_s
            reached_s = max(reached_s, end)
            if packet.stream_index != stream.index or packet.is_discard:
                continue
            if packet.pts is None:
                timeline.by_order = []  # filled by the caller
            if end_s is not None and timeline.seconds(pts) >= end_s:
                num_beyond += 1
                if num_beyond > _MAX_REORDER:
                    break
            times.append(pts)
            if packet.is_keyframe:
                timeline.keyframes.append(pts)
    except av.error.FFmpegError as error:
        timeline.warnings.append(f"reading stopped at {reached_s:.2f} s ({error.strerror})")
    return times, reached_s


def _within(
    times: list[int], timeline: Timeline, start_s: float | None, end_s: float | None
) -> list[int]:
    """The sorted times inside [start_s, end_s), or the frame that is on screen throughout."""
    if start_s is None and end_s is None:
        return times
    start = start_s or 0.0
    seconds = [timeline.seconds(pts) for pts in times]
    first = bisect.bisect_left(seconds, start - 1e-6)
    last = len(times) if end_s is None else bisect.bisect_left(seconds, end_s - 1e-6)
    if first < last:
        return times[first:last]
    # A span shorter than one frame: a frame before and one after it mean that it is covered.
    return times[first - 1 : first] if 0 < first < len(times) else []
