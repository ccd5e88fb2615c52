"""What a voice does, measured: pitch, loudness, rate, pauses and quality of one clip.

The algorithms are Praat's (Boersma & Weenink), called through parselmouth, except where a
function says otherwise. Nothing here depends on another clip. Formulas: docs/voices.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from r1omni.extras import require
from r1omni.types import R1OmniError
from r1omni.voices.vocabulary import VoiceMeasures

Samples = NDArray[np.float64]

ANALYSIS_RATE_HZ = 16_000
# Below these nothing is measured: a clip too short for the windows, or without a voice.
MIN_CLIP_S = 0.25
MIN_VOICED_S = 0.1
# Spread and perturbation need more than one vowel.
MIN_SPREAD_S = 0.2
_STEP_S = 0.01
# Pitch is looked for here first, then around the speaker's own quartiles.
_FLOOR_HZ, _CEILING_HZ = 60.0, 700.0
_FLOOR_OF_QUARTILE, _CEILING_OF_QUARTILE = 0.75, 2.5
# Of contours of intensity: a smooth one for syllables, one that is quick enough for pauses. Their
# windows have 6.4 periods of this, of which the middle half counts most.
_SMOOTH_HZ, _QUICK_HZ = 50.0, 100.0
# Praat's decibels are above 20 micropascal; an effective value of 1 is full scale.
_FULL_SCALE_DB = -20 * np.log10(2e-5)
# Sound this far below the loudest is a pause, where it lasts.
_SPEECH_DB = 25.0
_MIN_PAUSE_S, _MIN_SOUND_S = 0.25, 0.1
# Between two syllables the intensity falls by this much.
_DIP_DB = 2.0
_SILENT_HARMONICITY_DB = -200.0
_LOW_BAND_HZ, _HIGH_BAND_HZ = (50.0, 1000.0), (1000.0, 5000.0)
_FRAME = int(0.025 * ANALYSIS_RATE_HZ)


def measure_voice(samples: Samples) -> VoiceMeasures:
    """Measure one clip.

    Args:
        samples: float64 [S], one channel at `ANALYSIS_RATE_HZ`, full scale 1.

    Raises:
        R1OmniError: a sample that is no finite number, or the extra `voices` is not installed.
    """
    if not np.isfinite(samples).all():
        raise R1OmniError("the sound holds samples that are no numbers; convert the file again")
    if len(samples) < MIN_CLIP_S * ANALYSIS_RATE_HZ:
        return VoiceMeasures()
    sound = praat().Sound(samples, ANALYSIS_RATE_HZ)
    found = _pitch(sound)
    if found is None:
        return VoiceMeasures()
    pitch, floor_hz = found
    f0_hz = pitch.selected_array["frequency"]
    voiced = f0_hz > 0
    enough = voiced.sum() * _STEP_S >= MIN_SPREAD_S
    low, high = np.percentile(f0_hz[voiced], [10, 90])
    times, level_db = _contour_db(sound, _QUICK_HZ)
    floor_db = np.quantile(level_db, 0.99) - _SPEECH_DB
    speech, pause_ratio = _speech(level_db >= floor_db)
    spoken = speech & _nearest(pitch.xs(), voiced, times)
    loud = _levels(level_db, speech, spoken)
    jitter, shimmer = _perturbation(sound, pitch) if enough else (None, None)
    return VoiceMeasures(
        pitch=float(np.median(f0_hz[voiced])),
        pitch_range=float(12 * np.log2(high / low)) if enough else None,
        loudness=loud[0],
        loudness_range=loud[1] if enough else None,
        rate=_rate_hz(sound, times, spoken, speech.sum() * _STEP_S),
        pauses=pause_ratio,
        harmonicity=_harmonicity_db(sound, floor_hz),
        jitter=jitter,
        shimmer=shimmer,
        tilt=_tilt_db(samples, pitch.xs()[voiced]),
    )


def praat() -> Any:
    """The library parselmouth, which is under the GPL and never shipped with this project.

    Raises:
        UsageError: the extra `voices` is not installed.
    """
    require("measuring voices", "voices")
    import parselmouth

    return parselmouth


def _pitch(sound: Any) -> tuple[Any, float] | None:
    """Praat's Pitch by autocorrelation (Boersma 1993) and its floor in Hz; None without a voice.

    Two passes (De Looze & Hirst 2008; the wider ceiling is theirs for expressive speech).
    """
    first = sound.to_pitch_ac(_STEP_S, _FLOOR_HZ, pitch_ceiling=_CEILING_HZ)
    f0_hz = first.selected_array["frequency"]
    f0_hz = f0_hz[f0_hz > 0]
    if len(f0_hz) * _STEP_S < MIN_VOICED_S:
        return None
    lower, upper = np.percentile(f0_hz, [25, 75])
    floor_hz = max(_FLOOR_HZ, _FLOOR_OF_QUARTILE * lower)
    ceiling_hz = min(_CEILING_HZ, _CEILING_OF_QUARTILE * upper)
    second = sound.to_pitch_ac(_STEP_S, floor_hz, pitch_ceiling=ceiling_hz)
    num_voiced = (second.selected_array["frequency"] > 0).sum()
    return (second, floor_hz) if num_voiced * _STEP_S >= MIN_VOICED_S else None


def _contour_db(sound: Any, slowest_hz: float) -> tuple[Any, Any]:
    """Times in seconds, and the level there in dB of full scale, both float64 [N]."""
    contour = sound.to_intensity(slowest_hz, _STEP_S)
    return contour.xs(), contour.values[0] - _FULL_SCALE_DB


def _nearest(times: Any, values: Any, at: Any) -> Any:
    """The values at the times that are nearest to `at`; both are in steps of `_STEP_S`."""
    index = np.rint((at - times[0]) / _STEP_S).astype(int)
    inside = (index >= 0) & (index < len(values))
    return np.where(inside, values[np.clip(index, 0, len(values) - 1)], False)


def _speech(sounding: Any) -> tuple[Any, float]:
    """bool: where speech is, and the share of pauses between its first and last frame."""
    speech = sounding.copy()
    for value, length_s in ((True, _MIN_SOUND_S), (False, _MIN_PAUSE_S)):
        for begin, end in _runs(speech == value):
            inner = begin > 0 and end < len(speech)
            if (end - begin) * _STEP_S < length_s and (value or inner):
                speech[begin:end] = not value
    if not speech.any():  # bursts alone
        speech = sounding.copy()
    (places,) = np.nonzero(speech)
    span = speech[places[0] : places[-1] + 1]
    return speech, float(1 - span.mean())


def _runs(flags: Any) -> list[tuple[int, int]]:
    """[begin, end) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _levels(level_db: Any, speech: Any, spoken: Any) -> tuple[float, float | None]:
    """Mean power of speech, and the spread of the level of what of it is voiced."""
    loudness = float(10 * np.log10(np.mean(10 ** (level_db[speech] / 10))))
    if not spoken.any():
        return loudness, None
    low, high = np.percentile(level_db[spoken], [10, 90])
    return loudness, float(high - low)


def _rate_hz(sound: Any, times: Any, spoken: Any, speech_s: float) -> float | None:
    """Syllable nuclei a second of speech: voiced peaks of intensity with a dip around each.

    After De Jong & Wempe (2009), from their description. A peak's prominence stands for their
    dips before and after it.
    """
    from scipy.signal import find_peaks

    smooth_times, level_db = _contour_db(sound, _SMOOTH_HZ)
    floor_db = np.quantile(level_db, 0.99) - _SPEECH_DB
    peaks, _ = find_peaks(level_db, height=floor_db, prominence=_DIP_DB)
    num_nuclei = int(_nearest(times, spoken, smooth_times[peaks]).sum())
    return float(num_nuclei / speech_s) if num_nuclei else None


def _harmonicity_db(sound: Any, floor_hz: float) -> float | None:
    """Mean harmonics-to-noise ratio of the frames that have one (Boersma 1993)."""
    values = sound.to_harmonicity_cc(_STEP_S, floor_hz, 0.1, 1.0).values[0]
    values = values[values > _SILENT_HARMONICITY_DB]
    return float(values.mean()) if len(values) else None


def _perturbation(sound: Any, pitch: Any) -> tuple[float | None, float | None]:
    """Jitter (local) and shimmer (local) of Praat, with its standard limits."""
    call = praat().praat.call
    pulses = call([sound, pitch], "To PointProcess (cc)")
    limits = (0, 0, 0.0001, 0.02, 1.3)
    found = (
        call(pulses, "Get jitter (local)", *limits),
        call([sound, pulses], "Get shimmer (local)", *limits, 1.6),
    )
    jitter, shimmer = (float(value) if np.isfinite(value) else None for value in found)
    return jitter, shimmer


def _tilt_db(samples: Samples, times: Any) -> float | None:
    """Alpha ratio (Eyben et al. 2016), its power summed over frames of 25 ms around `times`.

    Theirs is the mean of the ratios of frames, with the low band above; this one is higher for
    a brighter voice.
    """
    begins = np.rint(times * ANALYSIS_RATE_HZ).astype(int) - _FRAME // 2
    begins = begins[(begins >= 0) & (begins + _FRAME <= len(samples))]
    if not len(begins):
        return None
    frames = samples[begins[:, None] + np.arange(_FRAME)] * np.hanning(_FRAME)
    power = (np.abs(np.fft.rfft(frames, axis=1)) ** 2).sum(axis=0)
    hz = np.fft.rfftfreq(_FRAME, 1 / ANALYSIS_RATE_HZ)
    low, high = (
        power[(hz >= band[0]) & (hz < band[1])].sum() for band in (_LOW_BAND_HZ, _HIGH_BAND_HZ)
    )
    return float(10 * np.log10(high / low)) if low > 0 and high > 0 else None
