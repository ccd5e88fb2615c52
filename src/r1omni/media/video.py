"""Reading T frames of a clip, evenly spread over it.

Two passes: the first only demultiplexes and collects the presentation time of every frame (the
container's frame count is wrong or missing in some formats), the second decodes and keeps the
wanted frames, jumping to key frames where that saves decoding.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from r1omni.media.container import REMEDY, MediaError, check_span, explained, open_media
from r1omni.media.timeline import Timeline, check_frame_size, scan_timeline, video_stream

# 8K frames pass; a crafted small file with 12000 x 12000 frames does not.
DEFAULT_MAX_PIXELS = 8192 * 4608
# Below this number of skipped frames decoding on is as fast as a seek.
_MIN_FRAMES_TO_SEEK = 30


@dataclass(frozen=True)
class DecodedFrames:
    """Frames of a clip.

    Attributes:
        frames: uint8 [T, H, W, 3] RGB, upright; black frames at the end fill up a short clip.
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
) -> DecodedFrames:
    """Read `num_frames` frames spread evenly over the clip, or over [start_s, end_s).

    Raises:
        MediaError: the file is missing, is no recording, has no picture track or none in the
            span, has larger frames than `max_pixels`, or not one frame can be decoded.
    """
    check_span(path, start_s, end_s)
    timeline = scan_timeline(path, start_s, end_s, max_pixels)
    wanted = [timeline.pts[i] for i in sample_indices(len(timeline.pts), num_frames)]
    frames, kept, errors = _decode(path, timeline, wanted, num_frames, max_pixels)
    if len(kept) < len(wanted):
        # Some packets give no frame: choose again among the frames that can be decoded.
        decodable = _decodable(path, timeline, max_pixels)
        timeline.warnings.append(
            f"{len(decodable)} of {len(timeline.pts)} frames of the clip can be decoded"
        )
        timeline.pts, timeline.keyframes = decodable, []
        wanted = [decodable[i] for i in sample_indices(len(decodable), num_frames)]
        frames, kept, errors = _decode(path, timeline, wanted, num_frames, max_pixels)
    if frames is None:
        raise MediaError(f"{path}: not one frame can be decoded; {REMEDY}")
    if errors:
        timeline.warnings.append(f"{errors} damaged packets of the picture were skipped")
    if len(kept) < num_frames:
        timeline.warnings.append(
            f"the clip has {len(kept)} of {num_frames} frames: black frames fill up"
        )
    return DecodedFrames(
        frames=frames,
        timestamps_s=tuple(timeline.seconds(pts) for pts in kept),
        warnings=tuple(timeline.warnings),
    )


def _decode(
    path: Path, timeline: Timeline, wanted: list[int], num_frames: int, max_pixels: int
) -> tuple[NDArray[np.uint8] | None, list[int], int]:
    """Decode the wanted presentation times.

    Returns:
        uint8 [T, H, W, 3], black behind the last one decoded, or None if there is none; the times
        of the frames decoded, fewer than wanted when the clip ends before its packets promise;
        and the count of errors.
    """
    pictures: NDArray[np.uint8] | None = None
    kept: list[int] = []
    errors = [0]
    reformatter = VideoReformatter()  # keeps its conversion tables from frame to frame
    position = -1  # index in timeline.pts of the last frame decoded
    with open_media(path) as container:
        stream = video_stream(path, container, max_pixels)
        frames = _frames(path, container, stream, timeline, errors)
        current: tuple[int, VideoFrame] | None = None
        for target in wanted:
            keyframe = _keyframe_before(timeline, target)
            if (
                keyframe is not None
                and bisect.bisect_left(timeline.pts, keyframe) - position > _MIN_FRAMES_TO_SEEK
            ):
                container.seek(keyframe, stream=stream, backward=True)
                frames, current = _frames(path, container, stream, timeline, errors), None
            while current is None or current[0] < target:
                current = next(frames, None)
                if current is None:
                    return pictures, kept, errors[0]
            position = bisect.bisect_left(timeline.pts, target)
            if pictures is None:
                # The file's header may have stated another size.
                check_frame_size(path, current[1].width, current[1].height, max_pixels)
                first = _to_rgb(current[1], None, reformatter)
                pictures = np.zeros((num_frames, *first.shape), dtype=np.uint8)
                pictures[0] = first
            else:
                pictures[len(kept)] = _to_rgb(current[1], pictures.shape[1:], reformatter)
            kept.append(current[0])
    return pictures, kept, errors[0]


def _keyframe_before(timeline: Timeline, target: int) -> int | None:
    place = bisect.bisect_right(timeline.keyframes, target)
    return timeline.keyframes[place - 1] if place else None


def _decodable(path: Path, timeline: Timeline, max_pixels: int) -> list[int]:
    """Times of the span's frames that decode, found by decoding the file from its beginning."""
    first, last = timeline.pts[0], timeline.pts[-1]
    with open_media(path) as container:
        stream = video_stream(path, container, max_pixels)
        times = [pts for pts, _ in _frames(path, container, stream, timeline, [0])]
    return sorted(pts for pts in times if first <= pts <= last)


def _frames(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    timeline: Timeline,
    errors: list[int],
) -> Iterator[tuple[int, VideoFrame]]:
    """(pts, frame) from where the container stands; `errors[0]` counts damaged packets."""
    packets = container.demux(stream)
    order = iter(timeline.by_order) if timeline.by_order is not None else None
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            return  # the first pass has warned about a file that ends early
        if packet is None:
            return
        try:
            frames = stream.codec_context.decode(packet)
        except av.error.InvalidDataError:
            errors[0] += 1
            continue
        except av.error.FFmpegError as error:
            raise MediaError(f"{path}: the picture cannot be decoded {explained(error)}") from error
        for frame in frames:
            pts = frame.pts if order is None else next(order, None)
            if pts is not None:
                yield pts, frame


def _to_rgb(
    frame: VideoFrame, shape: tuple[int, ...] | None, reformatter: VideoReformatter
) -> NDArray[np.uint8]:
    """uint8 [H, W, 3], upright, and of `shape` where the picture changes its size midway."""
    # The display matrix turns counter-clockwise, as np.rot90 does.
    turns = round(frame.rotation / 90) % 4
    width, height = frame.width, frame.height
    if shape is not None:
        height, width = (shape[1], shape[0]) if turns % 2 else (shape[0], shape[1])
    # One thread: starting FFmpeg's scaling threads costs 4 ms a frame, more than the conversion.
    rgb = reformatter.reformat(frame, width=width, height=height, format="rgb24", threads=1)
    return np.ascontiguousarray(np.rot90(rgb.to_ndarray(), turns))
