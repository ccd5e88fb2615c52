"""Measures of sounds that are known by construction."""

import math
from dataclasses import asdict

import numpy as np
import pytest
from voice_sounds import RATE_HZ, at_db, complex_tone, pulses, syllables

from r1omni.types import R1OmniError
from r1omni.voices.levels import SCALES
from r1omni.voices.measures import measure_voice
from r1omni.voices.vocabulary import MEASURES, VoiceMeasures


def test_every_measure_has_a_scale():
    assert tuple(SCALES) == MEASURES


def test_pitch_and_its_range_of_a_known_glide():
    """From 100 to 200 Hz evenly in semitones: median 141.4 Hz, 80% of 12 semitones."""
    glide = at_db(complex_tone(lambda t: 100 * 2 ** (t / 2), 2.0), -20)
    found = measure_voice(glide)
    assert found.pitch == pytest.approx(100 * math.sqrt(2), rel=0.01)
    assert found.pitch_range == pytest.approx(0.8 * 12, abs=0.3)
    flat = measure_voice(at_db(complex_tone(220.0, 1.0), -20))
    assert flat.pitch == pytest.approx(220, rel=0.002)
    assert flat.pitch_range == pytest.approx(0, abs=0.05)


def test_loudness_is_the_effective_level_and_changes_nothing_else():
    tone = complex_tone(150.0, 1.5)
    quiet, loud = (asdict(measure_voice(at_db(tone, level_db))) for level_db in (-30, -12))
    assert quiet["loudness"] == pytest.approx(-30, abs=0.2)
    assert loud["loudness"] - quiet["loudness"] == pytest.approx(18, abs=0.001)
    assert quiet["loudness_range"] < 0.5
    others = [name for name in MEASURES if name not in ("loudness", "rate")]
    for name in others:
        assert loud[name] == pytest.approx(quiet[name], rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize("per_second", [2.5, 4.0, 6.0])
def test_rate_counts_swells(per_second):
    found = measure_voice(syllables(140.0, per_second, 3.0))
    assert found.rate == pytest.approx(per_second, rel=0.12)
    # between its loudest tenth and its softest: 20 log10 of the swell there
    assert 10 < found.loudness_range < 20


def test_pauses_are_a_share_of_the_time_between_first_and_last_sound():
    tone, rest = at_db(complex_tone(150.0, 1.0), -20), np.zeros(RATE_HZ // 2)
    assert measure_voice(np.concatenate([rest, tone, rest])).pauses == 0
    # Of 2.5 s, 0.5 s are silent; windows reach into the pause from both sides.
    found = measure_voice(np.concatenate([rest, tone, rest, tone, rest]))
    assert found.pauses == pytest.approx(0.2, abs=0.03)
    assert measure_voice(np.concatenate([tone, rest[:1600], tone])).pauses == 0  # too short


@pytest.mark.parametrize("ratio_db", [5, 10, 20])
def test_harmonicity_is_the_ratio_to_added_noise(ratio_db):
    noise = np.random.default_rng(1).standard_normal(2 * RATE_HZ)
    sound = at_db(complex_tone(150.0, 2.0), -20) + at_db(noise, -20 - ratio_db)
    assert measure_voice(sound).harmonicity == pytest.approx(ratio_db, abs=1.0)


def test_jitter_and_shimmer_of_known_irregularity():
    """Differences of neighbours have sqrt(2) times the deviation, absolute ones 0.8 of that."""
    expected = 2 / math.sqrt(math.pi)
    for sd in (0.005, 0.01, 0.02):
        # A period is between two pulses, whose own deviations are those of the periods here.
        assert measure_voice(pulses(120.0, 2.0, period_sd=sd)).jitter == pytest.approx(
            expected * sd, rel=0.2
        )
        assert measure_voice(pulses(120.0, 2.0, peak_sd=3 * sd)).shimmer == pytest.approx(
            expected * 3 * sd, rel=0.2
        )
    even = measure_voice(pulses(120.0, 2.0))
    assert even.jitter < 0.001 and even.shimmer < 0.005


def test_tilt_is_the_power_of_the_bands():
    """At 100 Hz harmonics 1 to 9 are low and 11 to 49 high; the tenth is on the edge, half each."""
    for slope_db in (0.0, -6.0, -12.0):
        power = 10 ** (slope_db * np.log2(np.arange(1, 51)) / 10)
        low, high = power[:9].sum() + power[9] / 2, power[9] / 2 + power[10:49].sum()
        found = measure_voice(at_db(complex_tone(100.0, 1.0, slope_db), -20)).tilt
        assert found == pytest.approx(10 * math.log10(high / low), abs=0.7)


def test_what_has_no_voice_has_no_measures():
    noise = at_db(np.random.default_rng(0).standard_normal(RATE_HZ), -20)
    tone = at_db(complex_tone(150.0, 0.2), -20)
    for sound in (np.zeros(RATE_HZ), np.zeros(0), tone[:100], tone, noise):
        assert measure_voice(sound) == VoiceMeasures()
    with pytest.raises(R1OmniError, match="no numbers"):
        measure_voice(np.array([0.0, np.nan]))


def test_a_short_voice_has_some_measures():
    """A sound of 0.15 s says its pitch, but neither its range nor its irregularity."""
    rest = np.zeros(RATE_HZ // 5)
    found = measure_voice(np.concatenate([rest, at_db(complex_tone(200.0, 0.15), -20), rest]))
    assert found.pitch == pytest.approx(200, rel=0.02) and found.loudness is not None
    assert found.pitch_range is found.jitter is found.shimmer is found.loudness_range is None


def test_a_clip_is_measured_by_itself():
    first, other = syllables(140.0, 4.0, 1.5), syllables(240.0, 5.0, 1.0)
    alone = measure_voice(first)
    measure_voice(other)
    assert measure_voice(first) == alone
