"""People of the mini-world: how somebody looks and speaks before feeling anything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Colour = tuple[int, int, int]

_SKIN: tuple[Colour, ...] = (
    (247, 214, 186), (236, 188, 152), (219, 166, 124), (188, 132, 92), (152, 102, 68),
    (134, 92, 66), (242, 200, 170), (205, 150, 110),
)  # fmt: skip
_HAIR: tuple[Colour, ...] = (
    (38, 28, 24), (74, 48, 30), (120, 78, 40), (176, 132, 72), (150, 60, 34), (96, 92, 92),
)  # fmt: skip
# The second drawing style: paper and ink, tints that no person of the first style has.
_PAPER: tuple[Colour, ...] = (
    (238, 236, 226), (214, 226, 236), (228, 214, 234), (216, 234, 214), (246, 228, 206),
)  # fmt: skip
_INK: tuple[Colour, ...] = ((24, 24, 44), (46, 22, 22), (18, 42, 36))


@dataclass(frozen=True)
class Person:
    """A face and a vocal tract.

    Attributes:
        style: "painted" (training sets) or "sketch" (RAVDESS, out of distribution).
        base_pitch_hz: the speaker's own mean fundamental frequency.
        formant_scale: formant frequencies over those of an average male tract.
        skin, hair, lip, iris, ink: RGB; ink draws lines.
        background: two RGB colours of a vertical gradient.
        hair_style: 0 short, 1 long, 2 bald, 3 parted.
        width: half-width of the head over half its height.
        squareness: exponent of the head's superellipse (2 is an ellipse).
        brow_px: thickness of the brows as a share of half the head's height.
        eye_scale: size of the eyes over the average.
        light: change of brightness across the frame, from -0.25 to 0.25, x then y.
    """

    style: str
    female: bool
    base_pitch_hz: float
    formant_scale: float
    skin: Colour
    hair: Colour
    lip: Colour
    iris: Colour
    ink: Colour
    background: tuple[Colour, Colour]
    hair_style: int
    glasses: bool
    width: float
    squareness: float
    brow_px: float
    eye_scale: float
    light: tuple[float, float]


@dataclass(frozen=True)
class Take:
    """What differs from one recording of a person to the next.

    Attributes:
        intensity: apex strength of the expression, 0.6 to 1.
        onset, offset: shares of the clip at which the apex is reached and left.
        rest: strength that remains at the first and the last frame, as a share of the apex.
        shift: position of the head in half-heads, x then y.
        roll_deg: tilt of the head in degrees.
        scale: size of the head over the usual one.
        sway: amplitude of the slow sway in half-heads; `phase` in radians.
        mirrored: whether the one-sided smile is on the left of the image.
    """

    intensity: float
    onset: float
    offset: float
    rest: float
    shift: tuple[float, float]
    roll_deg: float
    scale: float
    sway: float
    phase: float
    mirrored: bool


def _mix(one: Colour, two: Colour, share: float) -> Colour:
    red, green, blue = (round(a * (1 - share) + b * share) for a, b in zip(one, two, strict=True))
    return (red, green, blue)


def _random_colour(rng: np.random.Generator, low: int, high: int) -> Colour:
    red, green, blue = (int(value) for value in rng.integers(low, high, 3))
    return (red, green, blue)


def draw_person(
    rng: np.random.Generator, *, style: str = "painted", female: bool | None = None
) -> Person:
    """A new person; in the "sketch" style faces, colours and voice ranges are others."""
    female = bool(rng.random() < 0.5) if female is None else female
    sketch = style == "sketch"
    if sketch:
        base = rng.uniform(234, 250) if female else rng.uniform(88, 97)
        tract = rng.uniform(1.22, 1.27) if female else rng.uniform(0.93, 0.97)
        skin = _PAPER[rng.integers(len(_PAPER))]
        ink = _INK[rng.integers(len(_INK))]
        hair, iris = _mix(ink, _random_colour(rng, 30, 200), 0.45), ink
        lip = _mix(skin, (150, 70, 80), 0.45)
        top = _random_colour(rng, 205, 250)
        background = (top, _mix(top, (160, 160, 160), 0.3))
    else:
        base = rng.uniform(200, 230) if female else rng.uniform(100, 120)
        tract = rng.uniform(1.13, 1.2) if female else rng.uniform(0.98, 1.04)
        skin = _mix(_SKIN[rng.integers(len(_SKIN))], _random_colour(rng, 90, 230), 0.06)
        hair = _mix(_HAIR[rng.integers(len(_HAIR))], _random_colour(rng, 20, 120), 0.15)
        ink = _mix((44, 24, 20), hair, 0.2)
        iris = _random_colour(rng, 25, 95)
        lip = _mix(skin, (170, 40, 52), 0.62 if female else 0.42)
        top = _random_colour(rng, 40, 235)
        background = (top, _random_colour(rng, 30, 220))
    return Person(
        style=style,
        female=female,
        base_pitch_hz=float(base),
        formant_scale=float(tract),
        skin=skin,
        hair=hair,
        lip=lip,
        iris=iris,
        ink=ink,
        background=background,
        hair_style=int(rng.choice((1, 3, 0) if female else (0, 2, 3))),
        glasses=bool(rng.random() < 0.2),
        width=float(rng.uniform(0.86, 0.98) if sketch else rng.uniform(0.76, 0.88)),
        squareness=float(rng.uniform(2.9, 3.6) if sketch else rng.uniform(2.0, 2.5)),
        brow_px=float(rng.uniform(0.085, 0.105) if sketch else rng.uniform(0.095, 0.125)),
        eye_scale=float(rng.uniform(0.98, 1.1) if sketch else rng.uniform(0.94, 1.08)),
        light=(float(rng.uniform(-0.2, 0.2)), float(rng.uniform(-0.15, 0.15))),
    )


def draw_take(rng: np.random.Generator, *, strong: bool | None = None) -> Take:
    """A recording's timing and pose; `strong` is RAVDESS's level, None draws the whole range."""
    low, high = {None: (0.6, 1.0), False: (0.6, 0.8), True: (0.8, 1.0)}[strong]
    return Take(
        intensity=float(rng.uniform(low, high)),
        onset=float(rng.uniform(0.12, 0.3)),
        offset=float(rng.uniform(0.76, 0.92)),
        rest=float(rng.uniform(0.15, 0.45)),
        shift=(float(rng.uniform(-0.09, 0.09)), float(rng.uniform(-0.06, 0.06))),
        roll_deg=float(rng.uniform(-8, 8)),
        scale=float(rng.uniform(0.92, 1.06)),
        sway=float(rng.uniform(0.0, 0.03)),
        phase=float(rng.uniform(0, 2 * np.pi)),
        mirrored=bool(rng.random() < 0.5),
    )


def strength_at(take: Take, share: float) -> float:
    """Onset, apex, offset: intensity of the expression at `share` (0..1) of the clip."""
    if share < take.onset:
        level = take.rest + (1 - take.rest) * _smooth(share / take.onset)
    elif share > take.offset:
        level = 1 - (1 - take.rest) * _smooth((share - take.offset) / (1 - take.offset))
    else:
        level = 1.0
    return take.intensity * level


def _smooth(x: float) -> float:
    return x * x * (3 - 2 * x)
