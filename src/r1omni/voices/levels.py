"""How a voice compares with the same speaker's, in few steps, and the cues that follow.

A measure is compared with the speaker's neutral clips, else with all of the speaker's clips, else
with a fixed value for speakers in general. The steps and the fixed values are in `SCALES`;
docs/voices.md says where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np

from r1omni.text.cues import Cue
from r1omni.voices.vocabulary import VoiceMeasures

Level = Literal["very low", "low", "as usual", "high", "very high"]
LEVELS: tuple[Level, ...] = get_args(Level)
Reference = Literal["speaker_neutral", "speaker_all", "population"]
# Fewer clips say little about how a speaker usually sounds.
MIN_NEUTRAL_CLIPS = 2
MIN_SPEAKER_CLIPS = 5
NEUTRAL = "neutral"


@dataclass(frozen=True)
class Scale:
    """How values of one measure are compared.

    Attributes:
        unit: of a value.
        difference: unit of a difference. Semitones are 12 log2(value / usual), percent are
            100 (value / usual - 1); any other is value - usual.
        step: difference from which a value is low or high.
        far: difference from which it is very low or very high.
        population: usual values of speakers in general; the nearest one counts.
        factor: a value times this is in `unit`; differences are of such values.
    """

    unit: str
    difference: str
    step: float
    far: float
    population: tuple[float, ...]
    factor: float = 1.0

    @property
    def is_ratio(self) -> bool:
        """Whether differences are of logarithms."""
        return self.difference == "semitones"

    def compare(self, value: float, usual: float) -> float:
        """The difference of two values in `unit`, in `difference`."""
        if self.is_ratio:
            return float(12 * np.log2(value / usual))
        if self.difference == "percent":
            return 100 * (value / usual - 1)
        return value - usual

    def usual(self, values: Sequence[float]) -> float:
        """The usual value of clips: their median, which a few clips without a voice do not move.

        Between two values it is the one as far from both as differences are counted.
        """
        found = np.asarray(values, dtype=np.float64)
        return float(np.exp(np.median(np.log(found))) if self.is_ratio else np.median(found))

    def level(self, difference: float) -> Level:
        """The step that a difference falls into; each begins with its threshold."""
        size = (abs(difference) >= self.step) + (abs(difference) >= self.far)
        return LEVELS[2 + (size if difference > 0 else -size)]


SCALES: Mapping[str, Scale] = MappingProxyType(
    {
        "pitch": Scale("Hz", "semitones", 2, 5, (120, 210)),
        "pitch_range": Scale("semitones", "semitones apart", 2, 5, (7,)),
        "loudness": Scale("dB of full scale", "dB", 3, 10, (-26,)),
        "loudness_range": Scale("dB", "dB", 3, 6, (15,)),
        "rate": Scale("nuclei/s", "percent", 15, 35, (4,)),
        "pauses": Scale("% of the time", "points", 10, 25, (10,), factor=100),
        "harmonicity": Scale("dB", "dB", 2, 5, (12,)),
        "jitter": Scale("%", "percent", 25, 60, (2,), factor=100),
        "shimmer": Scale("%", "percent", 25, 60, (9,), factor=100),
        "tilt": Scale("dB", "dB", 3, 7, (-12,)),
    }
)
# Measure -> the attribute of `text/cue_words.py` and its value below, at and above the usual.
# A tone has no state of rest there, so a usual one is no cue.
_CUES: Mapping[str, tuple[str, str, str | None, str]] = MappingProxyType(
    {
        "pitch": ("pitch", "low", "medium", "high"),
        "pitch_range": ("pitch range", "narrow", "medium", "wide"),
        "loudness": ("loudness", "soft", "moderate", "loud"),
        "loudness_range": ("loudness range", "narrow", "medium", "wide"),
        "rate": ("rate", "slow", "medium", "fast"),
        "pauses": ("pauses", "few", "usual", "many"),
        "tilt": ("tone", "dark", None, "bright"),
    }
)


@dataclass(frozen=True)
class Compared:
    """One measure of a clip beside what is usual.

    Attributes:
        value: in the unit of its scale.
        usual: what it is compared with, in the same unit.
        reference: where `usual` comes from.
        num_clips: clips of the speaker behind it; 0 for the population's.
        difference: of the two, in the scale's unit for differences.
        level: the step of the difference.
    """

    value: float
    usual: float
    reference: Reference
    num_clips: int
    difference: float
    level: Level

    @property
    def steps(self) -> int:
        """How far the level is from the usual one: -2 to 2."""
        return LEVELS.index(self.level) - 2


@dataclass(frozen=True)
class HeardCue:
    """A cue of a voice, and whether it is there to a high degree."""

    cue: Cue
    very: bool = False


def compare(
    clip: VoiceMeasures, speaker: Sequence[VoiceMeasures], neutral: Sequence[VoiceMeasures]
) -> dict[str, Compared]:
    """Measure -> how it compares; absent ones are left out.

    Args:
        clip: measures of the clip.
        speaker: of all clips of its speaker, the clip included; empty for an unknown speaker.
        neutral: of those among them that are labelled neutral.
    """
    found = {}
    for name, scale in SCALES.items():
        measured = getattr(clip, name)
        if measured is None:
            continue
        value = measured * scale.factor
        usual, reference, num_clips = _usual(name, scale, value, speaker, neutral)
        # Rounded as it is written down, so that a record explains its own level.
        difference = round(scale.compare(value, usual), 2)
        found[name] = Compared(
            round(value, 2), round(usual, 2), reference, num_clips, difference,
            scale.level(difference),
        )  # fmt: skip
    return found


def _usual(
    name: str,
    scale: Scale,
    value: float,
    speaker: Sequence[VoiceMeasures],
    neutral: Sequence[VoiceMeasures],
) -> tuple[float, Reference, int]:
    choices: tuple[tuple[Reference, Sequence[VoiceMeasures], int], ...] = (
        ("speaker_neutral", neutral, MIN_NEUTRAL_CLIPS),
        ("speaker_all", speaker, MIN_SPEAKER_CLIPS),
    )
    for reference, clips, least in choices:
        known = [v for v in (getattr(clip, name) for clip in clips) if v is not None]
        if len(known) >= least:
            return scale.usual(known) * scale.factor, reference, len(known)
    nearest = min(scale.population, key=lambda usual: abs(scale.compare(value, usual)))
    return nearest, "population", 0


def heard_cues(compared: Mapping[str, Compared]) -> list[HeardCue]:
    """The cues of a voice, states of rest included, in a fixed order."""
    found = []
    for name, (attribute, low, usual, high) in _CUES.items():
        if name in compared:
            at = compared[name].steps
            value = usual if at == 0 else low if at < 0 else high
            if value is not None:
                found.append(HeardCue(Cue("audio", attribute, value), abs(at) == 2))
    quality = _quality(compared)
    return found if quality is None else [*found, quality]


def _quality(compared: Mapping[str, Compared]) -> HeardCue | None:
    """Of the voice: noise in it is roughness where its periods or peaks are irregular too."""
    if "harmonicity" not in compared:
        return None
    at = compared["harmonicity"].steps
    irregular = [name in compared and compared[name].steps > 0 for name in ("jitter", "shimmer")]
    value = "ordinary" if at == 0 else "clear" if at > 0 else "breathy"
    if at < 0 and any(irregular):
        value = "rough"
    return HeardCue(Cue("audio", "voice quality", value), abs(at) == 2)
