"""The command `serve`: a model loaded once, served until the process is told to end."""

from __future__ import annotations

import errno
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import uvicorn
from fastapi import FastAPI

import r1omni
from r1omni.models.folders import find_model_folder
from r1omni.models.pipeline import R1Omni
from r1omni.recordings.running import told_to_end
from r1omni.serving.answering import Answerer
from r1omni.serving.api import Served, make_app
from r1omni.serving.config import ServeConfig
from r1omni.serving.guard import Guard
from r1omni.serving.job import Job
from r1omni.serving.jobs import Jobs
from r1omni.serving.metrics import Metrics
from r1omni.serving.uploads import start_processes
from r1omni.types import Dtype, UsageError

# Beyond the grace: a batch is not stopped while it is read, and a decoder takes its time to die.
_PATIENCE_S = 30.0
# Connections at a time; each may hold a file open.
_MOST_CONNECTIONS = 256
_HEADER_BYTES = 2**15


class Front(Protocol):
    """What a server has in front of its API, such as a page.

    Attributes:
        name: what the server says that it is.
        open_paths: need no key.
    """

    name: str
    open_paths: Collection[str]

    def work(self, answerer: Answerer) -> Callable[[Job], None]:
        """The work of a job: that of the answerer, and what else is to be done with it."""

    def add_routes(self, app: FastAPI, served: Served) -> None:
        """Add what it answers itself."""


def serve(
    config: ServeConfig,
    model: str,
    device: str = "cpu",
    dtype: Dtype = "float32",
    front: Front | None = None,
) -> None:
    """Serve a model until SIGTERM or Ctrl-C.

    Then no new job is taken, what waits is cancelled, and the running job may come to its end for
    `grace_s` seconds. Uploads lie in one private folder, which is deleted whatever happens.

    Args:
        config: where, and what is allowed.
        model: model folder, or repository of the hub.
        device, dtype: of the model.
        front: stands before the API; None for the API alone.

    Raises:
        UsageError: the address is not free.
        R1OmniError: the model cannot be loaded.
        Terminated: the process was told to end.
    """
    with told_to_end(), listening_at(config) as listening:
        start_processes()
        digest = find_model_folder(model).digest()
        omni = R1Omni.from_pretrained(model, device=device, dtype=dtype)
        answerer = Answerer(omni, digest, config.job_limit_s)
        work = answerer if front is None else front.work(answerer)
        with made_server(config, work, digest, dtype, front) as server:
            host, port = listening.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            name = "r1omni serves" if front is None else front.name
            print(f"{name} at http://{shown}:{port}", file=sys.stderr, flush=True)
            server.run([listening])


@contextmanager
def made_server(
    config: ServeConfig,
    work: Callable[[Job], None],
    digest: str,
    dtype: Dtype,
    front: Front | None = None,
) -> Iterator[uvicorn.Server]:
    """A server that is ready to run; afterwards its thread has ended and no upload is left.

    Args:
        config: what is allowed.
        work: on a job.
        digest: of the model folder.
        dtype: of its weights.
        front: stands before the API; None for the API alone.
    """
    with tempfile.TemporaryDirectory(prefix="r1omni-serve-") as folder:
        # Both are made here: the queue tells the counts of its jobs, and they ask for its length.
        jobs = Jobs(work, config.queue, config.job_limit_s, config.keep_s)
        metrics = Metrics(lambda: jobs.num_waiting)
        jobs.ended = metrics.ended
        served = Served(config, jobs, metrics, Path(folder), digest, dtype, r1omni.__version__)
        app = make_app(served)
        if front is not None:
            front.add_routes(app, served)
        open_paths = () if front is None else front.open_paths
        guarded = Guard(app, config.api_key, config.host, metrics, open_paths)
        settings = uvicorn.Config(
            guarded, http="h11", ws="none", lifespan="on", log_level="warning", access_log=False,
            server_header=False, limit_concurrency=_MOST_CONNECTIONS,
            h11_max_incomplete_event_size=_HEADER_BYTES,
            timeout_graceful_shutdown=int(config.grace_s + _PATIENCE_S),
        )  # fmt: skip
        try:
            yield _Server(settings, jobs, config.grace_s)
        finally:
            jobs.stop(0.0)
            jobs.close(_PATIENCE_S)


@contextmanager
def listening_at(config: ServeConfig) -> Iterator[socket.socket]:
    """The socket, before the model is loaded: a port that is taken is told at once."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        listening = socket.create_server((config.host, config.port), family=family, backlog=256)
    except OSError as error:
        remedy = "choose another --port" if error.errno == errno.EADDRINUSE else "check --host"
        # The library adds the address to the system's reason; a name that is unknown has its own.
        reason = error.strerror or str(error)
        if error.errno is not None and error.errno > 0:
            reason = os.strerror(error.errno)
        raise UsageError(
            f"--host {config.host} --port {config.port}: cannot be listened at ({reason}); {remedy}"
        ) from error
    with listening:
        yield listening


class _Server(uvicorn.Server):
    """Has the queue stop when connections are no longer taken, and not after all have ended."""

    def __init__(self, settings: uvicorn.Config, jobs: Jobs, grace_s: float) -> None:
        super().__init__(settings)
        self._jobs, self._grace_s = jobs, grace_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._jobs.stop(self._grace_s)
        await super().shutdown(sockets)
