"""The mouth of a drawn face: lips, teeth, opening and the folds around it (FACS 12 to 26)."""

from __future__ import annotations

import numpy as np

from r1omni.world.pen import ACROSS, Pen, Points, Units, crease, shade
from r1omni.world.person import Person


def draw_mouth(pen: Pen, units: Units, person: Person) -> None:
    """Lips, teeth and the opening; see the constants for what each unit moves."""
    smile, stretch = 0.5 * (units["12L"] + units["12R"]), units["20"]
    press, jaw = 0.5 * (units["23"] + units["24"]), units["26"]
    centre_y = 0.53 - 0.05 * units["17"] - 0.05 * units["10"] - 0.03 * units["15"] + 0.04 * smile
    half = 0.34 + 0.08 * smile + 0.16 * stretch - 0.10 * press - 0.10 * jaw * (1 - stretch)
    down = 0.21 * units["15"] + 0.03 * stretch
    corners = {
        -1: 0.53 - 0.21 * units["12L"] + down,
        1: 0.53 - 0.22 * units["12R"] + down - 0.04 * units["14R"],
    }
    corner = np.where(ACROSS < 0, corners[-1], corners[1])
    bend = np.abs(ACROSS) ** 1.7
    base = centre_y + (corner - centre_y) * bend
    x = half * ACROSS + 0.06 * (units["12R"] - units["12L"])
    # Stretched lips open as a rectangle, others as an almond.
    profile = 1 - np.abs(ACROSS) ** (2 + 6 * stretch)
    gap = (0.12 * units["25"] + 0.30 * jaw) * (1 - 0.7 * press)
    lip = 0.075 * (1 - 0.9 * press) * (1 - 0.35 * stretch)
    top = base - 0.05 * units["10"] - 0.25 * gap * profile
    floor = base + 0.75 * gap * profile
    thick = (1 - np.abs(ACROSS) ** 2.4) ** 0.8
    outer_top, outer_floor = top - lip * thick, floor + 1.25 * lip * thick
    if lip > 0.02:
        colour = person.lip
        pen.fill(_ribbon(x, outer_top, outer_floor), colour)
    if gap > 0.025:
        _opening(pen, x, top, floor, gap, stretch, profile)
    line = person.ink if person.style == "sketch" else shade(person.lip, 0.42)
    edge = 0.04 + 0.03 * press
    pen.line(np.stack([x, top if gap > 0.025 else 0.5 * (top + floor)], axis=1), line, edge)
    if person.style == "sketch" and gap > 0.025:
        pen.line(np.stack([x, floor], axis=1), line, 0.03)
    _mouth_folds(pen, units, person, x, base)


def _ribbon(x: np.ndarray, top: np.ndarray, floor: np.ndarray) -> Points:
    return np.vstack([np.stack([x, top], axis=1), np.stack([x, floor], axis=1)[::-1]])


def _opening(
    pen: Pen,
    x: np.ndarray,
    top: np.ndarray,
    floor: np.ndarray,
    gap: float,
    stretch: float,
    profile: np.ndarray,
) -> None:
    """Inside of an open mouth: dark, upper teeth, clenched teeth when stretched, a tongue."""
    pen.fill(_ribbon(x, top, floor), (62, 14, 20))
    teeth = min(0.8 * gap, 0.07 + 0.05 * stretch)
    pen.fill(_ribbon(x * 0.92, top, top + teeth * profile), (250, 248, 240))
    if stretch > 0.3 and gap > 0.2:
        pen.fill(_ribbon(x * 0.9, floor - 0.06 * profile, floor), (250, 248, 240))
    elif gap > 0.2:
        pen.disc((float(x.mean()), float(floor.max()) - 0.06), (0.11, 0.05), (196, 84, 92))


def _mouth_folds(pen: Pen, units: Units, person: Person, x: np.ndarray, base: np.ndarray) -> None:
    """Dimple (14), folds beside lowered corners (15), chin boss (17), bulges of pressed lips."""
    line = crease(person)
    press = 0.5 * (units["23"] + units["24"])
    if units["14R"] > 0.3:
        pen.curve((x[-1] + 0.05, base[-1] - 0.08), (x[-1] + 0.11, base[-1] + 0.01),
                  (x[-1] + 0.05, base[-1] + 0.1), line, 0.04)  # fmt: skip
    for side, end in ((-1, 0), (1, -1)):
        if units["15"] > 0.3:
            pen.line(np.array([[x[end], base[end]], [x[end] + side * 0.03, base[end] + 0.1]]),
                     line, 0.03)  # fmt: skip
        if press > 0.3:
            pen.line(np.array([[x[end] + side * 0.03, base[end] - 0.07],
                               [x[end] + side * 0.03, base[end] + 0.07]]), line, 0.035)  # fmt: skip
    if press > 0.3:
        pen.curve((-0.17, 0.63), (0, 0.67), (0.17, 0.63), line, 0.03)
    if units["17"] > 0.3:
        pen.curve((-0.13, 0.78), (0, 0.68), (0.13, 0.78), line, 0.03)
