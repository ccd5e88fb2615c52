"""A source-filter voice: glottal pulses through vowel resonators, syllable by syllable.

Source: Rosenberg's pulse (JASA 49, 1971), differentiated, with jitter, shimmer and tremor.
Filter: cascaded second-order resonators (Klatt, JASA 67, 1980) at the vowels' formants
(Peterson & Barney, JASA 24, 1952, rounded), scaled by the length of the speaker's tract.
Everything is float32 at 16 kHz.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from r1omni.world.cues import VoiceParameters

SAMPLE_RATE_HZ = 16_000
NOISE_DB = -68.0
_VOWELS: dict[str, tuple[float, float, float]] = {
    "i": (280, 2250, 2900),
    "e": (530, 1840, 2480),
    "a": (730, 1150, 2440),
    "o": (500, 900, 2500),
    "u": (320, 870, 2240),
}
_BANDWIDTHS_HZ = (70.0, 95.0, 140.0, 220.0)
# Two fixed statements, as RAVDESS has: vowel of each syllable, and whether a fricative leads it.
STATEMENTS: dict[int, tuple[tuple[str, bool], ...]] = {
    1: (("i", True), ("a", False), ("o", True), ("i", False), ("a", False), ("e", True),
        ("o", False)),
    2: (("o", False), ("a", True), ("i", True), ("i", False), ("a", False), ("e", True),
        ("o", False)),
}  # fmt: skip


@dataclass(frozen=True)
class Speech:
    """A synthesised utterance.

    Attributes:
        waveform: float32 [S] at 16 kHz, within -1..1.
        mouth: float32 [S], syllable envelope 0..1; it opens the mouth. Loudness and tremor are
            left out of it, so that lips do not tell what only the voice should.
    """

    waveform: np.ndarray
    mouth: np.ndarray


def random_syllables(rng: np.random.Generator, count: int) -> tuple[tuple[str, bool], ...]:
    """`count` syllables: a vowel each, half of them led by a fricative."""
    vowels = rng.choice(list(_VOWELS), count)
    return tuple((str(v), bool(c)) for v, c in zip(vowels, rng.random(count) < 0.5, strict=True))


def speak(
    parameters: VoiceParameters,
    *,
    base_pitch_hz: float,
    formant_scale: float,
    duration_s: float,
    rng: np.random.Generator,
    syllables: tuple[tuple[str, bool], ...] | None = None,
) -> Speech:
    """Speak for `duration_s`; without `syllables` the voice fills the clip at its own rate."""
    length = round(duration_s * SAMPLE_RATE_HZ)
    period = 1.0 / parameters.syllable_rate_hz
    if syllables is None:
        syllables = random_syllables(rng, max(2, int((duration_s - 0.2) / period)))
    lead = max(0.04, (duration_s - len(syllables) * period) * rng.uniform(0.3, 0.7))
    starts = lead + period * np.arange(len(syllables))
    pitch = _pitch_contour(parameters, base_pitch_hz, starts, length, rng)
    source = _tilt(_glottal_source(pitch, parameters, rng), parameters.tilt_db)
    voiced = np.zeros(length)
    mouth = np.zeros(length)
    for (vowel, fricative), start in zip(syllables, starts, strict=True):
        _add_syllable(
            voiced, mouth, source, vowel, fricative, (start, period * 0.86), formant_scale, rng
        )
    if parameters.tremor > 0:
        rate, phase = rng.uniform(5.5, 7.5), rng.uniform(0, 2 * np.pi)
        wave = np.sin(2 * np.pi * rate * np.arange(length) / SAMPLE_RATE_HZ + phase)
        voiced *= 1 + 0.7 * parameters.tremor * wave
    return Speech(_level(voiced, mouth, parameters.level_db, rng), mouth.astype(np.float32))


def _pitch_contour(
    parameters: VoiceParameters,
    base_pitch_hz: float,
    starts: np.ndarray,
    length: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Fundamental frequency [S] in Hz: declination, a target a syllable, tremor."""
    time = np.arange(length) / SAMPLE_RATE_HZ
    targets = rng.standard_normal(len(starts)) * parameters.pitch_range_semitones
    targets += np.linspace(0.8, -0.8, len(starts)) - targets.mean()
    semitones = np.interp(time, starts, targets)
    rate, phase = rng.uniform(5.5, 7.5), rng.uniform(0, 2 * np.pi)
    semitones += 1.6 * parameters.tremor * np.sin(2 * np.pi * rate * time + phase)
    return base_pitch_hz * parameters.pitch_ratio * 2.0 ** (semitones / 12)


def _glottal_source(
    pitch: np.ndarray, parameters: VoiceParameters, rng: np.random.Generator
) -> np.ndarray:
    """Derivative of Rosenberg pulses along the phase of `pitch`, one random draw a cycle."""
    phase = np.cumsum(pitch) / SAMPLE_RATE_HZ
    cycles = int(phase[-1]) + 2
    # Moving the start of each cycle by a small random share of it is jitter.
    moved = np.arange(cycles + 1) + parameters.jitter * 2.0 * rng.standard_normal(cycles + 1)
    phase = np.interp(phase, np.sort(moved), np.arange(cycles + 1))
    index = np.floor(phase).astype(int)
    part = phase - index
    opening, closing = 0.42, 0.18
    pulse = np.where(
        part < opening,
        0.5 * (1 - np.cos(np.pi * part / opening)),
        np.cos(0.5 * np.pi * np.clip((part - opening) / closing, 0, 1)),
    )
    amplitude = 1 + parameters.shimmer * rng.standard_normal(cycles + 1)
    source = np.diff(pulse * amplitude[index], prepend=0.0) * (SAMPLE_RATE_HZ / pitch) * 0.1
    return source + 0.004 * rng.standard_normal(len(source))


def _tilt(source: np.ndarray, tilt_db: float) -> np.ndarray:
    """Change the slope of the spectrum by one or two one-pole low-pass filters.

    A pole costs 6 dB an octave above its corner. The corner moves down with the slope wanted.
    """
    from scipy.signal import lfilter

    corner = 500.0 * 2.0 ** (np.clip(9.0 + tilt_db, 0, 8) * 0.5)
    pole = np.exp(-2 * np.pi * corner / SAMPLE_RATE_HZ)
    out = source
    for _ in range(2 if tilt_db < -9 else 1):
        out = lfilter([1 - pole], [1, -pole], out)
    return np.asarray(out)


def _formant_sections(vowel: str, formant_scale: float) -> np.ndarray:
    """Second-order sections [4, 6] of the vowel's resonators, unit gain at 0 Hz."""
    centres = np.array([*_VOWELS[vowel], 3500.0]) * formant_scale
    radius = np.exp(-np.pi * np.array(_BANDWIDTHS_HZ) / SAMPLE_RATE_HZ)
    cosine = np.cos(2 * np.pi * np.minimum(centres, 7200) / SAMPLE_RATE_HZ)
    sections = np.zeros((4, 6))
    sections[:, 3] = 1
    sections[:, 4] = -2 * radius * cosine
    sections[:, 5] = radius**2
    sections[:, 0] = 1 + sections[:, 4] + sections[:, 5]
    return sections


def _add_syllable(
    voiced: np.ndarray,
    mouth: np.ndarray,
    source: np.ndarray,
    vowel: str,
    fricative: bool,
    span: tuple[float, float],
    formant_scale: float,
    rng: np.random.Generator,
) -> None:
    """Add one syllable to `voiced` [S] and its opening to `mouth` [S], in place."""
    from scipy.signal import sosfilt

    first = int(span[0] * SAMPLE_RATE_HZ)
    last = min(len(voiced), first + int(span[1] * SAMPLE_RATE_HZ))
    count = last - first
    if count < 64:
        return
    x = np.linspace(0, 1, count)
    envelope = np.minimum(1, np.minimum(x / 0.18, (1 - x) / 0.35)) ** 0.8
    vowel_sound = sosfilt(_formant_sections(vowel, formant_scale), source[first:last] * envelope)
    loudness = np.sqrt(np.mean(vowel_sound**2)) + 1e-9
    voiced[first:last] += vowel_sound * (0.2 / loudness)
    mouth[first:last] = np.maximum(mouth[first:last], envelope)
    if fricative:
        burst = min(count, int(0.05 * SAMPLE_RATE_HZ))
        noise = np.diff(rng.standard_normal(burst), prepend=0.0) * np.hanning(burst)
        voiced[first : first + burst] += 0.05 * noise


def _level(
    voiced: np.ndarray, mouth: np.ndarray, level_db: float, rng: np.random.Generator
) -> np.ndarray:
    """Scale the spoken part to `level_db`, add the room's noise, keep peaks below full scale."""
    spoken = mouth > 0.05
    rms = np.sqrt(np.mean(voiced[spoken] ** 2)) + 1e-9
    wave = voiced * (10 ** (level_db / 20) / rms)
    wave += 10 ** (NOISE_DB / 20) * rng.standard_normal(len(wave))
    # A soft knee: loud voices have peaks beyond 1 now and then, clipping would add brightness.
    return (0.98 * np.tanh(wave)).astype(np.float32)


def measure_pitch_hz(waveform: np.ndarray, low_hz: float = 55.0, high_hz: float = 480.0) -> float:
    """Median fundamental frequency by autocorrelation of 60 ms frames; nan in silence."""
    size, hop = 960, 480
    frames = [waveform[i : i + size] for i in range(0, len(waveform) - size, hop)]
    energy = np.array([float(np.mean(frame**2)) for frame in frames])
    least, most = int(SAMPLE_RATE_HZ / high_hz), int(SAMPLE_RATE_HZ / low_hz)
    found = []
    for frame, power in zip(frames, energy, strict=True):
        if power < 0.2 * energy.max():
            continue
        spectrum = np.fft.rfft((frame - frame.mean()) * np.hanning(size), 2 * size)
        correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: most + 1]
        window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(size), 2 * size)) ** 2)[: most + 1]
        correlation = correlation / np.maximum(window, 1e-6 * window[0])
        found.append(SAMPLE_RATE_HZ / (least + int(np.argmax(correlation[least:]))))
    return float(np.median(found)) if found else float("nan")
