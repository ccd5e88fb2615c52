"""The reliability diagram: how often answers of a confidence are right."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np

from r1omni.metrics.calibration import NUM_BINS, Calibration

_COLOURS = ("#1b6ca8", "#c8553d")


def reliability_svg(title: str, curves: Mapping[str, Calibration]) -> str:
    """An SVG image of the diagram with a histogram of the answers below it.

    Args:
        title: above the diagram.
        curves: the ways to answer, by name; at most two.
    """
    # Not before a diagram is wanted: the library takes half a second.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # Text as text and no date or random names: equal figures are equal files.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 9}):
        figure = Figure(figsize=(3.6, 4.2), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        above.plot([0, 1], [0, 1], color="#888888", linewidth=0.8, linestyle="--")
        width = 1 / NUM_BINS / (len(curves) + 0.5)
        for index, (name, curve) in enumerate(curves.items()):
            colour, seen = _COLOURS[index], [b for b in curve.bins if b.n]
            above.plot(
                [b.confidence for b in seen],
                [b.accuracy for b in seen],
                color=colour, marker="o", markersize=4, linewidth=1.2, clip_on=False,
                label=f"{name}: ECE {100 * curve.ece:.1f}",
            )  # fmt: skip
            places = (np.arange(NUM_BINS) + 0.5) / NUM_BINS + (
                index - (len(curves) - 1) / 2
            ) * width
            below.bar(places, [b.n for b in curve.bins], width, color=colour)
        figure.suptitle(title, fontsize=10)
        figure.legend(loc="outside lower center", ncols=len(curves), frameon=False)
        above.set(xlim=(0, 1), ylim=(0, 1), ylabel="share right")
        below.set(xlabel="confidence", ylabel="answers")
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()
