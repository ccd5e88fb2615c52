"""Small recordings for the tests, written with PyAV."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE_HZ = 16_000


def write_clip(
    path: Path,
    *,
    num_frames: int = 20,
    fps: int = 10,
    width: int = 64,
    height: int = 48,
    sound: bool = True,
    sound_s: float | None = None,
    tone_hz: float = 440.0,
    codec: str = "libx264",
    sound_codec: str = "aac",
    gop: int = 12,
) -> Path:
    """A clip whose frame i is grey of brightness `brightness(i)`, with a tone as sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=fps)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.gop_size = gop
        video.codec_context.time_base = Fraction(1, fps)
        audio = container.add_stream(sound_codec, rate=RATE_HZ, layout="mono") if sound else None
        for index in range(num_frames):
            picture = np.full((height, width, 3), brightness(index), dtype=np.uint8)
            picture[: height // 2, : width // 2] = (255, 0, 0)  # red at the top left
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = index
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None:
            seconds = num_frames / fps if sound_s is None else sound_s
            times = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
            tone = (0.5 * np.sin(2 * np.pi * tone_hz * times)).astype(np.float32)
            for begin in range(0, len(tone), 1024):
                piece = np.ascontiguousarray(tone[None, begin : begin + 1024])
                sound_frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
                sound_frame.sample_rate, sound_frame.pts = RATE_HZ, begin
                container.mux(audio.encode(sound_frame))
            container.mux(audio.encode())
    return path


def brightness(index: int) -> int:
    """Grey level of frame `index`, distinct for the first 24 frames."""
    return 16 + 9 * (index % 25)


def seen_index(frame: np.ndarray) -> int:
    """Which frame this is, read from the brightness of its bottom right corner."""
    level = float(frame[-8:, -8:].mean())
    return round((level - 16) / 9)


def rotate_clockwise(path: Path) -> Path:
    """Write a display matrix of 90 degrees clockwise into every track header of an mp4."""
    data = bytearray(path.read_bytes())
    begin = 0
    while (begin := data.find(b"tkhd", begin + 1)) != -1:
        version = data[begin + 4]
        matrix = begin + 4 + (52 if version == 1 else 40)
        one = 1 << 16
        values = (0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
        data[matrix : matrix + 36] = struct.pack(">9i", *values)
    path.write_bytes(data)
    return path


def truncate(path: Path, share: float) -> Path:
    """Keep the first `share` of the file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path
