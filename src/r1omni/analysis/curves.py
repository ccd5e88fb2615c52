"""Curves of training, read from MLflow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from r1omni.analysis.charts import line_chart
from r1omni.analysis.markup import paragraph, section
from r1omni.analysis.runs import EvaluatedRun
from r1omni.training.logger import RUN_ID_FILE

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
        missing: metrics without a value.
        problem: why nothing can be drawn, or "".
    """

    is_grpo: bool
    curves: dict[str, Curve]
    missing: tuple[str, ...]
    problem: str = ""


def read_curves(folder: Path, tracking_uri: str) -> RunCurves:
    """The curves of a run folder; never fails because of the store."""
    file = folder / RUN_ID_FILE
    if not file.is_file():
        return _nothing(f"{file} is missing, so its run in MLflow is unknown")
    store = Path(tracking_uri.removeprefix("sqlite:///"))
    if tracking_uri.startswith("sqlite:///") and not store.is_file():
        return _nothing(f"there is no MLflow store at {tracking_uri}")
    run_id = file.read_text(encoding="utf-8").strip()
    try:
        client = MlflowClient(tracking_uri)
        logged = client.get_run(run_id).data.metrics
        is_grpo = "reward" in logged
        wanted = tuple(GRPO_METRICS) if is_grpo else ("loss",)
        found = {name: _curve(client, run_id, name) for name in wanted if name in logged}
    except MlflowException as error:
        reason = str(error).splitlines()[0]
        return _nothing(f"run {run_id} cannot be read from {tracking_uri} ({reason})")
    curves = {name: curve for name, curve in found.items() if curve.steps}
    return RunCurves(is_grpo, curves, tuple(name for name in wanted if name not in curves))


def _nothing(problem: str) -> RunCurves:
    return RunCurves(False, {}, (), problem)


def _curve(client: MlflowClient, run_id: str, name: str) -> Curve:
    """One metric; of a step that a resumed run logged again, the later value counts."""
    history = sorted(client.get_metric_history(run_id, name), key=lambda m: m.timestamp)
    by_step = {m.step: m.value for m in history if math.isfinite(m.value)}
    steps = sorted(by_step)
    return Curve(steps, [by_step[step] for step in steps])


def curves_section(runs: list[EvaluatedRun], tracking_uri: str) -> str:
    """Curves of reinforcement learning, then the losses of supervised training."""
    found = [(run.model, read_curves(run.folder, tracking_uri)) for run in runs]
    grpo = [(model, curves) for model, curves in found if curves.is_grpo]
    parts = [
        paragraph(
            "Against optimizer steps, as logged to MLflow. Thin line: the logged values. "
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
        f"{model}: MLflow holds no value of {', '.join(c.missing)}."
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
