"""Reading the sound of a clip, and Whisper's log-mel spectrogram of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
import torchaudio
from av.audio.frame import AudioFrame
from av.container import InputContainer
from numpy.typing import NDArray
from torch import Tensor, nn

from r1omni.media.container import (
    REMEDY,
    MediaError,
    check_span,
    duration_s,
    explained,
    open_media,
    start_offset_s,
)

# What the released model was given for clips without sound.
SILENCE_S = 10.0
NO_TRACK_WARNING = "no audio track: silence is used"
# Rates beyond these are of damaged headers.
_MIN_RATE_HZ, _MAX_RATE_HZ = 1_000, 768_000
# FFmpeg keeps more planes elsewhere, in a list whose end PyAV does not find: it crashes.
_MAX_PLANES = 8
_SAMPLE_TYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}
# Decoders need some sound before the wanted position to settle.
_PREROLL_S = 0.2


@dataclass(frozen=True)
class DecodedAudio:
    """Sound of a clip.

    Attributes:
        waveform: float32 [S] mono, nominally in [-1, 1].
        warnings: what a person should know.
    """

    waveform: Tensor
    warnings: tuple[str, ...] = ()


def read_waveform(
    path: Path,
    sampling_rate_hz: int = 16_000,
    start_s: float | None = None,
    end_s: float | None = None,
) -> DecodedAudio:
    """Read the first sound track, or [start_s, end_s) of it, mono at `sampling_rate_hz`.

    Channels are averaged. A file without a sound track, or without sound in the span, gives
    `SILENCE_S` seconds of silence and a warning.

    Raises:
        MediaError: the file is missing or is no recording, or its sound cannot be decoded.
    """
    check_span(path, start_s, end_s)
    with open_media(path) as container:
        if not container.streams.audio:
            return DecodedAudio(_silence(sampling_rate_hz), (NO_TRACK_WARNING,))
        # AAC is coded in blocks: the last one reaches beyond the clip.
        stated_s = duration_s(container)
        ends = [second for second in (end_s, stated_s) if second is not None]
        samples, rate_hz, errors = _decode(
            path, container, start_s or 0.0, min(ends) if ends else None
        )
    warnings: tuple[str, ...] = ()
    if errors:
        warnings = (f"{errors} damaged packets of the sound were skipped",)
    if samples.size == 0:
        if errors:
            raise MediaError(f"{path}: its sound cannot be decoded; {REMEDY}")
        return DecodedAudio(_silence(sampling_rate_hz), ("no sound in the span: silence is used",))
    # The resampler's table grows with numerator times denominator: 2.8 GB for 44,101 to 16,000 Hz.
    # For the rates in use the fraction is exact, for others true to a millionth.
    ratio = Fraction(rate_hz, sampling_rate_hz).limit_denominator(1000)
    waveform = torchaudio.functional.resample(
        torch.from_numpy(samples), ratio.numerator, ratio.denominator
    )
    return DecodedAudio(waveform, warnings)


def _checked_rate_hz(path: Path, rate_hz: int) -> int:
    if not _MIN_RATE_HZ <= rate_hz <= _MAX_RATE_HZ:
        raise MediaError(
            f"{path}: its sound states {rate_hz} samples a second, expected {_MIN_RATE_HZ} to "
            f"{_MAX_RATE_HZ}; {REMEDY}"
        )
    return rate_hz


def _silence(sampling_rate_hz: int) -> Tensor:
    return torch.zeros(int(SILENCE_S * sampling_rate_hz))


def _decode(
    path: Path, container: InputContainer, start_s: float, end_s: float | None
) -> tuple[NDArray[np.float32], int, int]:
    """Mono samples of [start_s, end_s) at the file's rate, that rate, and damaged packets."""
    offset_s = start_offset_s(container)
    if start_s > 0:
        # Relative to the container, so that the picture's and the sound's spans agree.
        target_s = max(start_s - _PREROLL_S, 0.0) + offset_s
        container.seek(int(target_s * av.time_base), backward=True)
    pieces: list[NDArray[np.float32]] = []
    rate_hz, errors = 0, [0]
    clock_s: float | None = None
    for frame in _frames(path, container, errors):
        if rate_hz == 0:
            rate_hz = _checked_rate_hz(path, frame.sample_rate)
        elif frame.sample_rate != rate_hz:
            raise MediaError(
                f"{path}: its sound changes from {rate_hz} Hz to {frame.sample_rate} Hz midway; "
                f"{REMEDY}"
            )
        # A frame without a time stamp follows the one before it.
        begin_s = frame.time - offset_s if frame.time is not None else clock_s or 0.0
        clock_s = begin_s + frame.samples / rate_hz
        if end_s is not None and begin_s >= end_s:
            break
        # Priming samples of AAC have negative times and fall away here.
        first = max(round((start_s - begin_s) * rate_hz), 0)
        last = frame.samples
        if end_s is not None:
            last = min(round((end_s - begin_s) * rate_hz), last)
        if first < last:
            pieces.append(_mono(path, frame)[first:last])
    samples = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.float32)
    return samples, rate_hz, errors[0]


def _frames(path: Path, container: InputContainer, errors: list[int]) -> Iterator[AudioFrame]:
    """Decoded frames of the first sound track; `errors[0]` counts damaged packets."""
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise MediaError(f"{path}: no decoder is known for its sound track; {REMEDY}")
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            errors[0] += 1
            return  # the file ends early; what was read so far counts
        if packet is None:
            return
        try:
            frames = stream.codec_context.decode(packet)
        except av.error.InvalidDataError:
            errors[0] += 1
            continue
        except av.error.FFmpegError as error:
            raise MediaError(f"{path}: the sound cannot be decoded {explained(error)}") from error
        yield from frames


def _mono(path: Path, frame: AudioFrame) -> NDArray[np.float32]:
    """Mean over channels, float32 [samples]; integers scaled to [-1, 1)."""
    # FFmpeg's own down-mix of float samples is not normalised, so the mean is taken here.
    channels = len(frame.layout.channels)
    planes = channels if frame.format.is_planar else 1
    if planes > _MAX_PLANES:
        raise MediaError(f"{path}: its sound has {channels} channels; {REMEDY}")
    # `frame.to_ndarray` reads what lies behind the planes as one more where there are eight.
    dtype = np.dtype(_SAMPLE_TYPES[frame.format.name.removesuffix("p")])
    count = frame.samples * channels // planes
    stored = [np.frombuffer(bytes(plane), dtype, count) for plane in frame.planes[:planes]]
    values = np.stack(stored) if frame.format.is_planar else stored[0].reshape(-1, channels).T
    mono: NDArray[np.float64] = values.mean(axis=0, dtype=np.float64)
    if values.dtype == np.uint8:
        mono = (mono - 128.0) / 128.0
    elif values.dtype.kind == "i":
        mono = mono / 2.0 ** (8 * values.dtype.itemsize - 1)
    return mono.astype(np.float32)


class LogMel(nn.Module):
    """Whisper's log-mel spectrogram of exactly `length_s` seconds.

    Mel filters on Slaney's scale with Slaney's norm, power spectrum of a centred Hann window,
    last frame dropped, log10, at most 8 below the maximum, (x + 4) / 4.

    Args:
        num_mel_bins: M.
        n_fft: width of the window in samples.
        hop_length: step of the window in samples.
        length_s: seconds to which a waveform is padded or cut.
        sampling_rate_hz: rate of the waveforms given.
    """

    def __init__(
        self,
        num_mel_bins: int = 128,
        n_fft: int = 400,
        hop_length: int = 160,
        length_s: float = 30.0,
        sampling_rate_hz: int = 16_000,
    ) -> None:
        super().__init__()
        self.num_samples = round(length_s * sampling_rate_hz)
        self.num_mel_frames = self.num_samples // hop_length
        self.spectrogram = torchaudio.transforms.MelSpectrogram(
            sample_rate=sampling_rate_hz,
            n_fft=n_fft,
            hop_length=hop_length,
            n_mels=num_mel_bins,
            power=2.0,
            norm="slaney",
            mel_scale="slaney",
        )

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """float [S] -> float32 [M, F] with F = length_s * sampling_rate_hz / hop_length."""
        waveform = waveform.float()[: self.num_samples]
        padded = nn.functional.pad(waveform, (0, self.num_samples - waveform.shape[0]))
        power: Tensor = self.spectrogram(padded)[:, : self.num_mel_frames]
        log = power.clamp(min=1e-10).log10()
        log = log.maximum(log.max() - 8.0)
        return (log + 4.0) / 4.0
