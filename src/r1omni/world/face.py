"""A cartoon face drawn from facial action units.

Units are those of FACS (Ekman & Friesen 1978); displacements are exaggerated the way a cartoon
exaggerates them, because the model sees four frames of 64 pixels. Everything is drawn three
times too large with Pillow and reduced, which anti-aliases it.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from r1omni.world.mouth import draw_mouth
from r1omni.world.pen import ACROSS, CIRCLE, Pen, Units, crease, shade
from r1omni.world.person import Person

SUPERSAMPLING = 3


def draw_face(
    units: Units,
    person: Person,
    *,
    size: tuple[int, int],
    shift: tuple[float, float] = (0.0, 0.0),
    roll_deg: float = 0.0,
    scale: float = 1.0,
    mirrored: bool = False,
) -> np.ndarray:
    """Draw one frame.

    Args:
        units: intensity 0..1 of each name in `r1omni.world.cues.ACTION_UNITS`.
        size: width and height in pixels.
        shift: position of the head in half-heads; `scale` its size over the usual one.
        mirrored: swap the sides of the image, which moves a one-sided smile.

    Returns:
        uint8 [height, width, 3].
    """
    width, height = size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING
    image = Image.new("RGB", (width, height), person.background[0])
    half_head = 0.46 * min(width, height) * scale
    centre = (width / 2 + shift[0] * half_head, height * 0.505 + shift[1] * half_head)
    pen = Pen(image, centre, half_head, roll_deg)
    _background(image, person)
    _head(pen, units, person)
    _eyes(pen, units, person)
    _wrinkles(pen, units, person)
    _nose(pen, units, person)
    draw_mouth(pen, units, person)
    _brows(pen, units, person)
    small = np.asarray(image.reduce(SUPERSAMPLING))
    if mirrored:
        small = small[:, ::-1]
    return _light(small, person.light)


def _background(image: Image.Image, person: Person) -> None:
    top, bottom = person.background
    ramp = np.linspace(0, 1, 8)[:, None]
    strip = ((1 - ramp) * np.array(top) + ramp * np.array(bottom)).astype(np.uint8)[:, None]
    image.paste(Image.fromarray(strip).resize(image.size, Image.Resampling.NEAREST))


def _light(frame: np.ndarray, light: tuple[float, float]) -> np.ndarray:
    """Brightness gradient over the frame; `light` is the change from middle to edge, x and y."""
    height, width = frame.shape[:2]
    gain = (
        1
        + light[0] * np.linspace(-1, 1, width)[None]
        + light[1] * np.linspace(-1, 1, height)[:, None]
    )
    return np.clip(frame * gain[..., None].astype(np.float32), 0, 255).astype(np.uint8)


def _head(pen: Pen, units: Units, person: Person) -> None:
    angle = np.linspace(0, 2 * np.pi, 41)[:-1]
    power = 2.0 / person.squareness
    x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power
    y = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power
    lower = np.clip(y, 0, 1)
    sketch = person.style == "sketch"
    x = person.width * x * (1 - (0.1 if sketch else 0.2) * lower**2)
    drop = 0.1 * units["26"] - 0.04 * units["17"]
    outline = np.stack([x, 0.94 * y + drop * lower], axis=1)
    if person.hair_style == 1:
        pen.disc((0, -0.05), (person.width * 1.2, 1.05), person.hair)
        pen.fill(np.array([[-1.15, 0], [1.15, 0], [1.2, 2.2], [-1.2, 2.2]]) * [person.width, 1],
                 person.hair)  # fmt: skip
    elif person.hair_style != 2:
        pen.disc((0, -0.3), (person.width * 1.09, 0.78), person.hair)
    for side in (-1, 1):
        pen.disc((side * person.width, 0.05), (0.1, 0.17), shade(person.skin, 0.88))
    neck = np.array([[-0.42, 0.6], [0.42, 0.6], [0.5, 2.2], [-0.5, 2.2]])
    pen.fill(neck, shade(person.skin, 0.8))
    pen.fill(outline, person.skin)
    if sketch:
        pen.line(np.vstack([outline, outline[:2]]), person.ink, 0.035)
    if person.hair_style != 2:
        _fringe(pen, person)


def _fringe(pen: Pen, person: Person) -> None:
    """Hair over the forehead; it ends above the highest place a raised brow reaches."""
    w = person.width
    if person.style == "sketch":
        teeth = np.linspace(-1, 1, 9)
        y = np.where(np.arange(9) % 2 == 0, -0.74, -0.86)
        y[[0, -1]] = -0.45
        edge = np.stack([teeth * w, y], axis=1)
    elif person.hair_style == 3:
        edge = np.array([[-w, -0.3], [-0.8 * w, -0.62], [-0.3, -0.86], [0.1, -0.76], [w, -0.4]])
    else:
        edge = np.array([[-w, -0.3], [-0.8 * w, -0.66], [0, -0.79], [0.8 * w, -0.66], [w, -0.3]])
    crown = CIRCLE[10:] * [w * 1.06, 0.72] + [0, -0.34]
    pen.fill(np.vstack([edge[::-1], crown[1:-1]]), person.hair)


def _eye_lids(units: Units, person: Person) -> tuple[float, float, float]:
    """Half-width of an eye and how far its upper and lower lids stand from its centre."""
    upper = 0.14 * (1 + 0.85 * units["5"] - 0.80 * units["7"] - 1.25 * units["43"])
    lower = 0.1 * (1 + 0.55 * units["5"] - 0.75 * units["7"] - 0.35 * units["6"])
    size = person.eye_scale
    return 0.235 * size, max(upper, -0.03) * size, max(lower, 0.01) * size


def _eyes(pen: Pen, units: Units, person: Person) -> None:
    wide, upper, lower = _eye_lids(units, person)
    arch = 1 - ACROSS**2
    sketch = person.style == "sketch"
    for side in (-1, 1):
        x, y = side * 0.38, -0.12
        top = np.stack([x + ACROSS * wide, y - upper * arch**0.75], axis=1)
        bottom = np.stack([x + ACROSS * wide, y + lower * arch**0.75], axis=1)
        opening = np.vstack([top, bottom[::-1]])
        lid = np.stack(
            [
                x + ACROSS * wide * 1.1,
                y - (0.14 + 0.04 * units["43"]) * person.eye_scale * arch**0.6,
            ],
            axis=1,
        )
        if not sketch:
            pen.fill(np.vstack([lid, bottom[::-1]]), shade(person.skin, 0.86 - 0.2 * units["43"]))
        pen.fill(opening, (250, 250, 246))
        radius = (0.085 if sketch else 0.115) * person.eye_scale
        iris = CIRCLE * radius + [x, y]
        limit = np.interp(iris[:, 0], top[:, 0], top[:, 1])
        floor = np.interp(iris[:, 0], bottom[:, 0], bottom[:, 1])
        iris[:, 1] = np.clip(iris[:, 1], limit, np.maximum(limit, floor))
        pen.fill(iris, person.iris)
        if not sketch and upper > 0.07:
            pen.disc((x + 0.03, y - 0.04), (0.022, 0.022), (255, 255, 255))
        pen.line(top, person.ink, 0.05)
        pen.line(bottom, shade(person.skin, 0.5) if not sketch else person.ink, 0.024)
        if person.glasses:
            ring = CIRCLE * [0.32, 0.29] + [x, y + 0.01]
            pen.line(np.vstack([ring, ring[:2]]), (30, 30, 36), 0.03)
    if person.glasses:
        pen.curve((-0.07, -0.14), (0, -0.19), (0.07, -0.14), (30, 30, 36), 0.03)


def _brows(pen: Pen, units: Units, person: Person) -> None:
    """Brows: 1 lifts the inner end, 2 the outer, 4 lowers and draws the inner ends together."""
    one, two, four = units["1"], units["2"], units["4"]
    oblique = min(one, four)
    colour = person.ink if person.style == "sketch" else shade(person.hair, 0.62)
    for side in (-1, 1):
        inner = (0.16 - 0.09 * four, -0.42 - 0.16 * one + 0.19 * four - 0.17 * oblique)
        middle = (0.38 - 0.03 * four, -0.47 - 0.08 * one - 0.13 * two + 0.11 * four
                  + 0.05 * oblique)  # fmt: skip
        outer = (0.63, -0.39 - 0.14 * two - 0.04 * four + 0.18 * oblique)
        points = np.array([inner, middle, outer]) * [side, 1]
        if person.style == "sketch":
            pen.line(points, colour, person.brow_px)
        else:
            control = 2 * points[1] - 0.5 * (points[0] + points[2])
            pen.curve(tuple(points[0]), tuple(control), tuple(points[2]), colour, person.brow_px)


def _wrinkles(pen: Pen, units: Units, person: Person) -> None:
    """Forehead, glabella, crow's feet and the folds from nose to mouth."""
    line = crease(person)
    raised, smile = min(units["1"], units["2"]), 0.5 * (units["12L"] + units["12R"])
    if raised > 0.3:
        for y in (-0.70, -0.63):
            pen.curve((-0.3, y), (0, y - 0.03), (0.3, y), line, 0.022 * (0.5 + raised))
    if units["4"] > 0.3:
        for side in (-1, 1):
            pen.line(np.array([[side * 0.045, -0.42], [side * 0.06, -0.26]]), line, 0.03)
    for side in (-1, 1):
        if units["6"] > 0.15:
            pen.curve((side * 0.2, 0.07), (side * 0.36, 0.12 - 0.03 * units["6"]),
                      (side * 0.54, 0.03), line, 0.03)  # fmt: skip
            if person.style != "sketch":
                blush = tuple(int(0.8 * a + 0.2 * b) for a, b in
                              zip(person.skin, (225, 80, 80), strict=True))  # fmt: skip
                pen.disc((side * 0.5, 0.24), (0.15, 0.1), (blush[0], blush[1], blush[2]))
        if units["43"] > 0.2:
            pen.curve((side * 0.22, 0.04), (side * 0.36, 0.1), (side * 0.5, 0.03), line, 0.022)
        up = units["12R"] if side > 0 else units["12L"]
        if max(up, units["9"]) > 0.3:
            pen.curve((side * 0.2, 0.2), (side * 0.38, 0.26), (side * (0.44 + 0.04 * smile), 0.46),
                      line, 0.03)  # fmt: skip


def _nose(pen: Pen, units: Units, person: Person) -> None:
    """Nose; 9 pulls it up and wrinkles its root, 10 lifts the wings."""
    wrinkle = units["9"]
    line = crease(person)
    tip = 0.22 - 0.10 * wrinkle
    wing = 0.12 + 0.06 * wrinkle
    if person.style == "sketch":
        pen.line(np.array([[0.03, -0.12], [0.1, tip], [-0.05, tip + 0.02]]), line, 0.03)
    else:
        pen.disc((0, tip - 0.03), (wing, 0.09), shade(person.skin, 0.9))
        pen.curve((-wing, tip), (0, tip + 0.12), (wing, tip), line, 0.03)
    for side in (-1, 1):
        pen.disc((side * 0.055, tip + 0.02), (0.028, 0.02), shade(person.skin, 0.4))
        if wrinkle > 0.2:
            pen.curve((side * wing, tip - 0.1), (side * (wing + 0.09), tip - 0.02),
                      (side * (wing + 0.01), tip + 0.07), line, 0.035)  # fmt: skip
    if wrinkle > 0.2:
        for y in (-0.17, -0.09, -0.01):
            pen.line(np.array([[-0.13, y - 0.05], [0, y + 0.02], [0.13, y - 0.05]]),
                     shade(person.skin, 0.45), 0.02 + 0.025 * wrinkle)  # fmt: skip
