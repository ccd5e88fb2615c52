"""Work on clips in processes of their own, so that no file takes the run with it.

A decoder is C code that is given files of any origin: it may crash, hang or ask for all memory.
Every worker has its own pipe and holds one clip at a time, so the clip on which it died or hung is
known; it is reported, and a fresh worker goes on with the next one. A pool of `concurrent.futures`
would lose all of its work with one process, and would not know which clip did it.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import multiprocessing.util
import os
import resource
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from pathlib import Path

import torch

from r1omni.media.container import MediaError
from r1omni.types import Clip, R1OmniError, UsageError

Work = Callable[[Clip], str | None]

CLIP_LIMIT_S = 30.0
# A frame of the largest accepted size needs a little more than 1 GiB, libraries included.
MEMORY_LIMIT_BYTES = 4 * 2**30
# The path of a socket has 107 bytes; multiprocessing calls that of a fork server so in its folder.
_LONGEST_FOLDER = 107 - len("/listener-12345678")


@dataclass(frozen=True)
class Remedies:
    """What a command calls the settings of its workers, for the messages; a training's by default.

    Attributes:
        num_workers: how many there are.
        none: what does without them, or None where a command cannot.
        limit: how long a clip may take, or None where that is fixed.
    """

    num_workers: str = "data.loader.decode_workers"
    none: str | None = "data.loader.decode_workers=0"
    limit: str | None = "data.loader.clip_limit_s"


def in_workers(
    clips: Sequence[Clip],
    work: Work,
    num_workers: int,
    limit_s: float = CLIP_LIMIT_S,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    preload: str = "r1omni.media.prepare",
    remedies: Remedies = Remedies(),
) -> Iterator[tuple[Clip, str | None]]:
    """Each clip with what `work` says of it, in the order in which they are done.

    Args:
        clips: what to work on.
        work: gives None, or the reason why a clip is broken; must be importable by name.
        num_workers: processes, at least 1.
        limit_s: seconds that one clip may take; then its worker is killed, and the clip is broken.
        memory_limit_bytes: memory that a worker may allocate, where the system can limit it.
        preload: module of `work`, which the fork server imports once, if it is not yet running.
        remedies: what messages call the settings.

    Raises:
        UsageError: as `fork_server`.
        R1OmniError: a worker cannot be started.
        Exception: whatever else `work` raises ends the run (a full disk, say).
    """
    context = fork_server(preload)
    waiting = deque(clips)
    workers: list[_Worker] = []
    try:
        while waiting or workers:
            missing = min(num_workers - len(workers), len(waiting))
            workers += [
                _Worker(context, work, memory_limit_bytes, remedies) for _ in range(missing)
            ]
            patience_s = min(worker.deadline for worker in workers) - time.monotonic()
            connections = [worker.connection for worker in workers]
            answered = wait(connections, None if patience_s == math.inf else max(patience_s, 0.0))
            for worker in list(workers):
                if worker.connection in answered:
                    done, alive = worker.answer()
                elif time.monotonic() >= worker.deadline:
                    done, alive = worker.give_up(limit_s), False
                else:
                    continue
                if done is not None:
                    yield done
                if not alive or not waiting:
                    workers.remove(worker)
                    worker.end()
                else:
                    worker.begin(waiting.popleft(), limit_s)
    finally:
        for worker in workers:
            worker.end()


def fork_server(*preload: str) -> ForkServerContext:
    """What starts processes that share nothing with this one.

    Not fork: the parent may hold threads and a CUDA context. A fork server imports torch once.

    Args:
        preload: modules that it imports, if it is not yet running.

    Raises:
        UsageError: the folder of temporary files has too long a name for its socket.
    """
    folder = multiprocessing.util.get_temp_dir()
    if len(os.fsencode(folder)) > _LONGEST_FOLDER:
        raise UsageError(
            f"TMPDIR {Path(folder).parent}: its name is too long for the socket of a process that "
            f"starts others there; set TMPDIR to a folder whose path has at most "
            f"{_LONGEST_FOLDER - len('/pymp-12345678')} bytes"
        )
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    return context


class _Worker:
    """A process that is given one clip after the other, seen from the parent."""

    def __init__(
        self,
        context: ForkServerContext,
        work: Work,
        memory_limit_bytes: int,
        remedies: Remedies,
    ) -> None:
        self._remedies = remedies
        self.connection, far_end = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(far_end, work, memory_limit_bytes), daemon=True
        )
        self._process.start()
        far_end.close()  # the process alone holds it: when it dies, the connection ends
        self._clip: Clip | None = None  # until it has reported for work
        self.deadline = math.inf

    def begin(self, clip: Clip, limit_s: float) -> None:
        self._clip, self.deadline = clip, time.monotonic() + limit_s
        with contextlib.suppress(BrokenPipeError):  # of one that died; `answer` will tell
            self.connection.send(clip)

    def answer(self) -> tuple[tuple[Clip, str | None] | None, bool]:
        """The clip that is done, if any, and whether the worker lives."""
        try:
            outcome = self.connection.recv()
        except (EOFError, ConnectionResetError):
            return self._died(), False
        if isinstance(outcome, Exception):
            raise outcome
        return (None if self._clip is None else (self._clip, outcome)), True

    def _died(self) -> tuple[Clip, str]:
        self._process.join()
        status = self._process.exitcode or 0
        how = how_ended(status)
        if self._clip is None:
            without = f"; {self._remedies.none} does without it" if self._remedies.none else ""
            raise R1OmniError(
                f"a process for decoding clips ended {how} before its first clip; what it printed "
                "says why. It imports the script that is run, so a script does its work below "
                f"`if __name__ == '__main__':`{without}"
            )
        remedy = "convert the file, or leave it out"
        if status == -signal.SIGKILL:
            remedy = f"if memory ran out, use fewer {self._remedies.num_workers}"
        return self._clip, _reason(self._clip, f"the decoder's process ended {how} on it; {remedy}")

    def give_up(self, limit_s: float) -> tuple[Clip, str]:
        """The clip that has taken too long."""
        assert self._clip is not None  # a worker without a clip has no deadline
        or_raise = f", or raise {self._remedies.limit}" if self._remedies.limit else ""
        return self._clip, _reason(
            self._clip, f"was not read within {limit_s:g} s; convert or shorten the file{or_raise}"
        )

    def end(self) -> None:
        """Stop the process, whatever it is doing."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self.connection.close()


def how_ended(status: int) -> str:
    """How a process ended, for a message, by its `exitcode`."""
    return f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"


def _reason(clip: Clip, what: str) -> str:
    files = str(clip.path) if clip.audio_path is None else f"{clip.path} with {clip.audio_path}"
    return str(MediaError(f"{files}: {what}"))


def limit_worker(memory_limit_bytes: int) -> None:
    """Make this process one that decodes for another: one thread, and memory within a limit."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    torch.set_num_threads(1)  # the processes share the cores
    _, highest = resource.getrlimit(resource.RLIMIT_DATA)
    if highest != resource.RLIM_INFINITY:
        memory_limit_bytes = min(memory_limit_bytes, highest)
    resource.setrlimit(resource.RLIMIT_DATA, (memory_limit_bytes, highest))


def _serve(connection: Connection, work: Work, memory_limit_bytes: int) -> None:
    """The worker: answers every clip by its outcome, or by the exception that ends the run."""
    limit_worker(memory_limit_bytes)
    connection.send(None)  # ready: the clock of the first clip may start
    while True:
        try:
            clip = connection.recv()
        except EOFError:
            return  # the parent is gone
        try:
            outcome: str | Exception | None = work(clip)
        except Exception as error:  # it is raised in the parent
            outcome = error
        connection.send(outcome)
