"""A run's figures: in a file of its folder, and in MLflow as far as the store can be had."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from lightning.pytorch.loggers import Logger

from r1omni.options import SECONDS, Range, Ranges, at_least, check_options
from r1omni.training.tracking import Figures, StoreAway, TrackingStore
from r1omni.types import UsageError

RUN_ID_FILE = "mlflow_run_id.txt"
METRICS_FILE = "metrics.jsonl"
# Texts that MLflow does not have yet.
_UNSENT = "mlflow_unsent"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeepBest:
    """Which validation has the best model.

    Attributes:
        metric: a figure of validation as it is logged, such as `val/dfew/uar`.
        mode: "max" or "min", which value is the best.

    Raises:
        UsageError: an unknown mode.
    """

    metric: str
    mode: Literal["max", "min"] = "max"

    def __post_init__(self) -> None:
        check_options(self, "run.keep_best.")

    def is_better(self, value: float, best: float) -> bool:
        """Whether a value beats the best one; the earlier of two equal ones stays."""
        return value > best if self.mode == "max" else value < best

    def unknown(self, figures: Sequence[str]) -> UsageError:
        """What to say where validation logs `figures`, and the metric is not among them."""
        known = f"use one of {', '.join(sorted(figures))}" if figures else "set data.val"
        return UsageError(f"run.keep_best.metric {self.metric} is never logged; {known}")


@dataclass(frozen=True)
class RunConfig:
    """Tracking and checkpoints of a run; its folder is `trainer.default_root_dir`.

    Attributes:
        experiment: MLflow experiment.
        name: name of the run, and of the model in reports.
        tracking_uri: MLflow store.
        checkpoint_every: optimizer steps between checkpoints.
        keep_checkpoints: how many of the newest checkpoints stay on disk.
        keep_best: the figure of validation whose best step keeps its checkpoint beside them;
            `--ckpt_path best` means that one.
        max_logged_steps: most steps that a run logs figures of; in a longer run than
            `trainer.log_every_n_steps` allows for, they lie further apart.
        tracking_wait_s: seconds that a locked store is waited for.
        tracking_retry_s: seconds between attempts to reach a store that could not be had; the run
            goes on meanwhile.

    Raises:
        UsageError: a number out of its range.
    """

    experiment: str = "r1omni"
    name: str = "run"
    tracking_uri: str = "sqlite:///mlflow.db"
    checkpoint_every: int = 100
    keep_checkpoints: int = 1
    keep_best: KeepBest | None = None
    max_logged_steps: int = 10_000
    tracking_wait_s: float = 5.0
    tracking_retry_s: float = 60.0

    RANGES: ClassVar[Ranges] = {
        "checkpoint_every": at_least(1),
        "keep_checkpoints": at_least(1),
        "max_logged_steps": at_least(1),
        "tracking_wait_s": SECONDS,
        "tracking_retry_s": Range(0, SECONDS.high),
    }

    def __post_init__(self) -> None:
        check_options(self, "run.")


class TrackingLogger(Logger):
    """Writes every figure to `<run>/metrics.jsonl`, and sends it to the run in MLflow.

    A line of the file has the step, the milliseconds since 1970 and the metrics by name. Where the
    store cannot be had, the run goes on, and the store gets what it lacks when it is back: at a
    later step, at the end, or by the next command in this folder.

    Args:
        config: experiment and store.
        run_dir: folder of the run.
        continue_run: take up the run that `run_dir` names instead of opening a new one.
    """

    def __init__(self, config: RunConfig, run_dir: Path, continue_run: bool) -> None:
        super().__init__()
        self._config, self._run_dir, self._continues = config, run_dir, continue_run
        self._store: TrackingStore | None = None
        self._waiting: list[Figures] = []  # not yet in the store
        self._parameters: dict[str, str] = {}
        self._redoes = False
        self._next_try = -math.inf
        self._is_away = False

    @property
    def name(self) -> str:
        return self._config.experiment

    @property
    def run_name(self) -> str:
        """Name of the run, and of the model in reports."""
        return self._config.name

    @property
    def version(self) -> str | None:
        return None if self._store is None else self._store.run_id

    def start(self, training: bool) -> None:
        """Open or take up the run and note its id.

        Args:
            training: whether the command trains; one that is resumed repeats steps after its
                checkpoint, and their figures replace those in the file.

        Raises:
            UsageError: the experiment is deleted, or the store is none.
        """
        self._run_dir.mkdir(parents=True, exist_ok=True)
        id_file = self._run_dir / RUN_ID_FILE
        if not self._continues:
            for name in (RUN_ID_FILE, METRICS_FILE):
                (self._run_dir / name).unlink(missing_ok=True)
            shutil.rmtree(self._run_dir / _UNSENT, ignore_errors=True)
        self._redoes = self._continues and training
        self._waiting = read_figures(self._run_dir / METRICS_FILE)
        if self._waiting:
            _write(self._run_dir / METRICS_FILE, self._waiting)  # without a line that was cut off
        self._store = TrackingStore(
            uri=self._config.tracking_uri,
            experiment=self._config.experiment,
            name=self._config.name,
            tags={"run_dir": str(self._run_dir)},
            run_id=id_file.read_text(encoding="utf-8").strip() if id_file.exists() else None,
            wait_s=self._config.tracking_wait_s,
        )
        self._send()

    # What is logged -------------------------------------------------------------------------

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write a line of figures, and send it."""
        figures = Figures(
            step or 0,
            int(time.time() * 1000),
            {name: float(value) for name, value in metrics.items()},
        )
        file = self._run_dir / METRICS_FILE
        if self._redoes:
            self._redoes = False
            # Steps after the checkpoint are computed again.
            _write(file, [f for f in read_figures(file) if f.step < figures.step])
            self._waiting = [f for f in self._waiting if f.step < figures.step]
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as opened:
            opened.write(_line(figures))
        self._waiting.append(figures)
        self._send()

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the command logs the whole configuration as text, and a few parameters."""

    def log_parameters(self, parameters: Mapping[str, object]) -> None:
        """Send what a person compares runs by."""
        self._parameters = {name: str(value) for name, value in parameters.items()}
        self._send()

    def log_text(self, text: str, artifact_file: str) -> None:
        """Store a text among the run's artifacts."""
        file = self._run_dir / _UNSENT / artifact_file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        self._send()

    def finalize(self, status: str) -> None:
        """Send what is left, whenever the last attempt was, and end the run."""
        if self._store is None:
            return
        self._next_try, self._redoes = -math.inf, False
        self._send(ends="FAILED" if status == "failed" else "FINISHED")

    # The store ------------------------------------------------------------------------------

    def _send(self, ends: str | None = None) -> None:
        """Send everything that the store lacks; where it is away, warn once and try later."""
        if self._store is None or time.monotonic() < self._next_try:
            return
        try:
            self._store.open()
            id_file = self._run_dir / RUN_ID_FILE
            if not id_file.exists() or id_file.read_text(encoding="utf-8").strip() != self.version:
                id_file.write_text(f"{self.version}\n", encoding="utf-8")
            if self._parameters:
                self._store.send_parameters(self._parameters)
                self._parameters = {}
            if not self._redoes:  # which of them count is known with the first figure
                self._store.send_figures(self._waiting)
                self._waiting = []
            self._send_texts(self._store)
            if ends is not None:
                self._store.end(ends)
        except StoreAway as error:
            self._next_try = time.monotonic() + self._config.tracking_retry_s
            if not self._is_away or ends is not None:
                self._warn(error, ended=ends is not None)
            self._is_away = True
        else:
            if self._is_away:
                _logger.warning("%s is back and has every figure", self._config.tracking_uri)
            self._is_away = False

    def _send_texts(self, store: TrackingStore) -> None:
        folder = self._run_dir / _UNSENT
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            store.send_file(file, file.relative_to(folder).as_posix())
            file.unlink()
        shutil.rmtree(folder, ignore_errors=True)

    def _warn(self, error: StoreAway, ended: bool) -> None:
        _logger.warning(
            "%s cannot be had (%s): figures are kept in %s, %s",
            self._config.tracking_uri,
            error,
            self._run_dir / METRICS_FILE,
            "and the next command with this run folder sends them; end what holds the store"
            if ended
            else f"and sent when it is back, which is tried every {self._config.tracking_retry_s:g}"
            " s; end what holds it, or let the run go on",
        )


def read_figures(file: Path) -> list[Figures]:
    """The lines of a file of figures; a last one that was cut off is left out."""
    if not file.exists():
        return []
    found = []
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            values = json.loads(line)
            found.append(Figures(values["step"], values["time_ms"], values["metrics"]))
    return found


def _line(figures: Figures) -> str:
    values = {"step": figures.step, "time_ms": figures.time_ms, "metrics": dict(figures.metrics)}
    return json.dumps(values) + "\n"


def _write(file: Path, lines: list[Figures]) -> None:
    partial = file.with_suffix(".partial")
    partial.write_text("".join(map(_line, lines)), encoding="utf-8")
    os.replace(partial, file)
