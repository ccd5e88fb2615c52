"""Charts as inline SVG, coloured by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from r1omni.metrics.resampling import Interval

_WIDTH = 360


@dataclass(frozen=True)
class Dot:
    """One row of a dot chart; shares between 0 and 1.

    Attributes:
        name: of the row.
        share: the figure, or None where it is missing.
        interval: its 95% interval, or None.
        paper: the paper's figure, or None.
        emphasis: whether the row is the one that the report is about.
    """

    name: str
    share: float | None
    interval: Interval | list[float] | None
    paper: float | None
    emphasis: bool = False


def dot_chart(title: str, dots: list[Dot], chance: float, ceiling: float | None) -> str:
    """A row a model, with its interval and the paper's figure; chance and ceiling as lines."""
    left, right, top, line = 118, 14, 8, 34
    bottom = top + line * len(dots)
    height = bottom + 34

    def x(share: float) -> float:
        return left + share * (_WIDTH - left - right)

    parts = []
    for tick in (0, 25, 50, 75, 100):
        parts.append(
            f'<line class="grid" x1="{x(tick / 100):.1f}" x2="{x(tick / 100):.1f}" '
            f'y1="{top}" y2="{bottom}"/>'
            f'<text class="tick" x="{x(tick / 100):.1f}" y="{bottom + 15}" '
            f'text-anchor="middle">{tick}</text>'
        )
    parts.append(
        f'<text class="tick" x="{x(0.5):.1f}" y="{bottom + 30}" text-anchor="middle">WAR, %</text>'
    )
    for share, kind in ((chance, "chance"), (ceiling, "ceiling")):
        if share is not None:
            parts.append(
                f'<line class="{kind}" x1="{x(share):.1f}" x2="{x(share):.1f}" '
                f'y1="{top}" y2="{bottom}"/>'
            )
    for index, dot in enumerate(dots):
        parts += _dot_row(dot, top + line * (index + 0.5), x, left)
    spoken = "; ".join(f"{d.name} {100 * d.share:.1f}%" for d in dots if d.share is not None)
    return _svg(f"{title}: {spoken}", height, parts)


def _dot_row(dot: Dot, y: float, x: Callable[[float], float], left: int) -> list[str]:
    """The name, the paper's diamond, the interval and the dot of one row around height `y`."""
    kind = "subject" if dot.emphasis else "other"
    parts = [
        f'<text class="name {kind}" x="{left - 10}" y="{y + 4:.1f}" '
        f'text-anchor="end">{escape(dot.name)}</text>'
    ]
    if dot.paper is not None:
        a, b = x(dot.paper), y + 9
        parts.append(
            f'<path class="paper" d="M{a:.1f} {b - 4:.1f}l4 4l-4 4l-4 -4z">'
            f"<title>the paper's {escape(dot.name)}: {100 * dot.paper:.1f}%</title></path>"
        )
    if dot.interval is not None:
        low, high = (x(end) for end in dot.interval)
        parts.append(
            f'<line class="interval {kind}" x1="{low:.1f}" x2="{high:.1f}" '
            f'y1="{y - 3:.1f}" y2="{y - 3:.1f}"/>'
        )
    if dot.share is not None:
        parts.append(
            f'<circle class="dot {kind}" cx="{x(dot.share):.1f}" cy="{y - 3:.1f}" r="4.5">'
            f"<title>{escape(dot.name)}: {100 * dot.share:.1f}%</title></circle>"
        )
    return parts


def line_chart(title: str, steps: list[int], values: list[float]) -> str:
    """Values against optimizer steps: thin as logged, thick smoothed."""
    left, right, top, plot_height = 46, 12, 8, 128
    bottom = top + plot_height
    ticks = nice_ticks(min(values), max(values))
    low, high = min(ticks[0], min(values)), max(ticks[-1], max(values))
    first, last = steps[0], max(steps[-1], steps[0] + 1)

    def points(series: list[float]) -> str:
        return " ".join(
            f"{left + (step - first) / (last - first) * (_WIDTH - left - right):.1f},"
            f"{bottom - (value - low) / (high - low) * plot_height:.1f}"
            for step, value in zip(steps, series, strict=True)
        )

    parts = []
    for tick in ticks:
        y = bottom - (tick - low) / (high - low) * plot_height
        parts.append(
            f'<line class="grid" x1="{left}" x2="{_WIDTH - right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    for step, x, anchor in (
        (first, left, "start"),
        (last, _WIDTH - right, "end"),
    ):
        parts.append(
            f'<text class="tick" x="{x}" y="{bottom + 17}" text-anchor="{anchor}">'
            f"{'step ' if anchor == 'start' else ''}{step}</text>"
        )
    if len(steps) == 1:
        place = dict(zip(("cx", "cy"), points(values).split(","), strict=True))
        parts.append('<circle class="dot subject" cx="{cx}" cy="{cy}" r="3"/>'.format(**place))
    else:
        parts.append(f'<polyline class="raw" points="{points(values)}"/>')
        parts.append(f'<polyline class="smooth" points="{points(smooth(values))}"/>')
    spoken = f"{title}: {values[0]:.3g} at step {first}, {values[-1]:.3g} at step {steps[-1]}"
    return _svg(spoken, bottom + 24, parts)


def smooth(values: list[float]) -> list[float]:
    """Straight lines fitted to the neighbours of each point, about an eighth of all points.

    Away from the ends this is the centred moving average; at the ends it keeps the slope.
    """
    series = np.asarray(values, dtype=np.float64)
    half = len(series) // 16 + 1
    smoothed = []
    for index in range(len(series)):
        first = max(index - half, 0)
        window = series[first : index + half + 1]
        places = np.arange(len(window)) - (len(window) - 1) / 2
        slope = float(places @ window) / max(float(places @ places), 1.0)
        middle = first + (len(window) - 1) / 2
        smoothed.append(float(window.mean()) + slope * (index - middle))
    return smoothed


def nice_ticks(low: float, high: float, num_wanted: int = 4) -> list[float]:
    """Round numbers that span [low, high]."""
    if high <= low:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    rough = (high - low) / num_wanted
    magnitude = 10 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def waveform_chart(samples: NDArray[np.float32], seconds: float, title: str) -> str:
    """The envelope of a waveform [S], scaled to its own peak."""
    height, num_bins = 48, 180
    peaks = [
        float(np.abs(piece).max()) if piece.size else 0.0
        for piece in np.array_split(samples, num_bins)
    ]
    loudest = max([*peaks, 1e-6])
    bars = "".join(
        f"M{index * _WIDTH / num_bins + 1:.1f} {height / 2 - reach:.1f}v{2 * reach:.1f}"
        for index, peak in enumerate(peaks)
        for reach in [max(peak / loudest * (height / 2 - 2), 0.4)]
    )
    return _svg(f"{title}, {seconds:.1f} s", height, [f'<path class="wave" d="{bars}"/>'])


def _svg(title: str, height: float, parts: list[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )
