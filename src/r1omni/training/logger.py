"""MLflow tracking that goes on in the same run after a resume."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from r1omni.options import Ranges, at_least, check_numbers

RUN_ID_FILE = "mlflow_run_id.txt"


@dataclass(frozen=True)
class RunConfig:
    """Tracking and checkpoints of a run; its folder is `trainer.default_root_dir`.

    Attributes:
        experiment: MLflow experiment.
        name: name of the run, and of the model in reports.
        tracking_uri: MLflow store.
        checkpoint_every: optimizer steps between checkpoints.
        keep_checkpoints: how many of the newest checkpoints stay on disk.
        max_logged_steps: most steps that a run logs figures of; in a longer run than
            `trainer.log_every_n_steps` allows for, they lie further apart.

    Raises:
        UsageError: a number out of its range.
    """

    experiment: str = "r1omni"
    name: str = "run"
    tracking_uri: str = "sqlite:///mlflow.db"
    checkpoint_every: int = 100
    keep_checkpoints: int = 1
    max_logged_steps: int = 10_000

    RANGES: ClassVar[Ranges] = {
        "checkpoint_every": at_least(1),
        "keep_checkpoints": at_least(1),
        "max_logged_steps": at_least(1),
    }

    def __post_init__(self) -> None:
        check_numbers(self, "run.")


class TrackingLogger(MLFlowLogger):
    """An MLFlowLogger whose run id lies beside the checkpoints; `run_name` names the run.

    Args:
        config: experiment and store.
        run_dir: folder of the run.
        continue_run: take up the run that `run_dir` names instead of opening a new one.
    """

    def __init__(self, config: RunConfig, run_dir: Path, continue_run: bool) -> None:
        self.run_name = config.name
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
            self.experiment.update_run(self.run_id, status="RUNNING")
        self._run_id_file.parent.mkdir(parents=True, exist_ok=True)
        self._run_id_file.write_text(f"{self.run_id}\n", encoding="utf-8")

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        # MLflow refuses a parameter that changes, and a resumed run logs its own again; the
        # whole configuration is logged as text instead.
        return

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log figures under their own names; Lightning's would drop the colon of a reward's."""
        now_ms = int(time.time() * 1000)
        entries = [Metric(name, float(v), now_ms, step or 0) for name, v in metrics.items()]
        self.experiment.log_batch(self.run_id, metrics=entries)

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
