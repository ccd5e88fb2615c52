"""Reading T frames of a clip, or of one window of it after the other, evenly spread.

Two passes: the first only demultiplexes and collects the presentation time of every frame (the
container's frame count is wrong or missing in some formats), the second decodes and keeps the
wanted frames, jumping to key frames where that saves decoding.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from r1omni.media.container import (
    REMEDY,
    MediaError,
    check_span,
    decode,
    open_media,
    read_packets,
    seek,
)
from r1omni.media.timeline import (
    DEFAULT_MAX_PIXELS,
    MIN_SECONDS_TO_SEEK,
    KeyFrame,
    Timeline,
    check_frame_size,
    scan_timeline,
    video_stream,
)

# Pictures that are refreshed bit by bit decode only some key frames later.
_MAX_KEY_FRAMES_BACK = 3

Fit = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True)
class DecodedFrames:
    """Frames of a clip.

    Attributes:
        frames: uint8 [T, H, W, 3] RGB, upright, or what `fit` made of each of them; black frames
            at the end fill up a short clip.
        timestamps_s: presentation time of each real frame in seconds from the beginning of the
            recording; shorter than T when black frames were added.
        warnings: what a person should know.
    """

    frames: NDArray[np.uint8]
    timestamps_s: tuple[float, ...]
    warnings: tuple[str, ...] = ()


def sample_indices(num_available: int, num_frames: int) -> list[int]:
    """Indices of `num_frames` frames among `num_available`, by the reference's rule.

    With seg = (n - 1) / T, index i = round(seg * (i + 0.5) + 1e-6); a clip with at most T frames
    gives all of them.
    """
    if num_available <= num_frames:
        return list(range(num_available))
    segment = (num_available - 1) / num_frames
    return [round(segment * (i + 0.5) + 1e-6) for i in range(num_frames)]


def read_frames(
    path: Path,
    num_frames: int,
    start_s: float | None = None,
    end_s: float | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    fit: Fit | None = None,
) -> DecodedFrames:
    """Read `num_frames` frames spread evenly over the clip, or over [start_s, end_s).

    Args:
        path: the recording.
        num_frames: T.
        start_s, end_s: the span in seconds; None for the clip's own beginning or end.
        max_pixels: largest frame that is decoded.
        fit: makes each frame, uint8 [H, W, 3], what is kept of it, so that only one frame in full
            size is in memory. Without it, frames of a clip that changes its size midway are scaled
            to the first one's.

    Raises:
        MediaError: the file is missing, is no recording, has no picture track or none in the
            span, has larger frames than `max_pixels`, or not one frame can be decoded.
    """
    check_span(path, start_s, end_s)
    timeline = scan_timeline(path, start_s, end_s, max_pixels)
    wanted = [timeline.pts[i] for i in sample_indices(len(timeline.pts), num_frames)]
    with open_media(path) as container:
        reader = _FrameReader(path, container, timeline, max_pixels, fit)
        kept = [picture for _, picture in reader.pictures(wanted)]
    if len(kept) < len(wanted):
        # Some packets give no frame: choose again among the frames that can be decoded.
        decodable = _decodable(path, timeline, max_pixels)
        timeline.warnings.append(
            f"{len(decodable)} of {len(timeline.pts)} frames of the clip can be decoded"
        )
        wanted = [decodable[i] for i in sample_indices(len(decodable), num_frames)]
        with open_media(path) as container:
            reader = _FrameReader(path, container, timeline, max_pixels, fit)
            kept = [picture for _, picture in reader.pictures(wanted)]
    if not kept:
        raise MediaError(f"{path}: not one frame can be decoded; {REMEDY}")
    return _collected(kept, num_frames, timeline, reader)


def read_windows(
    path: Path,
    timeline: Timeline,
    spans: Sequence[tuple[float, float]],
    num_frames: int,
    fit: Fit,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Iterator[DecodedFrames | str]:
    """The frames of each span as `read_frames` gives them, or the reason why there are none.

    The recording is decoded forward once at most, also where spans overlap or the container cannot
    seek.

    Args:
        path: the recording.
        timeline: of the whole recording.
        spans: (start, end) in seconds, in the order of their ends, so that few frames wait for
            the end of a longer span.
        num_frames: T of each span.
        fit: as for `read_frames`.
        max_pixels: likewise.

    Raises:
        MediaError: the file cannot be opened any more, frames are larger than `max_pixels`, or the
            decoder fails for another reason than damage.
    """
    chosen = []
    for span in spans:
        times = timeline.within(*span)
        chosen.append((span, [times[i] for i in sample_indices(len(times), num_frames)]))
    waited_for = Counter(pts for _, wanted in chosen for pts in wanted)
    read: dict[int, _Picture] = {}
    with open_media(path) as container:
        reader = _FrameReader(path, container, timeline, max_pixels, fit)
        pictures = reader.pictures(sorted(waited_for))
        for (start_s, end_s), wanted in chosen:
            if not wanted:
                yield f"no picture between {start_s:.2f} s and {end_s:.2f} s"
                continue
            while wanted[-1] not in read and (found := next(pictures, None)) is not None:
                read[found[0]] = found[1]
            kept = [read[pts] for pts in wanted] if wanted[-1] in read else []
            for pts in wanted:
                waited_for[pts] -= 1
                if not waited_for[pts]:  # by no later span
                    read.pop(pts, None)
            if kept:
                yield _collected(kept, num_frames, timeline, reader)
                continue
            try:  # packets gave no frame; the other windows are not to suffer from it
                yield read_frames(path, num_frames, start_s, end_s, max_pixels, fit)
            except MediaError as error:
                yield str(error)


class _Picture(NamedTuple):
    """A frame: presentation time, what is kept of it, and its own shape (H, W, 3)."""

    pts: int
    values: NDArray[np.uint8]
    shape: tuple[int, ...]


def _collected(
    kept: list[_Picture], num_frames: int, timeline: Timeline, reader: _FrameReader
) -> DecodedFrames:
    warnings = [*timeline.warnings]
    if reader.errors:
        warnings.append(f"{reader.errors} damaged packets of the picture were skipped")
        reader.errors = 0
    values = [picture.values for picture in kept]
    if len(kept) < num_frames:
        warnings.append(f"the clip has {len(kept)} of {num_frames} frames: black frames fill up")
        values += [reader.fitted(np.zeros(kept[0].shape, np.uint8))] * (num_frames - len(kept))
    times_s = tuple(timeline.seconds(picture.pts) for picture in kept)
    return DecodedFrames(np.stack(values), times_s, tuple(warnings))


def _decodable(path: Path, timeline: Timeline, max_pixels: int) -> list[int]:
    """Times of the span's frames that decode, found by decoding it."""
    first, last = timeline.pts[0], timeline.pts[-1]
    times = []
    with open_media(path) as container:
        reader = _FrameReader(path, container, timeline, max_pixels, None)
        for pts, _, _ in reader.from_key_frame(first):
            times.append(pts)
            if timeline.by_order is None and pts > last:
                break
    return sorted(pts for pts in times if first <= pts <= last)


class _FrameReader:
    """Decodes the wanted frames of a picture track, forward.

    Args:
        path: for messages.
        container: freshly opened.
        timeline: of the whole recording, or of the span that holds the wanted frames.
        max_pixels: largest frame that is decoded.
        fit: as for `read_frames`.
    """

    def __init__(
        self,
        path: Path,
        container: InputContainer,
        timeline: Timeline,
        max_pixels: int,
        fit: Fit | None,
    ) -> None:
        self.errors = 0  # damaged packets since they were last told
        self._path, self._container, self._timeline = path, container, timeline
        self._stream = video_stream(path, container, max_pixels)
        self._max_pixels, self._fit = max_pixels, fit
        self._reformatter = VideoReformatter()  # keeps its conversion tables from frame to frame
        self._shape: tuple[int, ...] | None = None
        self._turns = 0

    def pictures(self, wanted: Sequence[int]) -> Iterator[tuple[int, _Picture]]:
        """(wanted time, the frame shown then) in ascending order, as far as frames can be read."""
        position_s = 0.0
        frames = self._frames(read_packets(self._container, [self._stream]))
        current: tuple[int, VideoFrame, int] | None = None
        for target in wanted:
            place = self._key_frame_before(target)
            if place >= 0:
                key_s = self._timeline.seconds(self._timeline.keyframes[place].pts)
                if key_s - position_s > MIN_SECONDS_TO_SEEK:
                    if position_s == 0.0:  # the first frame may be the only one that states a turn
                        next(frames, None)
                    frames, current = self.from_key_frame(target), None
            while current is None or current[0] < target:
                current = next(frames, None)
                if current is None:
                    return
            position_s = self._timeline.seconds(target)
            pts, frame, turns = current
            # The file's header may have stated another size.
            check_frame_size(self._path, frame.width, frame.height, self._max_pixels)
            rgb = self._to_rgb(frame, turns)
            picture = _Picture(pts, self.fitted(rgb), rgb.shape)
            del rgb  # before the next one is made
            yield target, picture

    def fitted(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What is kept of a frame uint8 [H, W, 3]."""
        return rgb if self._fit is None else self._fit(rgb)

    def from_key_frame(self, target: int) -> Iterator[tuple[int, VideoFrame, int]]:
        """Frames from a key frame on that is early enough for the frame at `target`."""
        place, errors = self._key_frame_before(target), self.errors
        if place < 0:  # frames are counted from the beginning, where the container stands
            return self._frames(read_packets(self._container, [self._stream]))
        for earlier in range(place, max(place - _MAX_KEY_FRAMES_BACK, -1), -1):
            self.errors = errors
            frames = self._frames(self._packets_from(self._timeline.keyframes[earlier]))
            first = next(frames, None)
            if first is not None and first[0] <= target:
                return chain([first], frames)
        self.errors = errors
        seek(self._container, self._container.start_time or 0)
        return self._frames(read_packets(self._container, [self._stream]))

    def _key_frame_before(self, target: int) -> int:
        """Place of the last key frame that is not after `target`; -1 without one."""
        keyframes = self._timeline.keyframes
        return bisect.bisect_right(keyframes, target, key=lambda key: key.pts) - 1

    def _packets_from(self, key: KeyFrame) -> Iterator[Packet]:
        """Packets from the key frame on; containers differ in what they seek by, and how well."""
        second = round(1 / self._timeline.time_base)
        for ticks in (key.pts, key.dts, key.dts - second, key.dts - 10 * second):
            if not seek(self._container, ticks, self._stream):
                continue
            packets = read_packets(self._container, [self._stream])
            for packet in packets:
                if packet.pts == key.pts:
                    return chain([packet], packets)
                if packet.dts is None or packet.dts > key.dts:
                    break  # it went too far, or does not know where it is
        return iter(())

    def _frames(self, packets: Iterator[Packet]) -> Iterator[tuple[int, VideoFrame, int]]:
        """(presentation time, frame, quarter turns counter-clockwise) of the packets."""
        by_order = self._timeline.by_order
        order = iter(by_order) if by_order is not None else None
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                return  # the first pass has warned about a file that ends early
            if packet is None:
                return
            frames = decode(self._path, self._stream, packet)
            if frames is None:
                self.errors += 1
                continue
            for frame in frames:
                # A stream may state how it is turned with its key frames only.
                if "DISPLAYMATRIX" in frame.side_data:
                    self._turns = round(frame.rotation / 90) % 4
                pts = frame.pts if order is None else next(order, None)
                if pts is not None:
                    yield pts, frame, self._turns

    def _to_rgb(self, frame: VideoFrame, turns: int) -> NDArray[np.uint8]:
        """uint8 [H, W, 3], upright; without `fit` in the shape of the first frame."""
        width, height = frame.width, frame.height
        if self._shape is not None:
            height, width = self._shape[1::-1] if turns % 2 else self._shape[:2]
        # One thread: starting FFmpeg's scaling threads costs 4 ms a frame, more than the
        # conversion.
        rgb = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", threads=1
        )
        # The display matrix turns counter-clockwise, as np.rot90 does.
        upright: NDArray[np.uint8] = np.ascontiguousarray(np.rot90(rgb.to_ndarray(), turns))
        if self._fit is None:
            self._shape = upright.shape
        return upright
