"""Curves of training, from the figures that a run keeps in its folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from r1omni.analysis.charts import line_chart
from r1omni.analysis.markup import paragraph, section
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


def curves_section(runs: list[EvaluatedRun]) -> str:
    """Curves of reinforcement learning, then the losses of supervised training."""
    found = [(run.model, read_curves(run.folder)) for run in runs]
    grpo = [(model, curves) for model, curves in found if curves.is_grpo]
    parts = [
        paragraph(
            "Against optimizer steps, as each run logged them. Thin line: the logged values. "
            "Thick line: a moving average over about an eighth of them.",
            "note",
        )
    ]
    for model, curves in grpo:
        charts = [_figure(*GRPO_METRICS[name], curve) for name, curve in curves.curves.items()]
        parts += [f"<h3>{escape(model)}: reinforcement learning</h3>", _grid(charts)]
    losses = [
        _figure(model, "cross-entropy, nats a token", curves.curves["loss"])
        for model, curves in found
        if not curves.is_grpo and "loss" in curves.curves
    ]
    if losses:
        parts += ["<h3>Supervised training: the loss</h3>", _grid(losses)]
    parts += _gaps(found)
    return section("curves", "How training went", *parts)


def _gaps(found: list[tuple[str, RunCurves]]) -> list[str]:
    """What could not be drawn, and why."""
    reasons = [f"{model}: no curves, {c.problem}." for model, c in found if c.problem]
    reasons += [
        f"{model}: the run logged no value of {', '.join(c.missing)}."
        for model, c in found
        if c.missing
    ]
    return [paragraph(reason, "gap") for reason in reasons]


def _figure(title: str, explanation: str, curve: Curve) -> str:
    return (
        f'<figure class="curve"><figcaption><strong>{escape(title)}</strong> {escape(explanation)}'
        f"</figcaption>{line_chart(title, curve.steps, curve.values)}</figure>"
    )


def _grid(figures: list[str]) -> str:
    return f'<div class="grid3">{"".join(figures)}</div>'
