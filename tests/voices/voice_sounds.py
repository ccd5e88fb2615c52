"""Sounds whose pitch, level, rate, pauses, noise and irregularity are known by construction."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

RATE_HZ = 16_000


def complex_tone(f0_hz, seconds, slope_db=-6.0, num_harmonics=60):
    """Harmonics of a constant or changing fundamental, `slope_db` an octave; RMS 1."""
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    f0 = np.broadcast_to(f0_hz(time) if callable(f0_hz) else f0_hz, time.shape)
    phase = 2 * np.pi * np.cumsum(f0) / RATE_HZ
    sound = np.zeros_like(time)
    for number in range(1, num_harmonics + 1):
        heard = number * f0 < RATE_HZ / 2
        gain = 10 ** (slope_db * np.log2(number) / 20)
        sound += heard * gain * np.sin(number * phase + number**2)
    return sound / np.sqrt(np.mean(sound**2))


def at_db(sound, level_db):
    """The sound at an effective level in dB of full scale."""
    return sound / np.sqrt(np.mean(sound**2)) * 10 ** (level_db / 20)


def syllables(f0_hz, per_second, seconds, level_db=-20.0):
    """A tone that swells `per_second` times a second, by about 20 dB."""
    tone = complex_tone(f0_hz, seconds)
    time = np.arange(len(tone)) / RATE_HZ
    swell = 0.55 - 0.45 * np.cos(2 * np.pi * per_second * time)
    return at_db(tone * swell, level_db)


def pulses(f0_hz, seconds, period_sd=0.0, peak_sd=0.0, seed=0):
    """Glottal-like pulses whose periods and peaks vary by these relative standard deviations."""
    rng = np.random.default_rng(seed)
    count = int(f0_hz * seconds * 0.98)
    starts = np.cumsum((1 + period_sd * rng.standard_normal(count)) / f0_hz)
    peaks = 1 + peak_sd * rng.standard_normal(count)
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    sound = np.zeros_like(time)
    for start, peak in zip(starts, peaks, strict=True):
        near = slice(max(0, int((start - 0.002) * RATE_HZ)), int((start + 0.002) * RATE_HZ))
        sound[near] += peak * np.exp(-(((time[near] - start) / 0.0004) ** 2))
    return at_db(sound - sound.mean(), -20.0)


def write_wav(path: Path, samples):
    """A WAV of one channel, 16 bit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE_HZ, layout="mono")
        values = np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(values[None], format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
