"""Which measures a voice has, and what they may be compared with."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

# What is asked for: the first of these, or the second even where there are neutral clips.
Comparison = Literal["neutral", "all"]
COMPARISONS: tuple[Comparison, ...] = get_args(Comparison)


@dataclass(frozen=True)
class VoiceMeasures:
    """The measures of one clip; None where one cannot be had.

    Attributes:
        pitch: median fundamental frequency, Hz.
        pitch_range: 10th to 90th percentile of the fundamental frequency, semitones.
        loudness: mean power of speech, dB of full scale.
        loudness_range: 10th to 90th percentile of the level of voiced sound, dB.
        rate: syllable nuclei a second of speech, pauses left out.
        pauses: share of pauses in the time from the first sound to the last, 0 to 1.
        harmonicity: harmonics-to-noise ratio, dB.
        jitter: difference of successive periods over their mean, 0 to 1.
        shimmer: difference of successive peak amplitudes over their mean, 0 to 1.
        tilt: power at 1 to 5 kHz over that at 50 to 1000 Hz, in voiced sound, dB.
    """

    pitch: float | None = None
    pitch_range: float | None = None
    loudness: float | None = None
    loudness_range: float | None = None
    rate: float | None = None
    pauses: float | None = None
    harmonicity: float | None = None
    jitter: float | None = None
    shimmer: float | None = None
    tilt: float | None = None


MEASURES: tuple[str, ...] = tuple(field.name for field in fields(VoiceMeasures))
