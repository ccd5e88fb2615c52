"""Draws docs/one_step.svg, the picture of docs/one_step.md.

python scripts/one_step_picture.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from script_options import ScriptParser, file_to_write

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "one_step.svg"
WIDTH, HEIGHT = 12.4, 8.0
INK, SOFT, LINE, FROZEN = "#22262b", "#616871", "#b9b4aa", "#eceae5"
# Okabe and Ito's colours, one a prompt; and what learns.
PROMPTS = ("#0072b2", "#d55e00")
LEARNS = "#d9eee6"
# Two groups of four: tokens of each completion, what the two rewards give it, and its advantage.
LENGTHS = ((5, 3, 6, 4), (4, 6, 3, 5))
REWARDS = (((1, 1), (0, 1), (0, 1), (0, 0)), ((0, 1), (1, 1), (1, 1), (0, 1)))
LONGEST, CELL, GAP = 6, 0.27, 0.22


def draw(path: Path) -> None:
    """Write the picture."""
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "r1omni", "font.size": 10})
    plt.rcParams["font.family"] = ["DejaVu Sans"]
    figure = plt.figure(figsize=(WIDTH, HEIGHT), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
    axes.axis("off")
    _roll_out(axes)
    _score(axes)
    _update(axes)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _roll_out(axes: Axes) -> None:
    _heading(axes, 7.62, "1  Roll out", "from the policy as it is, without gradient")
    for index, colour in enumerate(PROMPTS):
        y = 6.30 - index * 1.30
        _box(axes, 0.3, y, 1.5, 0.95, "white", colour)
        _text(axes, 1.05, y + 0.62, f"clip {index + 1}", weight="bold")
        _text(axes, 1.05, y + 0.31, "and question", colour=SOFT)
    _text(axes, 1.05, 4.66, "batch, B = 2", colour=SOFT)
    _box(axes, 2.35, 5.0, 1.55, 2.25, FROZEN)
    _text(axes, 3.12, 6.55, "towers", weight="bold")
    _text(axes, 3.12, 6.22, "frozen", colour=SOFT)
    _text(axes, 3.12, 5.70, "[T, P, Dv]\n[La, Da]", colour=SOFT, size=9)
    _box(axes, 4.45, 5.0, 1.55, 2.25, LEARNS)
    _text(axes, 5.22, 6.48, "projectors,\ngate", weight="bold")
    _text(axes, 5.22, 5.70, "B rows of\n[L, D]", colour=SOFT, size=9)
    _box(axes, 6.55, 5.0, 1.55, 2.25, LEARNS)
    _text(axes, 7.32, 6.48, "language\nmodel", weight="bold")
    _text(axes, 7.32, 5.70, "prompt once,\nG = 4 drawn", colour=SOFT, size=9)
    for start in (1.8, 3.9, 6.0, 8.1):
        _arrow(axes, (start + 0.08, 6.12), (start + 0.47, 6.12))
    _tokens(axes, 8.75, 7.18)
    _text(axes, 8.75 + LONGEST * CELL / 2, 4.66, "ids, mask [N, C]", colour=SOFT)
    _text(axes, 11.45, 6.56, "N = B G\n   = 8 rows", colour=SOFT)
    _text(axes, 11.45, 5.62, "pale: after\nthe end token", colour=SOFT, size=9)


def _score(axes: Axes) -> None:
    _heading(axes, 4.22, "2  Score", "each group by itself")
    x, top = 8.95, 3.78
    _arrow(axes, (9.56, 4.5), (9.56, 4.02))
    for row, (index, member) in enumerate(_rows()):
        y = _row_y(top, row) - 0.02
        for column, value in enumerate(REWARDS[index][member]):
            shown = PROMPTS[index] if value else "white"
            _cell(axes, x + column * 0.62, y, 0.56, shown, str(value), "white" if value else INK)
    _text(axes, x + 0.28, 3.95, "right", size=9)
    _text(axes, x + 0.90, 3.95, "in form", size=9)
    _text(axes, x + 0.6, 1.20, "rewards [N, K]", colour=SOFT)
    _arrow(axes, (8.8, 2.62), (8.35, 2.62))
    middle = 7.15
    axes.plot([middle, middle], [1.42, 3.80], color=LINE, lw=1)
    for row, (index, member) in enumerate(_rows()):
        width = 0.62 * _advantage(index, member)
        y = _row_y(top, row) - 0.02
        left = middle + min(width, 0)
        axes.add_patch(Rectangle((left, y), abs(width), CELL - 0.05, color=PROMPTS[index], lw=0))
        value = _advantage(index, member)
        sign = f"{value:+.2f}" if value else "0"
        _text(axes, middle + (-0.36 if width >= 0 else 0.36), y + 0.11, sign, size=8.5)
    _text(axes, middle, 1.20, "advantages [N]", colour=SOFT)
    told = "total reward less the group's mean,\nover the group's standard deviation"
    _text(axes, middle, 0.80, told, colour=SOFT, size=9)
    _text(axes, 11.45, 2.62, "K = 2", colour=SOFT)


def _update(axes: Axes) -> None:
    _heading(axes, 4.22, "3  Update", "with gradient", x=0.3)
    _box(axes, 0.3, 3.05, 2.15, 0.72, LEARNS)
    _text(axes, 1.37, 3.50, "policy", weight="bold")
    _text(axes, 1.37, 3.22, "log p [N, C]", colour=SOFT, size=9)
    _box(axes, 0.3, 2.05, 2.15, 0.72, FROZEN)
    _text(axes, 1.37, 2.50, "reference, frozen", weight="bold")
    _text(axes, 1.37, 2.22, "log p_ref [N, C]", colour=SOFT, size=9)
    _box(axes, 3.15, 2.05, 2.45, 1.72, "white", INK)
    _text(axes, 4.37, 3.44, "terms [N, C]", weight="bold")
    _text(axes, 4.37, 3.00, "−r A + β KL")
    _text(axes, 4.37, 2.48, "mean over tokens,\nthen completions", colour=SOFT, size=9)
    _arrow(axes, (2.53, 3.41), (3.07, 3.2))
    _arrow(axes, (2.53, 2.41), (3.07, 2.62))
    _arrow(axes, (6.25, 2.62), (5.68, 2.75))
    _arrow(axes, (4.37, 1.97), (4.37, 1.62))
    _box(axes, 0.3, 0.72, 5.3, 0.82, LEARNS)
    _text(axes, 2.95, 1.26, "loss, gradient, clipped norm, AdamW", weight="bold")
    _text(axes, 2.95, 0.95, "changes projectors, gate and language model", colour=SOFT, size=9)
    for x, colour, words in ((0.3, LEARNS, "learns"), (1.5, FROZEN, "stays as it is")):
        _box(axes, x, 0.22, 0.26, 0.2, colour)
        axes.text(x + 0.36, 0.32, words, va="center", color=SOFT, fontsize=9)


def _tokens(axes: Axes, x: float, top: float) -> None:
    """The completions, a row each, pale where the mask is False."""
    for row, (index, member) in enumerate(_rows()):
        for column in range(LONGEST):
            counts = column < LENGTHS[index][member]
            shown = PROMPTS[index] if counts else "#f3f1ec"
            _cell(axes, x + column * CELL, _row_y(top, row), CELL - 0.04, shown)


def _rows() -> list[tuple[int, int]]:
    return [(index, member) for index in range(2) for member in range(4)]


def _row_y(top: float, row: int) -> float:
    """Lower edge of a row; the groups stand apart."""
    return top - (row + 1) * CELL - (GAP if row > 3 else 0)


def _advantage(index: int, member: int) -> float:
    totals = [sum(rewards) for rewards in REWARDS[index]]
    mean = sum(totals) / 4
    spread = (sum((total - mean) ** 2 for total in totals) / 3) ** 0.5
    return (totals[member] - mean) / (spread + 1e-4)


def _heading(axes: Axes, y: float, words: str, more: str, x: float | None = None) -> None:
    left = 0.3 if x is not None or y > 5 else 6.4
    axes.text(left, y, words, fontsize=13, fontweight="bold", color=INK, va="center")
    axes.text(
        left + (1.35 if words.endswith("out") else 1.22),
        y - 0.01,
        more,
        fontsize=10,
        color=SOFT,
        va="center",
    )


def _text(
    axes: Axes, x: float, y: float, words: str, *, colour: str = INK, size: float = 10,
    weight: str = "normal",
) -> None:  # fmt: skip
    axes.text(x, y, words, ha="center", va="center", color=colour, fontsize=size, fontweight=weight)


def _box(
    axes: Axes, x: float, y: float, width: float, height: float, face: str, edge: str = LINE
) -> None:
    style = f"round,pad=0,rounding_size={min(0.1, height / 4)}"
    axes.add_patch(
        FancyBboxPatch(
            (x, y), width, height, boxstyle=style, facecolor=face, edgecolor=edge, lw=1.2
        )
    )


def _cell(
    axes: Axes, x: float, y: float, width: float, face: str, words: str = "", colour: str = INK
) -> None:
    edge = "white" if face != "white" else LINE
    axes.add_patch(Rectangle((x, y), width, CELL - 0.05, facecolor=face, edgecolor=edge, lw=0.8))
    if words:
        _text(axes, x + width / 2, y + CELL / 2 - 0.03, words, colour=colour, size=9)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=12, color=SOFT, lw=1.3)
    )


if __name__ == "__main__":
    parser = ScriptParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=file_to_write, default=PICTURE)
    draw(parser.parse_args().out)
