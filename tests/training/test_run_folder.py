"""The folder of a run: what may be begun, evaluated and written in it, and by how many at once."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from small_training import short_sft

from r1omni.cli import main
from r1omni.training.run_folder import LOCK, FolderLock, check_newest, check_start, check_writable
from r1omni.types import UsageError

# Another model is in a trained run's folder --------------------------------------------------


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The folder of a run that was trained to its end, so far as names go."""
    run_dir = tmp_path / "run"
    (run_dir / "model").mkdir(parents=True)
    (run_dir / "checkpoints").mkdir()
    (run_dir / "checkpoints" / "step_000100.ckpt").touch()
    return run_dir


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_the_start_is_not_evaluated_in_place_of_what_was_trained(
    command: str, finished: Path, mini_world: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([command, *short_sft(mini_world, finished)]) == 2
    [line] = [text for text in capfd.readouterr().err.splitlines() if "error:" in text]
    for named in (f"`{command}`", "--ckpt_path last",
                  f"--model.init_args.init_from {finished / 'model'}"):  # fmt: skip
        assert named in line


def test_what_a_run_trained_may_be_evaluated(finished: Path) -> None:
    check_start(finished, str(finished / "model"), "test")
    check_start(finished, f"{finished}/../run/model/", "test")
    check_start(finished.parent, "anything", "test")  # nothing was trained there
    (finished / "model").rmdir()
    with pytest.raises(UsageError, match="--ckpt_path last, or give another"):
        check_start(finished, str(finished / "model"), "test")


def test_a_run_goes_on_from_its_newest_checkpoint(finished: Path) -> None:
    newest = finished / "checkpoints" / "step_1000000.ckpt"  # sorts before the others as a text
    newest.touch()
    check_newest(finished, newest)
    with pytest.raises(UsageError, match=r"step_1000000\.ckpt is newer"):
        check_newest(finished, finished / "checkpoints" / "step_000100.ckpt")


# A folder that cannot be written -------------------------------------------------------------


@contextmanager
def nobody() -> Iterator[None]:
    """Without the rights of root, who may write everywhere."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def _file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file"


def _below_a_file(folder: Path) -> Path:
    return _file(folder) / "deep" / "run"


def _read_only(folder: Path) -> Path:
    (folder / "kept").mkdir(mode=0o555)
    return folder / "kept"


def _below_read_only(folder: Path) -> Path:
    return _read_only(folder) / "deep" / "run"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_file, "it is a file"),
        (_below_a_file, "file is a file"),
        (_read_only, "Permission denied"),
        (_below_read_only, "Permission denied"),
    ],
)
def test_a_folder_that_cannot_be_written(
    make: Callable[[Path], Path],
    reason: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run_dir = make(tmp_path)
    for folder in (tmp_path, *tmp_path.parents[:3]):  # pytest's own are for root alone
        if folder.stat().st_uid == os.geteuid() and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    with nobody(), pytest.raises(UsageError, match=r"trainer\.default_root_dir") as caught:
        check_writable(run_dir)
    assert reason in str(caught.value) and str(run_dir) in str(caught.value)
    check_writable(tmp_path / "new" / "run")
    assert not (tmp_path / "new").exists()
    if make is _file:  # before anything is loaded: there is no such model
        assert main(["fit", *short_sft(tmp_path, run_dir)]) == 2
        assert "it is a file" in capfd.readouterr().err


# Two at once ---------------------------------------------------------------------------------


def holder(run_dir: Path) -> int:
    """A process that trains in a folder, until it is killed; its id, once it has the lock."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            lock = FolderLock(run_dir)
            if os.fork() == 0:  # a worker of its own, which outlives it
                os.close(writing)
                time.sleep(3)
                os._exit(0)
            os.write(writing, b"held")
            time.sleep(60)
            lock.release()
        finally:
            os._exit(1)
    os.close(writing)
    assert os.read(reading, 4) == b"held"
    os.close(reading)
    return process


def test_a_second_training_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    process = holder(tmp_path)
    with pytest.raises(UsageError, match=rf"process {process} on {socket.gethostname()}"):
        FolderLock(tmp_path)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    assert json.loads((tmp_path / LOCK).read_text())["process"] == process  # it could not tidy up
    lock = FolderLock(tmp_path)
    assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
    lock.release()
    assert (tmp_path / LOCK).read_text() == ""


@pytest.mark.parametrize(
    ("boot", "host", "is_taken"),
    [
        ("another boot", "another-machine", True),
        ("another boot", socket.gethostname(), False),  # this machine was started again
        (None, "another-name", False),  # a container on this machine, whose locks are seen here
    ],
)
def test_what_another_machine_left(
    boot: str | None, host: str, is_taken: bool, tmp_path: Path
) -> None:
    boot = boot or Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    left = {"process": os.getpid(), "host": host, "boot": boot, "since": "then"}
    (tmp_path / LOCK).write_text(json.dumps(left))
    if is_taken:
        with pytest.raises(UsageError, match=rf"on {host} .* remove .*{LOCK}"):
            FolderLock(tmp_path)
        (tmp_path / LOCK).unlink()
    FolderLock(tmp_path).release()


def test_a_lock_that_is_damaged_is_no_holder(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text('{"process": 1, "ho')
    FolderLock(tmp_path).release()


def test_fit_holds_the_lock_and_lets_go(
    mini_world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    process = holder(run_dir)
    assert main(["fit", *short_sft(mini_world, run_dir)]) == 2
    assert f"is in use by process {process}" in capfd.readouterr().err
    assert [path.name for path in run_dir.iterdir()] == [LOCK]
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    assert main(["fit", *short_sft(mini_world, run_dir)]) == 0
    assert (run_dir / LOCK).read_text() == ""
    # What a run has left for others to read is where it was.
    assert torch.load(run_dir / "checkpoints" / "step_000001.ckpt", weights_only=True)
