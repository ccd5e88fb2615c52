"""Curves of training, from the figures that a run keeps in its folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from r1omni.analysis.page import Section, Text
from r1omni.analysis.runs import EvaluatedRun
from r1omni.training.logger import METRICS_FILE, read_figures
from r1omni.training.tracking import Figures

# What to draw of a GRPO run, and how to read it.
GRPO_METRICS: dict[str, tuple[str, str]] = {
    "reward": ("Reward", "weighted sum, mean over completions"),
    "rewards/accuracy/mean": ("Accuracy reward", "share of completions that are right"),
    "rewards/format/mean": ("Format reward", "format accuracy of completions"),
    "kl": ("KL to the start", "drift from the cold start, nats a token"),
    "completions/mean_length": ("Length", "of completions, mean, in tokens"),
    "entropy": ("Entropy", "of the policy, nats a token"),
}


@dataclass(frozen=True)
class Curve:
    """A metric of a run, one value a step.

    Attributes:
        steps: ascending optimizer steps.
        values: finite values.
    """

    steps: list[int]
    values: list[float]


@dataclass(frozen=True)
class RunCurves:
    """Curves of one run, or the reason why there are none.

    Attributes:
        is_grpo: whether the run has a reward.
        curves: by metric.
        missing: metrics without a finite value.
        problem: why nothing can be drawn, or "".
    """

    is_grpo: bool
    curves: dict[str, Curve]
    missing: tuple[str, ...]
    problem: str = ""


def read_curves(folder: Path) -> RunCurves:
    """The curves of a run folder."""
    file = folder / METRICS_FILE
    logged = read_figures(file)
    if not logged:
        what = "holds no figures" if file.exists() else "is missing"
        return RunCurves(False, {}, (), f"{file} {what}")
    is_grpo = any("reward" in figures.metrics for figures in logged)
    wanted = tuple(GRPO_METRICS) if is_grpo else ("loss",)
    curves = {name: curve for name in wanted if (curve := _curve(logged, name)).steps}
    return RunCurves(is_grpo, curves, tuple(name for name in wanted if name not in curves))


def _curve(logged: Sequence[Figures], name: str) -> Curve:
    """One metric; of a step that a resumed run logged again, the later value counts."""
    by_step = {
        figures.step: figures.metrics[name]
        for figures in sorted(logged, key=lambda figures: figures.time_ms)
        if math.isfinite(figures.metrics.get(name, math.nan))
    }
    steps = sorted(by_step)
    return Curve(steps, [by_step[step] for step in steps])


@dataclass(frozen=True)
class CurveChart:
    """A curve that the browser draws, as logged and smoothed.

    Attributes:
        title: what it is of.
        about: what its values are.
        curve: what was logged.
    """

    title: str
    about: str
    curve: Curve

    @property
    def series(self) -> dict[str, list[int] | list[float]]:
        """Steps, values and smoothed values, for static/curves.js."""
        values = self.curve.values
        return {"steps": self.curve.steps, "values": values, "smooth": smooth(values)}

    @property
    def spoken(self) -> str:
        """Both its ends, for those who cannot see it."""
        steps, values = self.curve.steps, self.curve.values
        ends = [f"{values[at]:.3g} at step {steps[at]}" for at in (0, -1)]
        return f"{self.title}: {ends[0]}, {ends[1]}"


@dataclass(frozen=True)
class CurveCharts:
    """Curves side by side, below a title."""

    template: ClassVar[str] = "curve_charts"
    title: str
    curves: Sequence[CurveChart]


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


def curves_section(runs: list[EvaluatedRun]) -> Section:
    """Curves of reinforcement learning, then the losses of supervised training."""
    found = [(run.model, read_curves(run.folder)) for run in runs]
    note = (
        "Against optimizer steps, as each run logged them. Thin line: the logged values. Thick "
        "line: a moving average over about an eighth of them."
    )
    parts: list[Text | CurveCharts] = [Text(note, "note")]
    for model, curves in found:
        if curves.is_grpo:
            charts = [CurveChart(*GRPO_METRICS[name], c) for name, c in curves.curves.items()]
            parts.append(CurveCharts(f"{model}: reinforcement learning", charts))
    losses = [
        CurveChart(model, "cross-entropy, nats a token", curves.curves["loss"])
        for model, curves in found
        if not curves.is_grpo and "loss" in curves.curves
    ]
    if losses:
        parts.append(CurveCharts("Supervised training: the loss", losses))
    return Section("curves", "How training went", [*parts, *_gaps(found)])


def _gaps(found: list[tuple[str, RunCurves]]) -> list[Text]:
    """What could not be drawn, and why."""
    reasons = [f"{model}: no curves, {c.problem}." for model, c in found if c.problem]
    reasons += [
        f"{model}: the run logged no value of {', '.join(c.missing)}."
        for model, c in found
        if c.missing
    ]
    return [Text(reason, "gap") for reason in reasons]
