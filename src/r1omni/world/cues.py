"""The words of the mini-world: what a face and a voice show, and how each word is drawn or sung.

A face is five attributes, a voice is five attributes, each with a few fixed words. Everything
else follows from them: the renderers read the numbers given here, captions and reasonings
(`describe.py`) read the words, so a text can never name a cue that the clip does not carry.

Facial action units follow FACS (Ekman & Friesen, Facial Action Coding System, 1978; Ekman,
Friesen & Hager, 2002). Voice parameters follow the reviews of Juslin & Laukka
(Psychological Bulletin 129, 2003) and Scherer (Speech Communication 40, 2003).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

FACE_VALUES: dict[str, tuple[str, ...]] = {
    "brows": ("relaxed", "raised", "lowered", "drawn together"),
    "eyes": ("relaxed", "wide", "narrowed", "half closed"),
    "nose": ("relaxed", "wrinkled"),
    "mouth": ("relaxed", "corners up", "corners down", "one corner up", "pressed", "stretched"),
    "jaw": ("closed", "dropped"),
}
VOICE_VALUES: dict[str, tuple[str, ...]] = {
    "pitch": ("low", "medium", "high"),
    "loudness": ("soft", "moderate", "loud"),
    "rate": ("slow", "medium", "fast"),
    "steadiness": ("steady", "trembling"),
    "tone": ("dark", "bright"),
}

# Order of the cue vector. 12L/12R and 14R are the two sides of the image: contempt is one-sided.
ACTION_UNITS: tuple[str, ...] = (
    "1", "2", "4", "5", "6", "7", "9", "10", "12L", "12R", "14R", "15", "17", "20", "23", "24",
    "25", "26", "43",
)  # fmt: skip

_UNITS_OF: dict[tuple[str, str], dict[str, float]] = {
    ("brows", "raised"): {"1": 1.0, "2": 1.0},
    ("brows", "lowered"): {"4": 1.0},
    ("brows", "drawn together"): {"1": 1.0, "4": 0.6},
    ("eyes", "wide"): {"5": 1.0},
    ("eyes", "narrowed"): {"6": 0.5, "7": 1.0},
    ("eyes", "half closed"): {"43": 0.7},
    ("nose", "wrinkled"): {"9": 1.0, "10": 0.7},
    ("mouth", "corners up"): {"6": 0.4, "12L": 1.0, "12R": 1.0},
    ("mouth", "corners down"): {"15": 1.0, "17": 0.7},
    ("mouth", "one corner up"): {"12R": 1.0, "14R": 1.0},
    ("mouth", "pressed"): {"23": 1.0, "24": 1.0},
    ("mouth", "stretched"): {"20": 1.0, "25": 0.7},
    ("jaw", "dropped"): {"25": 1.0, "26": 1.0},
}


@dataclass(frozen=True)
class FaceCues:
    """What a face shows; each field holds one word of `FACE_VALUES`."""

    brows: str = "relaxed"
    eyes: str = "relaxed"
    nose: str = "relaxed"
    mouth: str = "relaxed"
    jaw: str = "closed"


@dataclass(frozen=True)
class VoiceCues:
    """How a voice sounds; each field holds one word of `VOICE_VALUES`."""

    pitch: str = "medium"
    loudness: str = "moderate"
    rate: str = "medium"
    steadiness: str = "steady"
    tone: str = "dark"


@dataclass(frozen=True)
class VoiceParameters:
    """Numbers the synthesiser reads.

    Attributes:
        pitch_ratio: mean fundamental frequency over the speaker's own base.
        pitch_range_semitones: standard deviation of the intonation contour.
        level_db: RMS of the voiced part in dB below full scale (negative).
        syllable_rate_hz: syllables a second.
        tremor: 0..1, depth of the 5 to 8 Hz modulation of pitch and loudness.
        jitter: relative standard deviation of the length of a glottal cycle.
        shimmer: relative standard deviation of the amplitude of a glottal cycle.
        tilt_db: fall of the source spectrum in dB an octave above 500 Hz (negative).
    """

    pitch_ratio: float
    pitch_range_semitones: float
    level_db: float
    syllable_rate_hz: float
    tremor: float
    jitter: float
    shimmer: float
    tilt_db: float


_VOICE_NUMBERS: dict[tuple[str, str], dict[str, float]] = {
    ("pitch", "low"): {"pitch_ratio": 0.72, "pitch_range_semitones": 0.8},
    ("pitch", "medium"): {"pitch_ratio": 1.0, "pitch_range_semitones": 1.4},
    ("pitch", "high"): {"pitch_ratio": 1.55, "pitch_range_semitones": 2.2},
    ("loudness", "soft"): {"level_db": -36.0},
    ("loudness", "moderate"): {"level_db": -25.0},
    ("loudness", "loud"): {"level_db": -14.0},
    ("rate", "slow"): {"syllable_rate_hz": 2.5},
    ("rate", "medium"): {"syllable_rate_hz": 4.0},
    ("rate", "fast"): {"syllable_rate_hz": 6.4},
    ("steadiness", "steady"): {"tremor": 0.0, "jitter": 0.004, "shimmer": 0.02},
    ("steadiness", "trembling"): {"tremor": 1.0, "jitter": 0.03, "shimmer": 0.12},
    ("tone", "dark"): {"tilt_db": -15.0},
    ("tone", "bright"): {"tilt_db": -3.0},
}


def action_units(cues: FaceCues) -> dict[str, float]:
    """Full-strength intensity 0..1 of every action unit that `cues` asks for.

    Where two attributes move the same unit (a smile and narrowed eyes both raise the cheeks),
    the stronger one counts.
    """
    units = dict.fromkeys(ACTION_UNITS, 0.0)
    for name in FACE_VALUES:
        for unit, strength in _UNITS_OF.get((name, getattr(cues, name)), {}).items():
            units[unit] = max(units[unit], strength)
    return units


def voice_parameters(cues: VoiceCues) -> VoiceParameters:
    """Central parameters of the words in `cues`, without the natural spread."""
    numbers: dict[str, float] = {}
    for name in VOICE_VALUES:
        numbers.update(_VOICE_NUMBERS[(name, getattr(cues, name))])
    return VoiceParameters(**numbers)


def vary_voice(parameters: VoiceParameters, rng: np.random.Generator) -> VoiceParameters:
    """One speaking of `parameters`: small spread, far narrower than the gap between two words."""
    spread = np.clip(rng.standard_normal(6), -2.0, 2.0)
    return replace(
        parameters,
        pitch_ratio=float(parameters.pitch_ratio * np.exp(0.035 * spread[0])),
        pitch_range_semitones=float(parameters.pitch_range_semitones * np.exp(0.2 * spread[1])),
        level_db=float(parameters.level_db + 1.2 * spread[2]),
        syllable_rate_hz=float(parameters.syllable_rate_hz * np.exp(0.05 * spread[3])),
        tremor=float(parameters.tremor * rng.uniform(0.75, 1.0)),
        jitter=float(parameters.jitter * np.exp(0.15 * spread[4])),
        shimmer=float(parameters.shimmer * np.exp(0.15 * spread[4])),
        tilt_db=float(parameters.tilt_db + 0.7 * spread[5]),
    )


def random_face_cues(rng: np.random.Generator) -> FaceCues:
    """Independent attributes, so that captions teach perception without teaching emotions.

    Pressed lips and a dropped jaw exclude each other; that one pair is drawn again.
    """
    while True:
        cues = FaceCues(**{name: str(rng.choice(words)) for name, words in FACE_VALUES.items()})
        if not (cues.mouth == "pressed" and cues.jaw == "dropped"):
            return cues


def random_voice_cues(rng: np.random.Generator) -> VoiceCues:
    """Independent, uniform attributes."""
    return VoiceCues(**{name: str(rng.choice(words)) for name, words in VOICE_VALUES.items()})
