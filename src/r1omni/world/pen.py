"""Drawing in the face's own coordinates.

Coordinates are half-heads: x to the right, y down, the head's centre at (0, 0), its top at
y = -1 and its chin at y = 1.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from r1omni.world.person import Colour, Person

_ANGLES = np.linspace(0, 2 * np.pi, 21)[:-1]
CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)  # float64 [20, 2]
ACROSS = np.linspace(-1, 1, 15)  # from the left corner of an eye or the mouth to the right one
_BEND = np.linspace(0, 1, 9)[:, None]
Points = np.ndarray  # float64 [K, 2] in half-heads
Units = dict[str, float]  # intensity 0..1 of each action unit


class Pen:
    """Draws half-head coordinates on an enlarged image.

    Args:
        image: RGB image, drawn on in place.
        centre: position of the head's centre in enlarged pixels.
        scale: enlarged pixels in a half-head.
        roll_deg: rotation of the head, clockwise.
    """

    def __init__(
        self, image: Image.Image, centre: tuple[float, float], scale: float, roll_deg: float
    ) -> None:
        self._draw = ImageDraw.Draw(image)
        self._scale = scale
        angle = np.deg2rad(roll_deg)
        self._turn = scale * np.array(
            [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
        )
        self._centre = np.array(centre)

    def _place(self, points: Points) -> list[tuple[float, float]]:
        return [(x, y) for x, y in (points @ self._turn + self._centre).tolist()]

    def fill(self, points: Points, colour: Colour) -> None:
        self._draw.polygon(self._place(points), fill=colour)

    def disc(self, centre: tuple[float, float], radii: tuple[float, float], colour: Colour) -> None:
        self.fill(CIRCLE * radii + centre, colour)

    def line(self, points: Points, colour: Colour, width: float) -> None:
        pixels = max(2, round(width * self._scale))
        self._draw.line(self._place(points), fill=colour, width=pixels, joint="curve")

    def curve(
        self,
        start: tuple[float, float],
        middle: tuple[float, float],
        end: tuple[float, float],
        colour: Colour,
        width: float,
    ) -> None:
        """Quadratic Bezier curve with `middle` as its control point."""
        one, two, three = np.array(start), np.array(middle), np.array(end)
        points = (1 - _BEND) ** 2 * one + 2 * _BEND * (1 - _BEND) * two + _BEND**2 * three
        self.line(points, colour, width)


def shade(colour: Colour, factor: float) -> Colour:
    """`colour` darker (factor below 1) or lighter."""
    red, green, blue = (min(255, int(channel * factor)) for channel in colour)
    return (red, green, blue)


def crease(person: Person) -> Colour:
    """Colour of wrinkles and folds; on dark skin the step down has to be larger to be seen."""
    if person.style == "sketch":
        return person.ink
    return shade(person.skin, 0.4 if sum(person.skin) < 400 else 0.58)
