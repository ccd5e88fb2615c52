"""The MLflow store of a run: opening it, sending to it, and what is said where it cannot be had."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from r1omni.types import UsageError

# To import it takes seconds: a run that tracks nothing does without.
if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

# What MLflow takes in a name; everything else becomes "_".
_NO_NAME = re.compile(r"[^\w/. :-]")
# Metrics that MLflow takes at once.
_BATCH = 1000
# A server's answers that no waiting changes.
_FINAL = {"INVALID_PARAMETER_VALUE", "PERMISSION_DENIED", "UNAUTHENTICATED"}
_CHANGED = "changed_on_resume"


class StoreAway(Exception):
    """The store cannot be had now; the message says why."""


@dataclass(frozen=True)
class Figures:
    """What was logged at once.

    Attributes:
        step: the step it was logged at.
        time_ms: milliseconds since 1970.
        metrics: values by name.
    """

    step: int
    time_ms: int
    metrics: Mapping[str, float]


class TrackingStore:
    """One run in an MLflow store. Every method may raise StoreAway.

    Args:
        uri: the store.
        experiment: name of the experiment; it is created where it is missing.
        name: of the run.
        tags: of a new run.
        run_id: the run to continue; where the store has none of that id, a new one is opened.
        wait_s: seconds that a locked database is waited for.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        name: str,
        tags: Mapping[str, str],
        run_id: str | None,
        wait_s: float,
    ) -> None:
        self.uri, self.run_id = uri, run_id
        self._experiment, self._name, self._tags = experiment, name, dict(tags)
        self._wait_s = wait_s
        self._client: MlflowClient | None = None
        # (name, step, value) of everything that the run has from earlier processes.
        self._known: set[tuple[str, int, float]] = set()
        # Figures are kept and sent later, so a server is not waited for over many minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

    def open(self) -> None:
        """Take up the run, or open one; does nothing where that is done.

        Raises:
            UsageError: the experiment is deleted, or the store is none; waiting does not help.
        """
        if self._client is not None:
            return
        from mlflow.tracking import MlflowClient
        from mlflow.tracking.context.registry import resolve_tags

        with self._reached():
            client = MlflowClient(self.uri)
            experiment_id = self._experiment_id(client)
            run = self._found(client)
            if run is None:
                tags = resolve_tags(self._tags)
                run = client.create_run(experiment_id, run_name=self._name, tags=tags)
            else:
                client.update_run(run.info.run_id, status="RUNNING", name=self._name)
                for name in run.data.metrics:
                    history = client.get_metric_history(run.info.run_id, name)
                    self._known |= {(name, metric.step, metric.value) for metric in history}
            self._client, self.run_id = client, run.info.run_id

    def send_figures(self, figures: Iterable[Figures]) -> None:
        """Send figures; what the run has already is left out."""
        from mlflow.entities import Metric

        metrics = [
            Metric(key, value, entry.time_ms, entry.step)
            for entry in figures
            for name, value in entry.metrics.items()
            for key in [_NO_NAME.sub("_", name)]
            if (key, entry.step, value) not in self._known
        ]
        for start in range(0, len(metrics), _BATCH):
            with self._reached() as (client, run_id):
                client.log_batch(run_id, metrics=metrics[start : start + _BATCH])

    def send_parameters(self, parameters: Mapping[str, str]) -> None:
        """Send parameters. MLflow never changes one: what a resumed run changes becomes a tag."""
        from mlflow.entities import Param

        with self._reached() as (client, run_id):
            known = client.get_run(run_id).data.params
            new = [Param(name, value) for name, value in parameters.items() if name not in known]
            client.log_batch(run_id, params=new)
            changed = [
                f"{name}: {known[name]} -> {value}"
                for name, value in parameters.items()
                if known.get(name, value) != value
            ]
            if changed:
                client.set_tag(run_id, _CHANGED, "; ".join(changed))

    def send_file(self, file: Path, name: str) -> None:
        """Store a file as the artifact `name`."""
        with self._reached() as (client, run_id):
            client.log_artifact(run_id, str(file), str(Path(name).parent) if "/" in name else None)

    def end(self, status: str) -> None:
        """Mark the run as "FINISHED" or "FAILED"."""
        with self._reached() as (client, run_id):
            client.set_terminated(run_id, status)

    # Reaching it ----------------------------------------------------------------------------

    def _experiment_id(self, client: MlflowClient) -> str:
        found = client.get_experiment_by_name(self._experiment)
        if found is None:
            return client.create_experiment(self._experiment)
        if found.lifecycle_stage != "active":
            raise UsageError(
                f"{self.uri}: the experiment {self._experiment!r} is deleted; bring it back by "
                f"`mlflow experiments restore --experiment-id {found.experiment_id}`, or name "
                "another by run.experiment"
            )
        return str(found.experiment_id)

    def _found(self, client: MlflowClient) -> Run | None:
        """The run to continue; a store or a run that was deleted means a new one."""
        if self.run_id is None:
            return None
        from mlflow.exceptions import MlflowException

        try:
            run = client.get_run(self.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return run if run.info.lifecycle_stage == "active" else None

    @contextlib.contextmanager
    def _reached(self) -> Iterator[tuple[MlflowClient, str]]:
        """The client and the id of the run, within which every failure is the store's."""
        from mlflow.exceptions import MlflowException

        logger = logging.getLogger("mlflow.store.db.utils")  # it prints a page for each failure
        level = logger.level
        logger.setLevel(logging.CRITICAL + 1)
        try:
            self._try_database()
            yield self._client, self.run_id  # type: ignore[misc]
        except (UsageError, StoreAway):
            raise
        except Exception as error:  # what databases and servers raise has no common type
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            if isinstance(error, MlflowException) and error.error_code in _FINAL:
                raise self._unusable(reason) from error
            raise StoreAway(reason) from error
        finally:
            logger.setLevel(level)

    def _try_database(self) -> None:
        """Try to write to a database file: MLflow would wait for a lock for 20 s, every time."""
        parts = urlsplit(self.uri)
        file = Path(parts.path[1:])
        if not parts.scheme.startswith("sqlite") or not parts.path[1:]:
            return
        try:
            connection = sqlite3.connect(file, timeout=self._wait_s, isolation_level=None)
            with contextlib.closing(connection):
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
        except sqlite3.DatabaseError as error:
            if "locked" in str(error):
                raise StoreAway(f"{error}: another process is writing") from error
            raise self._unusable(str(error)) from error

    def _unusable(self, reason: str) -> Exception:
        if self._client is not None:  # it was good when the run began
            return StoreAway(reason)
        return UsageError(
            f"run.tracking_uri {self.uri} is no MLflow store that can be used ({reason}); name "
            "another, such as sqlite:///mlflow.db"
        )
