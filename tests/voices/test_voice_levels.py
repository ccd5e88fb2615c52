"""Comparison with the speaker, thresholds, and the cues that follow."""

import pytest

from r1omni.text.cue_words import VALUES
from r1omni.voices.levels import SCALES, compare, heard_cues
from r1omni.voices.vocabulary import VoiceMeasures


def clips(**values):
    """One clip with these measures, or several where values are lists."""
    return [
        VoiceMeasures(**dict(zip(values, row, strict=True)))
        for row in zip(*values.values(), strict=True)
    ]


def cues_of(**levels):
    """Attribute -> value of a clip whose measures differ from the speaker's by so many units."""
    usual = {"pitch": 200.0, "pitch_range": 8.0, "loudness": -30.0, "loudness_range": 12.0,
             "rate": 4.0, "pauses": 0.3, "harmonicity": 12.0, "jitter": 0.02, "shimmer": 0.1,
             "tilt": -8.0}  # fmt: skip
    clip = VoiceMeasures(**{name: usual[name] * (1 + levels.get(name, 0)) for name in usual})
    compared = compare(clip, [], [VoiceMeasures(**usual)] * 2)
    return {h.cue.attribute: (h.cue.value, h.very) for h in heard_cues(compared)}


@pytest.mark.parametrize("name", SCALES)
def test_a_level_begins_with_its_threshold(name):
    scale = SCALES[name]
    steps = [
        (-scale.far, "very low"), (-scale.far + 0.01, "low"), (-scale.step, "low"),
        (-scale.step + 0.01, "as usual"), (0, "as usual"), (scale.step - 0.01, "as usual"),
        (scale.step, "high"), (scale.far - 0.01, "high"), (scale.far, "very high"),
    ]  # fmt: skip
    assert [scale.level(difference) for difference, _ in steps] == [level for _, level in steps]


def test_the_reference_is_neutral_then_the_speaker_then_people():
    speaker = clips(pitch=[100.0, 100.0, 400.0, 400.0, 200.0])
    neutral = clips(pitch=[100.0, 225.0])
    found = compare(speaker[0], speaker, neutral)["pitch"]
    # Between two pitches lies the one that is as many semitones from both.
    assert (found.reference, found.usual, found.num_clips) == ("speaker_neutral", 150, 2)
    found = compare(speaker[0], speaker, neutral[:1])["pitch"]
    assert (found.reference, found.usual, found.num_clips) == ("speaker_all", 200, 5)
    assert (found.difference, found.level) == (-12, "very low")
    found = compare(speaker[0], speaker[:4], [])["pitch"]
    assert (found.reference, found.usual, found.num_clips) == ("population", 120, 0)
    # Men and women: the nearer one counts, in semitones.
    usual = [compare(clip, [], [])["pitch"].usual for clip in clips(pitch=[158.0, 160.0, 400.0])]
    assert usual == [120, 210, 210]


def test_a_clip_that_is_no_voice_moves_no_reference():
    """A pure tone that is labelled neutral: far from every voice in each of these measures."""
    voices = clips(
        pitch=[200.0, 202.0, 198.0], harmonicity=[12.0, 12.2, 11.8], loudness=[-26.0, -26.4, -25.6]
    )
    [tone] = clips(pitch=[600.0], harmonicity=[70.0], loudness=[-3.0])
    for clip in voices:
        alone, beside = compare(clip, [], voices), compare(clip, [], [*voices, tone])
        for name, found in alone.items():
            assert (found.level, beside[name].level) == ("as usual", "as usual"), name
            assert abs(found.usual - beside[name].usual) <= abs(0.01 * found.usual), name
    assert compare(tone, [], [*voices, tone])["pitch"].level == "very high"


def test_units_of_differences():
    clip = VoiceMeasures(pitch=240.0, rate=5.0, pauses=0.2, loudness=-20.0)
    usual = VoiceMeasures(pitch=120.0, rate=4.0, pauses=0.1, loudness=-26.0)
    found = compare(clip, [usual] * 5, [])
    differences = {name: compared.difference for name, compared in found.items()}
    assert differences == {"pitch": 12, "rate": 25, "pauses": 10, "loudness": 6}


def test_an_absent_measure_is_no_cue_and_its_reference_may_be_another():
    neutral = clips(pitch=[200.0, 200.0], pitch_range=[None, None])
    found = compare(VoiceMeasures(pitch=200.0, pitch_range=1.0), neutral, neutral)
    assert {name: compared.reference for name, compared in found.items()} == {
        "pitch": "speaker_neutral", "pitch_range": "population"
    }  # fmt: skip
    assert [h.cue[1:] for h in heard_cues(found)] == [
        ("pitch", "medium"),
        ("pitch range", "narrow"),
    ]


def test_cues_of_levels():
    rest = cues_of()
    assert rest == {
        "pitch": ("medium", False), "pitch range": ("medium", False),
        "loudness": ("moderate", False), "loudness range": ("medium", False),
        "rate": ("medium", False), "pauses": ("usual", False), "voice quality": ("ordinary", False),
    }  # fmt: skip
    assert cues_of(pitch=1.0, rate=-0.2, pauses=-0.4, tilt=0.5) == rest | {
        "pitch": ("high", True), "rate": ("slow", False), "pauses": ("few", False),
        "tone": ("dark", False),
    }  # fmt: skip
    # Noise is roughness where periods or peaks are irregular too, and else breath.
    quality = {
        "breathy": {"harmonicity": -0.2}, "rough": {"harmonicity": -0.2, "shimmer": 0.3},
        "clear": {"harmonicity": 0.2}, "ordinary": {"jitter": 0.5},
    }  # fmt: skip
    for value, levels in quality.items():
        assert cues_of(**levels)["voice quality"] == (value, False)
    assert cues_of(harmonicity=-0.5)["voice quality"] == ("breathy", True)


def test_every_cue_is_one_that_there_is():
    for sign in (-1, 0, 1):
        found = cues_of(**dict.fromkeys(SCALES, 0.9 * sign))
        assert all(value in VALUES["audio"][name] for name, (value, _) in found.items())
