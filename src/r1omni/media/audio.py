"""Reading the sound of a clip, or of one window of it after the other, in one channel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
import torchaudio
from av.audio.frame import AudioFrame
from av.container import InputContainer
from torch import Tensor

from r1omni.media.container import (
    REMEDY,
    MediaError,
    check_span,
    decode,
    duration_s,
    open_media,
    picture_streams,
    read_packets,
    seek,
    start_offset_s,
)
from r1omni.media.mixing import Mixed, mix_down
from r1omni.media.timeline import AGREEMENT_S, MIN_SECONDS_TO_SEEK

# What the released model was given for clips without sound.
SILENCE_S = 10.0
SILENCE_USED = ": silence is used"
_NO_TRACK = "no audio track"
NO_TRACK_WARNING = _NO_TRACK + SILENCE_USED
# Rates beyond these are of damaged headers.
_MIN_RATE_HZ, _MAX_RATE_HZ = 1_000, 768_000
# Decoders need some sound before the wanted position to settle; where seeking goes too far, more.
_PREROLLS_S = (1.0, 4.0, 10.0)
# Pauses that are not stored (Speex) or packets that were lost: silence keeps what follows in its
# time. Shorter ones are rounded time stamps, longer ones a clock that was set.
_MIN_GAP_S, _MAX_GAP_S = 0.015, 10.0
# A mix this much quieter than its channels is what is left where they cancel each other.
_CANCELLED_DB = 12.0
_SILENT_POWER = 1e-8  # of full scale, mean over a span: -80 dB


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
    required: bool = False,
) -> DecodedAudio:
    """Read the first sound track, or [start_s, end_s) of it, mono at `sampling_rate_hz`.

    Channels are mixed as `mixing.py` says. A file without sound, or without sound in the span,
    gives `SILENCE_S` seconds of silence and a warning, unless sound is `required`.

    Raises:
        MediaError: the file is missing or is no recording, its sound cannot be decoded, or it has
            none although it is required.
    """
    check_span(path, start_s, end_s)
    span = ""
    if start_s is not None:
        span = f" between {start_s:.2f} s and {'its end' if end_s is None else f'{end_s:.2f} s'}"
    with open_media(path) as container:
        remedy = "give a file with sound"
        if picture_streams(container):
            remedy = "use modality video for its picture, or a file with sound"
        sound: DecodedAudio | str = _NO_TRACK
        if container.streams.audio:
            reader = _SoundReader(path, container)
            sound = reader.read(start_s or 0.0, end_s, sampling_rate_hz)
        if isinstance(sound, DecodedAudio):
            return sound
        if not required:
            silence = torch.zeros(int(SILENCE_S * sampling_rate_hz))
            return DecodedAudio(silence, (sound + SILENCE_USED,))
        if not container.streams.audio:
            raise MediaError(f"{path}: has no sound track; {remedy}")
        raise MediaError(f"{path}: its sound track holds no sound{span}; {remedy}")


def read_sound_windows(
    path: Path, spans: Sequence[tuple[float, float]], sampling_rate_hz: int
) -> Iterator[DecodedAudio | str]:
    """The sound of each span as `read_waveform` gives it, or the reason why there is none.

    The recording is decoded forward once at most, also where spans overlap.

    Args:
        path: the recording.
        spans: (start, end) in seconds; starts may not go back.
        sampling_rate_hz: rate of the waveforms.

    Raises:
        MediaError: the file cannot be opened any more, its sound has no sampling rate or several,
            or the decoder fails for another reason than damage.
    """
    with open_media(path) as container:
        if not container.streams.audio:
            yield from [_NO_TRACK] * len(spans)
            return
        reader = _SoundReader(path, container)
        for start_s, end_s in spans:
            try:
                yield reader.read(start_s, end_s, sampling_rate_hz)
            except _DamagedError as error:
                yield str(error)


class _DamagedError(MediaError):
    """Every packet of a span is damaged; others need not be."""


class _Piece(NamedTuple):
    """A decoded frame of sound, mixed down, and the second at which it begins."""

    begin_s: float
    mixed: Mixed


class _SoundReader:
    """Decodes spans of the first sound track; their starts may not go back.

    Args:
        path: for messages.
        container: freshly opened, with a sound track.
    """

    def __init__(self, path: Path, container: InputContainer) -> None:
        self._path, self._container = path, container
        self._stream = container.streams.audio[0]
        if self._stream.codec_context is None:
            raise MediaError(f"{path}: no decoder is known for its sound track; {REMEDY}")
        self._offset_s = start_offset_s(container)
        self._rate_hz = 0
        self._errors = 0  # damaged packets since they were last told
        self._pieces: list[_Piece] = []
        self._frames = self._decoded(-math.inf)
        self._clock_s: float | None = 0.0  # where the next frame begins, unless it says so itself

    def read(
        self, start_s: float, end_s: float | None, sampling_rate_hz: int
    ) -> DecodedAudio | str:
        """The span as mono sound, or the reason why there is none.

        Raises:
            MediaError: every packet of it is damaged, or the rate is none or changes.
        """
        rate_hz, pieces = self._read(start_s, end_s)
        errors, self._errors = self._errors, 0
        if not pieces:
            if errors:
                raise _DamagedError(f"{self._path}: its sound cannot be decoded; {REMEDY}")
            return "no sound in the span"
        warnings = [f"{errors} damaged packets of the sound were skipped"] if errors else []
        warnings += _cancelled(pieces)
        samples = np.concatenate([piece.samples for piece in pieces])
        # The resampler's table grows with numerator times denominator: 2.8 GB for 44,101 to
        # 16,000 Hz. For the rates in use the fraction is exact, for others true to a millionth.
        ratio = Fraction(rate_hz, sampling_rate_hz).limit_denominator(1000)
        waveform = torchaudio.functional.resample(
            torch.from_numpy(samples), ratio.numerator, ratio.denominator
        )
        return DecodedAudio(waveform, tuple(warnings))

    def _read(self, start_s: float, end_s: float | None) -> tuple[int, list[Mixed]]:
        """Rate of the sound, and the pieces of [start_s, end_s)."""
        self._pieces = [piece for piece in self._pieces if self._end_s(piece) > start_s]
        if not self._pieces and start_s - (self._clock_s or 0.0) > MIN_SECONDS_TO_SEEK:
            self._go_to(start_s)
        end = math.inf if end_s is None else end_s
        while (not self._pieces or self._pieces[-1].begin_s < end) and self._next_piece():
            if self._end_s(self._pieces[-1]) <= start_s:
                self._pieces.pop()
        found: list[Mixed] = []
        # Priming samples of AAC have negative times and fall away here.
        end = min(end, self._trimmed_s())
        reached_s = math.inf
        for begin_s, mixed in self._pieces:
            if found and _MIN_GAP_S < begin_s - reached_s < _MAX_GAP_S and begin_s < end:
                pause = np.zeros(round((begin_s - reached_s) * self._rate_hz), np.float32)
                found.append(Mixed(pause, 0.0, 0.0))
            reached_s = begin_s + len(mixed.samples) / self._rate_hz
            first = max(round((start_s - begin_s) * self._rate_hz), 0)
            last = len(mixed.samples)
            if end < math.inf:
                last = min(round((end - begin_s) * self._rate_hz), last)
            if first < last:
                found.append(mixed._replace(samples=mixed.samples[first:last]))
        return self._rate_hz, found

    def _end_s(self, piece: _Piece) -> float:
        return piece.begin_s + len(piece.mixed.samples) / self._rate_hz

    def _trimmed_s(self) -> float:
        """Where the sound is cut: AAC is coded in blocks, and the last one outlasts the picture."""
        stated_s = duration_s(self._container)
        if stated_s is None or not self._pieces or not picture_streams(self._container):
            return math.inf
        # A length that the sound goes far beyond is a wrong one.
        over_s = self._end_s(self._pieces[-1]) - stated_s
        return stated_s if over_s <= AGREEMENT_S else math.inf

    def _go_to(self, start_s: float) -> None:
        """Stand shortly before `start_s`; at the beginning, if the container cannot seek so far."""
        errors = self._errors
        for preroll_s in _PREROLLS_S:
            # Relative to the container, so that the picture's and the sound's spans agree.
            begin_s = max(start_s - preroll_s, 0.0)
            if seek(self._container, int((begin_s + self._offset_s) * av.time_base)):
                self._frames, self._clock_s = self._decoded(start_s - _PREROLLS_S[0]), None
                if self._next_piece() and self._pieces[0].begin_s <= start_s:
                    return
                self._pieces, self._errors = [], errors
        seek(self._container, self._container.start_time or 0)
        self._frames, self._clock_s = self._decoded(-math.inf), 0.0

    def _next_piece(self) -> bool:
        """Decode one more frame; False at the end, or where nobody knows when it is heard."""
        frame = next(self._frames, None)
        if frame is None:
            return False
        if self._rate_hz == 0:
            self._rate_hz = _checked_rate_hz(self._path, frame.sample_rate)
        elif frame.sample_rate != self._rate_hz:
            raise MediaError(
                f"{self._path}: its sound changes from {self._rate_hz} Hz to {frame.sample_rate} "
                f"Hz midway; {REMEDY}"
            )
        # A frame without a time stamp follows the one before it.
        begin_s = self._clock_s if frame.time is None else frame.time - self._offset_s
        if begin_s is None:
            return False
        self._clock_s = begin_s + frame.samples / self._rate_hz
        self._pieces.append(_Piece(begin_s, mix_down(self._path, frame)))
        return True

    def _decoded(self, from_s: float) -> Iterator[AudioFrame]:
        """Frames from where the container stands, of packets that do not end before `from_s`."""
        packets = read_packets(self._container, [self._stream])
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                self._errors += 1
                return  # the file ends early; what was read so far counts
            if packet is None:
                return
            if packet.pts is not None and packet.duration and packet.time_base is not None:
                end = (packet.pts + packet.duration) * packet.time_base
                if end - self._offset_s <= from_s:
                    continue
            frames = decode(self._path, self._stream, packet)
            if frames is None:
                self._errors += 1
                continue
            yield from frames


def _cancelled(pieces: list[Mixed]) -> list[str]:
    """A warning where the channels are much louder than what is left of them."""
    heard, sounding = (
        sum(getattr(piece, name) for piece in pieces) / len(pieces) for name in ("mono", "channels")
    )
    # In this form samples that are no numbers warn of nothing.
    if not (sounding >= _SILENT_POWER and heard < sounding * 10 ** (-_CANCELLED_DB / 10)):
        return []
    quieter = (
        "nothing is left of them"
        if heard == 0
        else (f"their mix, which is heard, is {10 * math.log10(sounding / heard):.0f} dB quieter")
    )
    return [f"the channels of the sound cancel each other out: {quieter}"]


def _checked_rate_hz(path: Path, rate_hz: int) -> int:
    if not _MIN_RATE_HZ <= rate_hz <= _MAX_RATE_HZ:
        raise MediaError(
            f"{path}: its sound states {rate_hz} samples a second, expected {_MIN_RATE_HZ} to "
            f"{_MAX_RATE_HZ}; {REMEDY}"
        )
    return rate_hz
