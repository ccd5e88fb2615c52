"""Processes of tests, forked from one that has imported what they need.

A command imports torch, Lightning and MLflow for five to eight seconds before it does anything, and
the suite starts dozens. Here a server imports them once for each worker of pytest and does nothing
else, and every process is a fork of it: with its own number, working directory, environment and
output, to be signalled and killed. What a fresh interpreter does is left to the tests that start
one (`python -m r1omni`, scripts/launch_torchrun.sh).
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tracking_store import copy_new_stores

REPOSITORY = Path(__file__).parents[1]
# Seconds; a process that takes longer hangs.
LIMIT_S = 300
# Libraries alone: a process imports the package under test from where its test says.
_PRELOADED = (
    "av", "git", "lightning.pytorch.cli", "mlflow.store.tracking.sqlalchemy_store", "omegaconf",
    "peft", "sqlalchemy.dialects.sqlite", "timm.layers", "torch.distributed.checkpoint.state_dict",
    "torch.distributed.fsdp", "torch.distributed.run", "torchaudio", "torchvision.transforms.v2",
    "transformers.models.auto.processing_auto", "transformers.models.bert.modeling_bert",
    "transformers.models.qwen2.modeling_qwen2", "transformers.models.siglip.modeling_siglip",
    "transformers.models.whisper.modeling_whisper",
)  # fmt: skip


class _Server:
    """The process that has imported the libraries, seen from outside."""

    def __init__(self) -> None:
        here, there = socket.socketpair()
        words = [sys.executable, __file__, str(there.fileno())]
        self._process = subprocess.Popen(words, pass_fds=[there.fileno()])
        there.close()
        self._line = Connection(here.detach())

    def ask(self, request: bytes | int) -> int | None:
        """Fork a process for a pickled call, or tell the status of one; see `_serve`."""
        self._line.send(request)
        answer: int | None = self._line.recv()
        return answer


_server = functools.cache(_Server)


class Running:
    """A function that runs in a process of its own; what it returns is the exit status, or None.

    Attributes:
        pid: number of the process.
    """

    def __init__(
        self, target: Callable[..., Any], *args: Any, cwd: Path, env: Mapping[str, str]
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._outputs = [Path(self._folder.name) / name for name in ("stdout", "stderr")]
        place = (sys.path, self._outputs, cwd, dict(env))
        pid = _server().ask(pickle.dumps((place, pickle.dumps((target, args)))))
        assert pid is not None
        self.pid = pid
        self._status: int | None = None

    def poll(self) -> int | None:
        """The exit status: None while it runs, less than 0 where a signal ended it."""
        if self._status is None:
            self._status = _server().ask(self.pid)
        return self._status

    def wait(self, timeout: float = LIMIT_S) -> int:
        """Wait for its end; returns the exit status, less than 0 where a signal ended it.

        Raises:
            TimeoutError: it has not ended within `timeout` seconds, and was killed.
        """
        end = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > end:
                os.kill(self.pid, 9)
                raise TimeoutError(f"after {timeout} s:\n{self.stderr[-3000:]}")
            time.sleep(0.02)
        return status

    @property
    def stdout(self) -> str:
        """What it has written to standard output so far."""
        return self._outputs[0].read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        """What it has written to standard error so far."""
        return self._outputs[1].read_text(encoding="utf-8")


def ranks(count: int, target: Callable[..., Any], *args: Any, cwd: Path = REPOSITORY) -> None:
    """Run a function in processes that find each other, as those of one torchrun on a node do.

    Raises:
        AssertionError: a rank has failed.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "tests",
        "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "GROUP_RANK": "0",
    }  # fmt: skip
    running = [
        Running(
            target, *args, cwd=cwd,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(count)
    ]  # fmt: skip
    statuses = [process.wait() for process in running]
    errors = "\n".join(process.stderr[-3000:] for process in running)
    assert statuses == [0] * count, errors


def _serve(line: Connection) -> bytes | None:
    """Answer requests; returns what to run in a process that was forked, None at the end."""
    while True:
        try:
            request = line.recv()
        except EOFError:
            return None
        if isinstance(request, int):
            pid, status = os.waitpid(request, os.WNOHANG)
            line.send(os.waitstatus_to_exitcode(status) if pid else None)
            continue
        pid = os.fork()
        if pid == 0:
            line.close()
            return request
        line.send(pid)


def _run(request: bytes) -> Any:
    (path, outputs, cwd, env), call = pickle.loads(request)
    sys.path[:] = path
    for number, file in enumerate(outputs, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    as_imported_now()
    target, args = pickle.loads(call)
    return target(*args)


def as_imported_now() -> None:
    """Set what torch and Lightning read from the environment when they are imported."""
    sys.modules["torch"].set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    rank_zero = sys.modules["lightning.fabric.utilities.rank_zero"]
    rank_zero.rank_zero_only.rank = rank_zero._get_rank() or 0


def status_of(end: SystemExit) -> int:
    """The status that an interpreter makes of `SystemExit`, whose message it prints."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)
    return 1


def end(status: int) -> None:
    """As an interpreter ends, but for taking apart all modules, which takes seconds in a fork."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    os.environ["GIT_PYTHON_REFRESH"] = "quiet"  # where there is no git, MLflow says so when it asks
    for name in _PRELOADED:
        importlib.import_module(name)
    copy_new_stores()
    gc.freeze()  # else a collection in a fork copies every page
    wanted = _serve(Connection(int(sys.argv[1])))
    if wanted is not None:
        try:
            status = _run(wanted) or 0
        except SystemExit as exit_:
            status = status_of(exit_)
        except BaseException:
            traceback.print_exc()
            status = 1
        end(status)
