"""Small pictures of a recording and the outline of its sound, as pages hold them."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from r1omni.media.audio import read_sound_windows
from r1omni.media.timeline import Timeline
from r1omni.media.video import read_windows, sample_indices

MAX_PICTURES = 96  # of a recording: about 0.3 MB
PICTURES_A_SPAN = 4
PICTURE_HEIGHT_PX = 120
MAX_PEAKS = 2000
_WIDEST = 4  # of a picture, times its height
_QUALITY = 75  # of JPEG
_MIN_PEAK_S = 0.01
_RATE_HZ = 8_000  # enough for an outline
_CHUNK_S = 20.0


@dataclass(frozen=True)
class Picture:
    """A frame of a recording.

    Attributes:
        time_s: when it is shown.
        source: JPEG as a data URL, at most `PICTURE_HEIGHT_PX` high.
    """

    time_s: float
    source: str


def pictures(
    path: Path, timeline: Timeline, spans: Sequence[tuple[float, float]], num_frames: int | None
) -> tuple[list[Picture], list[list[int]]]:
    """Pictures of spans, at most `PICTURES_A_SPAN` each and about `MAX_PICTURES` together.

    Where there are more spans, every second, third, ... of them has one picture. The recording is
    decoded forward once.

    Args:
        path: the recording.
        timeline: of its whole picture.
        spans: (start, end) in seconds.
        num_frames: frames of a span that the model was shown, so that the pictures are among them;
            None where nobody knows.

    Returns:
        the pictures in order of time, and for each span its places among them.

    Raises:
        MediaError: the picture cannot be read.
    """
    a_span = min(max(MAX_PICTURES // max(len(spans), 1), 1), PICTURES_A_SPAN)
    stride = max(-(-len(spans) // MAX_PICTURES), 1)
    wanted: list[list[int]] = []
    for place, (start_s, end_s) in enumerate(spans):
        times = timeline.within(start_s, end_s) if place % stride == 0 else []
        if num_frames is not None:
            times = [times[i] for i in sample_indices(len(times), num_frames)]
        wanted.append([times[i] for i in sample_indices(len(times), a_span)])
    all_times = sorted({pts for times in wanted for pts in times})
    seconds = [timeline.seconds(pts) for pts in all_times]
    moments = [(s, s + timeline.time_base / 2) for s in seconds]
    found: dict[int, Picture] = {}
    for pts, frames in zip(
        all_times, read_windows(path, timeline, moments, 1, _fitted), strict=True
    ):
        if not isinstance(frames, str):
            picture = jpeg(frames.frames[0], PICTURE_HEIGHT_PX)
            found[pts] = Picture(timeline.seconds(pts), picture)
    places = {pts: place for place, pts in enumerate(found)}
    return list(found.values()), [[places[t] for t in times if t in places] for times in wanted]


def _fitted(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [H, W, 3], no higher than a picture is."""
    image = Image.fromarray(frame)
    image.thumbnail((_WIDEST * PICTURE_HEIGHT_PX, PICTURE_HEIGHT_PX))
    return np.asarray(image)


def jpeg(frame: NDArray[np.uint8], height_px: int) -> str:
    """A frame uint8 [H, W, 3] as a data URL, no higher than `height_px`."""
    image = Image.fromarray(frame)
    image.thumbnail((_WIDEST * height_px, height_px))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


@dataclass(frozen=True)
class Outline:
    """Lowest and highest value of the sound in each of at most `MAX_PEAKS` equal steps.

    Attributes:
        step_s: seconds of a step.
        lows, highs: percent of full scale, whole numbers from -100 to 100.
    """

    step_s: float
    lows: list[int]
    highs: list[int]


def outline(path: Path, length_s: float) -> Outline | str:
    """The outline of a recording's sound, or why it has none; in memory are seconds of it.

    Raises:
        MediaError: the sound cannot be read.
    """
    step_s = max(length_s / MAX_PEAKS, _MIN_PEAK_S)
    num_steps = max(round(length_s / step_s), 1)
    in_chunk = max(round(_CHUNK_S / step_s), 1)
    chunks = [
        (first * step_s, min(first + in_chunk, num_steps) * step_s)
        for first in range(0, num_steps, in_chunk)
    ]
    lows, highs, reason = np.zeros(num_steps), np.zeros(num_steps), "no sound"
    heard = False
    for index, sound in enumerate(read_sound_windows(path, chunks, _RATE_HZ)):
        if isinstance(sound, str):
            reason = sound
            continue
        heard = True
        for place, part in enumerate(_steps(sound.waveform.numpy(), step_s, in_chunk)):
            if part.size and (step := index * in_chunk + place) < num_steps:
                lows[step], highs[step] = part.min(), part.max()
    if not heard:
        return reason
    return Outline(step_s, _percents(lows), _percents(highs))


def _steps(
    samples: NDArray[np.float32], step_s: float, num_steps: int
) -> Iterator[NDArray[np.float32]]:
    borders = [round(step * step_s * _RATE_HZ) for step in range(num_steps + 1)]
    for first, last in pairwise(borders):
        yield samples[first:last]


def _percents(values: NDArray[np.float64]) -> list[int]:
    # Samples that are no numbers are drawn as silence.
    shares = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    return [int(value) for value in np.rint(100 * shares.clip(-1, 1))]
