"""Figures are in the run folder whatever the store does, and in the store once it is back."""

from __future__ import annotations

import logging
import math
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from r1omni.training.logger import (
    METRICS_FILE,
    RUN_ID_FILE,
    RunConfig,
    TrackingLogger,
    read_figures,
)
from r1omni.types import UsageError

WAIT_S = 0.05


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts


class Place:
    """A run folder and a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.run, self.database = folder / "run", folder / "mlflow.db"
        self.uri = f"sqlite:///{self.database}"

    def logger(self, continue_run: bool = False, retry_s: float = 0.0) -> TrackingLogger:
        config = RunConfig(
            experiment="emotions", tracking_uri=self.uri, tracking_wait_s=WAIT_S,
            tracking_retry_s=retry_s,
        )  # fmt: skip
        return TrackingLogger(config, self.run, continue_run)

    def started(self, continue_run: bool = False, training: bool = True) -> TrackingLogger:
        logger = self.logger(continue_run)
        logger.start(training)
        return logger

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Another connection writes for as long as the block runs."""
        with closing(sqlite3.connect(self.database, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            yield
            other.execute("ROLLBACK")

    def tracked(self) -> Run:
        run_id = (self.run / RUN_ID_FILE).read_text(encoding="utf-8").strip()
        return MlflowClient(self.uri).get_run(run_id)

    def stored(self, name: str = "loss") -> list[tuple[int, float]]:
        """Steps and values in the store, every row."""
        history = MlflowClient(self.uri).get_metric_history(self.tracked().info.run_id, name)
        return sorted((metric.step, metric.value) for metric in history)

    def kept(self, name: str = "loss") -> list[tuple[int, float]]:
        """Steps and values in the file."""
        lines = read_figures(self.run / METRICS_FILE)
        return [(line.step, line.metrics[name]) for line in lines if name in line.metrics]


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that MLflow has made, which takes it seconds."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").get_experiment("0")
    return file


@pytest.fixture
def place(tmp_path: Path, empty_database: Path) -> Place:
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    return Place(tmp_path)


def log(logger: TrackingLogger, steps: range, shift: float = 0.0) -> list[tuple[int, float]]:
    found = [(step, step / 7 + shift) for step in steps]
    for step, value in found:
        logger.log_metrics({"loss": value, "epoch": 0}, step)
    return found


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name.startswith("r1omni")]


def test_figures_are_in_the_folder_and_in_the_store(place: Place) -> None:
    logger = place.started()
    logged = log(logger, range(3))
    logger.log_metrics({"rewards/rewards_of_tests:length/mean": 0.5, "a(b)": math.nan}, 3)
    logger.finalize("success")
    assert place.stored() == place.kept() == logged
    run = place.tracked()
    assert run.info.status == "FINISHED" and run.data.tags["run_dir"] == str(place.run)
    # A reward of one's own keeps its name; only what MLflow cannot store is replaced.
    assert {"rewards/rewards_of_tests:length/mean", "a_b_"} <= run.data.metrics.keys()


@pytest.mark.parametrize("when", ["at the start", "in the middle"])
def test_a_locked_store_is_caught_up(
    when: str, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    logger = place.logger()
    logged = []
    if when == "in the middle":
        logger.start(training=True)
        logged += log(logger, range(2))
    began = time.monotonic()
    with place.locked():
        if when == "at the start":
            logger.start(training=True)
        logged += log(logger, range(2, 6))
        logger.log_text("a: 1\n", "config_fit.yaml")
        logger.log_parameters({"stage": "SFT"})
        assert place.kept() == logged
    assert time.monotonic() - began < 5  # MLflow itself would wait for 20 s each time
    (warning,) = warnings(caplog)
    for part in (place.uri, "database is locked", METRICS_FILE, "end what holds it"):
        assert part in warning
    logged += log(logger, range(6, 8))
    assert place.stored() == place.kept() == logged
    assert "is back" in warnings(caplog)[-1] and len(warnings(caplog)) == 2
    logger.finalize("success")
    run = place.tracked()
    assert run.info.status == "FINISHED" and run.data.params == {"stage": "SFT"}
    names = [artifact.path for artifact in MlflowClient().list_artifacts(run.info.run_id)]
    assert names == ["config_fit.yaml"]
    assert {path.name for path in place.run.iterdir()} == {METRICS_FILE, RUN_ID_FILE}


def test_a_store_that_is_away_is_not_asked_at_every_step(place: Place) -> None:
    logger = place.logger(retry_s=1000)
    logger.start(training=True)
    with place.locked():
        log(logger, range(1))
    log(logger, range(1, 5))
    assert place.stored() == []
    logger.finalize("success")  # the end does not wait for the next attempt
    assert place.stored() == place.kept() and len(place.kept()) == 5


@pytest.mark.parametrize("when", ["at the start", "in the middle"])
def test_the_next_command_sends_what_the_store_lacks(
    when: str, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    logger = place.logger()
    if when == "in the middle":
        logger.start(training=True)
        log(logger, range(2))
    with place.locked():
        if when == "at the start":
            logger.start(training=True)
        log(logger, range(2, 5))
        logger.finalize("failed")
    assert "the next command with this run folder" in warnings(caplog)[-1]
    again = place.started(continue_run=True, training=False)
    assert place.stored() == place.kept()
    again.log_metrics({"test/mafw/war": 0.5}, 0)
    again.finalize("success")
    assert place.stored("test/mafw/war") == [(0, 0.5)]
    assert place.stored() == [(step, step / 7) for step, _ in place.stored()]
    assert len(MlflowClient(place.uri).search_runs(["1"])) == 1


@pytest.mark.parametrize("away", [False, True])
def test_a_resumed_run_doubles_nothing(away: bool, place: Place) -> None:
    logger = place.started()
    log(logger, range(6))
    if away:
        with place.locked():
            log(logger, range(6, 8))
    else:
        log(logger, range(6, 8))
    # The process is killed while it writes; its last checkpoint is of step 5.
    with (place.run / METRICS_FILE).open("a", encoding="utf-8") as file:
        file.write('{"step": 8, "ti')
    again = place.started(continue_run=True)
    log(again, range(5, 10))
    again.finalize("success")
    assert place.stored() == place.kept() == [(step, step / 7) for step in range(10)]


def test_a_resumed_run_with_other_figures_has_them_last(place: Place) -> None:
    log(place.started(), range(4))
    again = place.started(continue_run=True)
    changed = log(again, range(2, 6), shift=0.5)
    assert place.kept() == [(0, 0.0), (1, 1 / 7), *changed]
    assert {*place.stored()} == {(step, step / 7) for step in range(4)} | {*changed}


def test_a_new_run_in_the_same_folder_begins_anew(place: Place) -> None:
    log(place.started(), range(4))
    first = place.tracked().info.run_id
    logged = log(place.started(), range(2))
    assert place.kept() == place.stored() == logged and place.tracked().info.run_id != first


def test_a_run_that_was_deleted_is_written_again(place: Place) -> None:
    logged = log(place.started(), range(4))
    MlflowClient(place.uri).delete_run(place.tracked().info.run_id)
    place.started(continue_run=True).finalize("success")
    assert place.tracked().info.lifecycle_stage == "active" and place.stored() == logged


def test_parameters_that_a_resume_changes(place: Place) -> None:
    place.started().log_parameters({"learning_rate": 0.1, "group_size": 4})
    place.started(continue_run=True).log_parameters({"learning_rate": 0.2, "group_size": 4})
    data = place.tracked().data
    assert data.params == {"learning_rate": "0.1", "group_size": "4"}
    assert data.tags["changed_on_resume"] == "learning_rate: 0.1 -> 0.2"


# What no waiting mends --------------------------------------------------------------------------


@pytest.mark.parametrize("continue_run", [False, True])
def test_a_deleted_experiment_is_refused(continue_run: bool, place: Place) -> None:
    log(place.started(), range(2))
    client = MlflowClient(place.uri)
    client.delete_experiment(place.tracked().info.experiment_id)
    with pytest.raises(UsageError) as caught:
        place.started(continue_run)
    for part in (
        place.uri,
        "'emotions' is deleted",
        "mlflow experiments restore",
        "run.experiment",
    ):
        assert part in str(caught.value)


def test_an_experiment_that_is_deleted_in_the_middle(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    logger = place.started()
    log(logger, range(2))
    client = MlflowClient(place.uri)
    experiment = place.tracked().info.experiment_id
    client.delete_experiment(experiment)
    log(logger, range(2, 4))
    assert len(place.kept()) == 4 and "deleted" in warnings(caplog)[0]
    client.restore_experiment(experiment)
    logger.finalize("success")
    assert place.stored() == place.kept()


@pytest.mark.parametrize("what", ["text", "folder", "files", "scheme"])
def test_what_is_no_store_is_refused(what: str, place: Place) -> None:
    if what == "text":
        place.database.write_text("no database\n" * 100, encoding="utf-8")
    elif what == "folder":
        place.database.unlink()
        place.database.mkdir()
    else:
        place.uri = str(place.run.parent) if what == "files" else "ftp://somewhere/store"
    with pytest.raises(UsageError) as caught:
        place.started()
    message = str(caught.value)
    assert "\n" not in message and "run.tracking_uri" in message and place.uri in message
    assert "name another" in message


def test_mlflow_says_nothing_beside_the_warning(
    place: Place, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    logger = place.started()
    capfd.readouterr()
    with place.locked():
        log(logger, range(3))
    others = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(others) == 1
    assert "Traceback" not in capfd.readouterr().err
