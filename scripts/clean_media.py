"""Small whole recordings, encoded to the same bytes every time: what `damaged_media.py` damages."""

from __future__ import annotations

import functools
import io
import os
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_RATE_HZ = 16_000
_FPS = 10
_NUM_FRAMES = 15
_SOUND_S = 1.5
_SOUND_BLOCK = 1152  # a frame of mp3; the other encoders take any length
# Container -> codecs of picture and sound.
FILMS = {
    ".mp4": ("libx264", "aac"),
    ".mkv": ("libx264", "aac"),
    ".avi": ("mpeg4", "mp3"),
    ".webm": ("libvpx", "libopus"),
}
SOUNDS = {".wav": "pcm_s16le", ".mp3": "mp3"}

Bases = dict[str, bytes]


def encode(
    path: Path,
    codec: str | None,
    sound_codec: str | None,
    size: tuple[int, int] = (64, 48),
    times: Sequence[int] = range(_NUM_FRAMES),
    sound_s: float = _SOUND_S,
) -> bytes:
    """A clip with a moving bar and a tone, the same bytes whenever it is made.

    Args:
        path: where to; its suffix names the container.
        codec: of the picture, or None for sound alone.
        sound_codec: of the sound, or None for a silent film.
        size: width and height in pixels.
        times: of the frames, in tenths of a second.
        sound_s: length of the tone in seconds.
    """
    with av.open(os.fspath(path), "w", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream(codec, rate=_FPS) if codec else None
        sound = (
            container.add_stream(
                sound_codec, rate=48_000 if "opus" in sound_codec else _RATE_HZ, layout="mono"
            )
            if sound_codec
            else None
        )
        if video is not None:
            video.width, video.height = size
            video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            video.codec_context.time_base = Fraction(1, _FPS)
            video.codec_context.thread_count = 1
            for time in times:
                picture = np.full((size[1], size[0]), 128, dtype=np.uint8)
                picture[:, (4 * time) % size[0] :][:, :8] = 235
                frame = av.VideoFrame.from_ndarray(picture, format="gray")
                frame.pts = time
                container.mux(video.encode(frame))
            container.mux(video.encode())
        if sound is not None:
            rate_hz = sound.codec_context.sample_rate
            tone = 0.5 * np.sin(2 * np.pi * 440 / rate_hz * np.arange(int(sound_s * rate_hz)))
            values = (32_767 * tone).astype(np.int16)
            resampler = av.AudioResampler(sound.format, sound.layout, rate_hz, _SOUND_BLOCK)
            whole = av.AudioFrame.from_ndarray(values[None], format="s16", layout="mono")
            whole.sample_rate, whole.pts = rate_hz, 0
            for block in (*resampler.resample(whole), *resampler.resample(None)):
                container.mux(sound.encode(block))
            container.mux(sound.encode())
    return path.read_bytes()


@functools.cache
def clean_files() -> Bases:
    """Content of whole files by name: every container, and the shapes mutations begin with."""
    with tempfile.TemporaryDirectory(prefix="r1omni-clean-") as folder:

        def make(name: str, *arguments: object, **keywords: object) -> bytes:
            return encode(Path(folder) / name, *arguments, **keywords)  # type: ignore[arg-type]

        bases = {f"clip{suffix}": make(f"a{suffix}", *codecs) for suffix, codecs in FILMS.items()}
        bases |= {f"clip{suffix}": make(f"a{suffix}", None, c) for suffix, c in SOUNDS.items()}
        uneven = [0, 1, 2, 5, 6, 20, 21, 23, 40, 41]
        for suffix, (codec, sound_codec) in FILMS.items():
            bases[f"silent{suffix}"] = make(f"b{suffix}", codec, None)
            bases[f"blind{suffix}"] = make(f"c{suffix}", None, sound_codec)
            bases[f"one{suffix}"] = make(f"d{suffix}", codec, sound_codec, times=[0])
        for suffix in (".mp4", ".mkv"):
            bases[f"uneven{suffix}"] = make(f"e{suffix}", *FILMS[suffix], times=uneven)
        sizes = {"vast": (12_000, 12_000), "wide": (12_000, 64), "tall": (64, 12_000)}
        for name, size in sizes.items():
            bases[f"{name}.mkv"] = make(f"{name}.mkv", "mjpeg", None, size=size, times=[0])
        small = make("small.mkv", "mjpeg", None, times=range(4))
        double = make("double.mkv", "mjpeg", None, size=(128, 96))
        bases["resized.mkv"] = _joined_films(Path(folder) / "f.mkv", small, double)
        bases["swollen.mkv"] = _joined_films(Path(folder) / "g.mkv", small, bases["vast.mkv"])
        bases["wide.avi"] = make("wide.avi", "mjpeg", None, size=sizes["wide"], times=[0])
        bases["wide.mp4"] = make("wide.mp4", "libx264", None, size=sizes["wide"], times=[0, 1])
    return bases


def _joined_films(path: Path, first: bytes, second: bytes) -> bytes:
    """Silent films one after the other, in one track with the header of the first."""
    with av.open(os.fspath(path), "w", options={"fflags": "+bitexact"}) as joined:
        time = 0
        with av.open(io.BytesIO(first)) as film, av.open(io.BytesIO(second)) as other:
            track = joined.add_stream_from_template(film.streams.video[0])
            for source in (film, other):
                for packet in source.demux(video=0):
                    if packet.size:
                        packet.stream, packet.time_base = track, Fraction(1, _FPS)
                        packet.pts, packet.dts, packet.duration = time, time, 1
                        joined.mux(packet)
                        time += 1
    return path.read_bytes()
