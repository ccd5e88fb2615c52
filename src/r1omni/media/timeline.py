"""When each frame of a clip is shown and how far its tracks reach, found without decoding."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from r1omni.media.container import (
    REMEDY,
    MediaError,
    duration_s,
    open_media,
    picture_streams,
    read_packets,
    seek,
    start_offset_s,
)

# 8K frames pass; a crafted small file with 12000 x 12000 frames does not.
DEFAULT_MAX_PIXELS = 8192 * 4608
# A frame of 65000 x 16 pixels has few, but the square around it would take 12 GB.
MAX_SIDE_PX = 8192
# Codecs let at most 16 frames precede, in the file, a frame that is shown before them.
_MAX_REORDER = 16
# How far before a span a key frame is looked for, where seeking does not find one at once.
_STEPS_BACK_S = (0.0, 2.0, 10.0, 60.0)
# A stated length counts where the packets agree: blocks of sound reach a little beyond the clip.
AGREEMENT_S = 0.3
# Below this distance decoding on is as fast as a seek.
MIN_SECONDS_TO_SEEK = 1.0


class KeyFrame(NamedTuple):
    """Presentation and decoding time of a key frame, in ticks."""

    pts: int
    dts: int


@dataclass
class Timeline:
    """Presentation times of a span, in ticks of the picture's time base; none of sound alone.

    `by_order` holds the times of all frames from the file's beginning where packets carry no
    presentation time: the k-th decoded frame then has the k-th time. AVI with reordered frames is
    such a container; the presentation times FFmpeg makes up for it are wrong.

    `picture_s` and `sound_s` say where the last packet that was read ends, in seconds from the
    beginning of the recording, and `stated_s` how long the file claims to be.
    """

    time_base: float
    offset_s: float
    pts: list[int] = field(default_factory=list)
    by_order: list[int] | None = None
    keyframes: list[KeyFrame] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    stated_s: float | None = None
    picture_s: float = 0.0
    sound_s: float = 0.0

    @property
    def length_s(self) -> float:
        """Length of the recording in seconds: what it states if its packets agree, or theirs."""
        reached_s = max(self.picture_s, self.sound_s)
        # Some formats state a guess from the first packets' size, and a header may be damaged.
        if self.picture_s and self.stated_s and abs(self.stated_s - reached_s) <= AGREEMENT_S:
            return self.stated_s
        return reached_s

    def seconds(self, pts: int) -> float:
        """Seconds from the beginning of the recording."""
        return pts * self.time_base - self.offset_s

    def within(self, start_s: float | None, end_s: float | None) -> list[int]:
        """The times inside [start_s, end_s), or the frame that is on screen throughout."""
        if start_s is None and end_s is None:
            return self.pts
        start = start_s or 0.0
        first = bisect.bisect_left(self.pts, start - 1e-6, key=self.seconds)
        last = len(self.pts)
        if end_s is not None:
            last = bisect.bisect_left(self.pts, end_s - 1e-6, key=self.seconds)
        if first < last:
            return self.pts[first:last]
        # A span shorter than one frame: a frame before and one after it mean that it is covered.
        return self.pts[first - 1 : first] if 0 < first < len(self.pts) else []


def video_stream(path: Path, container: InputContainer, max_pixels: int) -> VideoStream:
    """The picture track, its decoder set up; a cover picture of an audio file does not count."""
    streams = picture_streams(container)
    if not streams:
        remedy = "use a file with a picture"
        if container.streams.audio:
            remedy = "use modality audio for its sound, or a file with a picture"
        raise MediaError(f"{path}: has no picture track; {remedy}")
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
    path: Path,
    start_s: float | None = None,
    end_s: float | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Timeline:
    """Collect the presentation times of [start_s, end_s), or of the whole clip.

    A span costs as much at the end of a long recording as at its beginning, where the container
    can seek and its packets carry presentation times.

    Raises:
        MediaError: unreadable file, no picture track, too large frames, no frame in the span.
    """
    start = start_s or 0.0
    for back_s in _STEPS_BACK_S:
        timeline = _scan_once(path, max(start - back_s, 0.0), end_s, max_pixels)
        begins = [timeline.seconds(key.pts) for key in timeline.keyframes[:1]]
        if timeline.by_order is None and (start <= back_s or (begins and begins[0] <= start)):
            break
    else:
        timeline = _scan_once(path, 0.0, end_s, max_pixels)
    if timeline.by_order is not None:
        timeline.by_order = timeline.pts
        timeline.keyframes = []  # frames are counted, so none may be jumped over
    reached_s, stated_s = max(timeline.picture_s, timeline.sound_s), timeline.stated_s
    # A truncated Matroska or AVI file opens and silently gives fewer frames.
    if end_s is None and stated_s is not None and reached_s < stated_s * 0.98 - 0.25:
        timeline.warnings.append(
            f"the file is truncated: {reached_s:.2f} of {stated_s:.2f} s can be read"
        )
    timeline.pts = timeline.within(start_s, end_s)
    if not timeline.pts:
        if start_s is None and end_s is None:
            remedy = "use modality audio for its sound, or " if timeline.sound_s else ""
            raise MediaError(f"{path}: holds no frames, or is damaged; {remedy}{REMEDY}")
        raise MediaError(
            f"{path}: has no picture between {start_s or 0:.2f} s and "
            f"{'its end' if end_s is None else f'{end_s:.2f} s'} (it ends at {reached_s:.2f} s)"
        )
    return timeline


def scan_extent(path: Path) -> Timeline:
    """How far the tracks of a recording reach, whether it has a picture or not.

    Raises:
        MediaError: the file cannot be opened, or holds neither picture nor sound.
    """
    with open_media(path) as container:
        timeline = Timeline(1.0, start_offset_s(container), stated_s=duration_s(container))
        _read_times(container, timeline, next(iter(picture_streams(container)), None), None)
    if timeline.length_s <= 0:
        raise MediaError(f"{path}: has neither picture nor sound; {REMEDY}")
    return timeline


def read_duration_s(path: Path) -> float:
    """Length of a recording in seconds; MediaError when it cannot be opened or holds nothing."""
    return scan_extent(path).length_s


def _scan_once(path: Path, from_s: float, end_s: float | None, max_pixels: int) -> Timeline:
    """The times from `from_s` on, or from a little before it, to a little beyond `end_s`."""
    with open_media(path) as container:
        stream = video_stream(path, container, max_pixels)
        if stream.time_base is None:
            raise MediaError(f"{path}: its picture track states no time base; {REMEDY}")
        timeline = Timeline(
            float(stream.time_base), start_offset_s(container), stated_s=duration_s(container)
        )
        if container.format.name == "avi" and stream.codec_context.has_b_frames:
            timeline.by_order = []
        if from_s > 0:
            ticks = int((from_s + timeline.offset_s) / timeline.time_base)
            if not seek(container, ticks, stream):
                return _scan_once(path, 0.0, end_s, max_pixels)
        _read_times(container, timeline, stream, end_s)
        shape = stream.sample_aspect_ratio
        if shape and shape != 1:
            timeline.warnings.append(
                f"its pixels are not square ({shape.numerator}:{shape.denominator}): the picture "
                f"is seen {'narrower' if shape > 1 else 'wider'} than it is"
            )
    timeline.pts.sort()
    timeline.keyframes.sort()
    return timeline


def _read_times(
    container: InputContainer, timeline: Timeline, stream: VideoStream | None, end_s: float | None
) -> None:
    """Note the times of frames and how far the tracks reach, from where the container stands."""
    num_beyond = 0
    # Sound is scanned too: it may outlast the picture, which is no truncation.
    tracks: list[VideoStream | AudioStream] = [stream] if stream else []
    tracks += container.streams.audio[:1]
    try:
        for packet in read_packets(container, tracks):
            pts = packet.dts if packet.pts is None or timeline.by_order is not None else packet.pts
            if pts is None or packet.time_base is None:
                continue
            end = (pts + (packet.duration or 0)) * float(packet.time_base) - timeline.offset_s
            if stream is None or packet.stream_index != stream.index:
                timeline.sound_s = max(timeline.sound_s, end)
                continue
            timeline.picture_s = max(timeline.picture_s, end)
            if packet.is_discard:
                continue
            if packet.pts is None:
                timeline.by_order = []  # filled by the caller
            if end_s is not None and timeline.seconds(pts) >= end_s:
                num_beyond += 1
                if num_beyond > _MAX_REORDER:
                    break
            timeline.pts.append(pts)
            if packet.is_keyframe:
                timeline.keyframes.append(KeyFrame(pts, pts if packet.dts is None else packet.dts))
    except av.error.FFmpegError as error:
        reached_s = max(timeline.picture_s, timeline.sound_s)
        timeline.warnings.append(f"reading stopped at {reached_s:.2f} s ({error.strerror})")
