"""MLflow tracking that goes on in the same run after a resume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from r1omni.types import UsageError

RUN_ID_FILE = "mlflow_run_id.txt"


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
        if self.mode not in ("max", "min"):
            raise UsageError(f"run.keep_best.mode is {self.mode!r}; use max or min")

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
    """

    experiment: str = "r1omni"
    name: str = "run"
    tracking_uri: str = "sqlite:///mlflow.db"
    checkpoint_every: int = 100
    keep_checkpoints: int = 1
    keep_best: KeepBest | None = None
    max_logged_steps: int = 10_000

    def __post_init__(self) -> None:
        if self.max_logged_steps < 1:
            raise UsageError(
                f"run.max_logged_steps is {self.max_logged_steps}; it must be at least 1"
            )


class TrackingLogger(MLFlowLogger):
    """An MLFlowLogger whose run id lies beside the checkpoints.

    Args:
        config: experiment and store.
        run_dir: folder of the run.
        continue_run: take up the run that `run_dir` names instead of opening a new one.
    """

    def __init__(self, config: RunConfig, run_dir: Path, continue_run: bool) -> None:
        self._run_id_file = run_dir / RUN_ID_FILE
        run_id = None
        if continue_run and self._run_id_file.exists():
            run_id = _known_run(config.tracking_uri, self._run_id_file.read_text().strip())
        super().__init__(
            experiment_name=config.experiment,
            run_name=config.name,
            tracking_uri=config.tracking_uri,
            run_id=run_id,
            tags={"run_dir": str(run_dir)},
        )
        self._continued = run_id is not None

    @rank_zero_only
    def start(self) -> None:
        """Open or take up the run and note its id."""
        if self._continued:
            self.experiment.update_run(self.run_id, status="RUNNING", name=self._run_name)
        self._run_id_file.parent.mkdir(parents=True, exist_ok=True)
        self._run_id_file.write_text(f"{self.run_id}\n", encoding="utf-8")

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        # MLflow refuses a parameter that changes, and a resumed run logs its own again; the
        # whole configuration is logged as text instead.
        return

    @rank_zero_only
    def log_text(self, text: str, artifact_file: str) -> None:
        """Store a text file among the run's artifacts."""
        self.experiment.log_text(self.run_id, text, artifact_file)


def _known_run(tracking_uri: str, run_id: str) -> str | None:
    """`run_id` where the store has it; a store that was deleted means a new run."""
    try:
        MlflowClient(tracking_uri).get_run(run_id)
    except MlflowException:
        return None
    return run_id
