"""Decoders: which codecs can be read, and one recording made, decoded and processed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from r1omni.doctor.checks import Finding
from r1omni.types import Clip, R1OmniError

# What DFEW, MAFW and RAVDESS are coded in.
_NEEDED = ("h264", "aac")
_COMMON = ("hevc", "vp9", "mpeg4", "mp3", "opus", "flac", "pcm_s16le")
_ENCODERS = ("libx264", "libopenh264", "mpeg4")  # the last is part of every FFmpeg
_REINSTALL = 'python -m pip install --force-reinstall "av==18.1.*"; its wheels bring their FFmpeg'

_FRAMES_PER_S, _NUM_FRAMES, _SIDE_PX = 10, 12, 64
_RATE_HZ, _SOUND_BLOCK = 16_000, 1024
_GREY = 128


def check_codecs(
    needed: tuple[str, ...] = _NEEDED, common: tuple[str, ...] = _COMMON
) -> Iterator[Finding]:
    """Which codecs PyAV can decode.

    Args:
        needed: those without which the data sets cannot be read.
        common: those that users' recordings come in.
    """
    names = (*needed, *common)
    missing = [name for name in names if not _has_codec(name, "r")]
    lacking = ", ".join(missing)
    if any(name in missing for name in needed):
        yield Finding("decoders", "fails", f"PyAV has none for {lacking}", _REINSTALL)
    elif missing:
        yield Finding("decoders", "note", f"PyAV has none for {lacking}", _REINSTALL)
    else:
        yield Finding("decoders", "ok", ", ".join(names))


def _has_codec(name: str, mode: Literal["r", "w"]) -> bool:
    import av

    try:
        av.codec.Codec(name, mode)
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def check_decoding() -> Iterator[Finding]:
    """A grey clip with a tone, written as mp4 and read as training reads its clips."""
    from r1omni.media.config import MediaConfig
    from r1omni.media.processor import MediaProcessor

    config = MediaConfig()
    with tempfile.TemporaryDirectory(prefix="r1omni-doctor-") as folder:
        path = Path(folder) / "clip.mp4"
        codec = write_clip(path)
        media = MediaProcessor(config).load(Clip(path))
    if media.frames is None or media.mel is None:
        raise R1OmniError(f"a clip of {codec} and aac gave no picture or no sound; {_REINSTALL}")
    num_mel_frames = round(config.audio_length_s * config.sampling_rate_hz / config.hop_length)
    side = config.image_size
    found = (
        f"a clip of {codec} and aac gives frames {_text(media.frames.shape)}, "
        f"mel {_text(media.mel.shape)}"
    )
    level = media.frames.float().mean().item()
    problems = [
        *media.warnings,
        *([f"grey {_GREY} came back as {level:.0f}"] if abs(level - _GREY) > 8 else []),
        *(["the tone came back as silence"] if media.mel.std() == 0 else []),
    ]
    for name, tensor, shape in (
        ("frames", media.frames, (config.num_frames, 3, side, side)),
        ("mel", media.mel, (config.num_mel_bins, num_mel_frames)),
    ):
        if tensor.shape != shape:
            problems.append(f"{name} should be {_text(shape)}")
    if problems:
        yield Finding("decoding", "fails", f"{found}; {'; '.join(problems)}", _REINSTALL)
    else:
        yield Finding("decoding", "ok", found)


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def write_clip(path: Path) -> str:
    """Write a grey clip of about a second with a tone of 440 Hz; returns the picture's codec."""
    import av
    import numpy as np

    codec = next(name for name in _ENCODERS if _has_codec(name, "w"))
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream(codec, rate=_FRAMES_PER_S)
        video.width = video.height = _SIDE_PX
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = Fraction(1, _FRAMES_PER_S)
        sound: Any = container.add_stream("aac", rate=_RATE_HZ, layout="mono")
        picture = np.full((_SIDE_PX, _SIDE_PX, 3), _GREY, dtype=np.uint8)
        for index in range(_NUM_FRAMES):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = index
            container.mux(video.encode(frame))
        container.mux(video.encode())
        times = np.arange(_RATE_HZ * _NUM_FRAMES // _FRAMES_PER_S) / _RATE_HZ
        tone = (0.5 * np.sin(2 * np.pi * 440.0 * times)).astype(np.float32)
        for begin in range(0, len(tone), _SOUND_BLOCK):
            block = np.ascontiguousarray(tone[None, begin : begin + _SOUND_BLOCK])
            piece = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            piece.sample_rate, piece.pts = _RATE_HZ, begin
            container.mux(sound.encode(piece))
        container.mux(sound.encode())
    return codec
