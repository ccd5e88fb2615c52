"""Long commands of r1omni side by side: each has a log, and stopping leaves all of them whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK_EVERY_S = 0.05


@dataclass(frozen=True)
class Command:
    """`python -m r1omni WORDS`, or a script.

    Attributes:
        words: its arguments.
        log: gets its output.
        finish: called when it has succeeded.
        answers: whether it ends at Ctrl-C, saving what it has; else it is killed with its workers,
            and has nothing to save.
        script: Python file that is run in place of r1omni.
    """

    words: tuple[str, ...]
    log: Path
    finish: Callable[[], None] = lambda: None
    answers: bool = True
    script: Path | None = None


@dataclass(frozen=True)
class Spent:
    """What a process took, with those of its own processes that it waited for.

    It does not wait for the workers that decode or measure clips: a fork server starts these.

    Attributes:
        wall_s: seconds from its beginning to its end.
        cpu_s: seconds of processors.
        peak_memory_gib: most memory that the largest of them held at a time.
    """

    wall_s: float
    cpu_s: float
    peak_memory_gib: float


class Job(Protocol):
    """Commands one after the other. What is left is read from the disk, so it can be asked anew."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def left(self) -> list[str]:
        """The kinds of command that are still to run, in order."""

    def command(self, kind: str) -> Command:
        """The command of a kind."""

    def ended(self, kind: str, spent: Spent) -> None:
        """A command ended, whole or not."""


@dataclass
class _Running:
    job: Job
    kind: str
    command: Command
    process: subprocess.Popen[bytes]
    start: float


class Stopped(Exception):
    """A signal ended the commands; what they had is saved."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum, self.status = signum, 128 + signum


class SideBySide:
    """Runs jobs, some at a time.

    Ctrl-C, SIGTERM and a closed terminal are passed on as Ctrl-C, which a training answers by
    saving its state; a second one ends it at once.

    Args:
        program: what runs a command's words.
        num_jobs: processes at a time.
        expected_s: seconds that a kind of command is expected to take; None where nothing is known
            yet, and messages then do not say how much is left.
        environment: variables of the processes beside those of this one.
        cwd: their working directory; this one's.
    """

    def __init__(
        self,
        program: Sequence[str],
        num_jobs: int,
        expected_s: Callable[[str], float | None],
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self._program, self._num_jobs, self._expected_s = program, num_jobs, expected_s
        self._environment, self._cwd = {**os.environ, **(environment or {})}, cwd
        self._running: dict[int, _Running] = {}
        self._signals: list[int] = []

    def run(
        self,
        jobs: Sequence[Job],
        later: Sequence[Job] = (),
        may_begin: Callable[[Job], bool] = lambda job: True,
    ) -> list[str]:
        """Run all that is left of the jobs; a failure of one does not end the others.

        Args:
            jobs: in the order of their beginning.
            later: what another call will run, for the time that is left.
            may_begin: whether what a job needs of the others is there. One that may not is passed
                over, and asked again when another has ended.

        Returns:
            One line a failure.

        Raises:
            Stopped: by a signal, when all processes have ended.
        """
        waiting, failures = deque(jobs), list[str]()
        start = time.monotonic()
        with self._listening():
            passed_on = 0
            while self._running or (waiting and not self._signals):
                while len(self._running) < self._num_jobs and not self._signals:
                    job = next(filter(may_begin, waiting), None)
                    if job is None:
                        break
                    waiting.remove(job)
                    self._begin(job)
                if not self._running and not self._signals:
                    break  # whatever waits needs something that failed
                for signum in self._signals[passed_on:]:
                    passed_on += 1
                    print(f"stopping ({signal.Signals(signum).name}) ...", flush=True)
                    for pid, entry in self._running.items():
                        if entry.command.answers:
                            os.kill(pid, signal.SIGINT)
                        else:
                            os.killpg(pid, signal.SIGKILL)
                for entry, failure in self._reaped():
                    if failure is None:
                        waiting.appendleft(entry.job)
                    elif not self._signals:
                        failures.append(failure)
                    self._tell(entry, failure, start, [*waiting, *later])
                time.sleep(_LOOK_EVERY_S)
        if self._signals:
            raise Stopped(self._signals[0])
        return failures + [
            f"{job.name}: not begun, since what it needs is not there"
            for job in waiting
            if job.left()
        ]

    def _begin(self, job: Job) -> None:
        kinds = job.left()
        if not kinds:
            return
        command = job.command(kinds[0])
        script = command.script
        program = self._program if script is None else (sys.executable, str(script))
        command.log.parent.mkdir(parents=True, exist_ok=True)
        with command.log.open("ab") as log:
            process = subprocess.Popen(
                [*program, *command.words], cwd=self._cwd, env=self._environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,  # a Ctrl-C of the terminal comes from here alone, once
            )  # fmt: skip
        now = time.monotonic()
        self._running[process.pid] = _Running(job, kinds[0], command, process, now)
        print(f"{job.name}: {kinds[0]} begins; its output goes to {command.log}", flush=True)

    def _reaped(self) -> Iterator[tuple[_Running, str | None]]:
        """What has ended, and how it failed."""
        for pid in list(self._running):
            found, raw, usage = os.wait4(pid, os.WNOHANG)
            if found:
                entry = self._running.pop(pid)
                status = entry.process.returncode = os.waitstatus_to_exitcode(raw)
                if status == 0:
                    entry.command.finish()
                wall_s = time.monotonic() - entry.start
                spent = Spent(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20)
                entry.job.ended(entry.kind, spent)
                yield entry, _failure(entry, status)

    def _tell(
        self, entry: _Running, failure: str | None, start: float, to_come: Sequence[Job]
    ) -> None:
        now = time.monotonic()
        ending = failure or f"{entry.job.name}: {entry.kind} done"
        told = f"{duration(now - start)} gone{self._left(to_come, now)}"
        print(f"[{told}] {ending} ({duration(now - entry.start)})", flush=True)

    def _left(self, to_come: Sequence[Job], now: float) -> str:
        """How much time is left, in words; nothing where that cannot be told."""
        # Jobs that are at work have their present command among what is left.
        jobs = [*to_come, *(running.job for running in self._running.values())]
        kinds = [kind for job in jobs for kind in job.left()]
        expected = {kind: self._expected_s(kind) for kind in kinds}
        known = {kind: seconds for kind, seconds in expected.items() if seconds is not None}
        if known.keys() < expected.keys():
            return ""
        left_s = sum(known[kind] for kind in kinds)
        left_s -= sum(min(now - r.start, known.get(r.kind, 0.0)) for r in self._running.values())
        return f", about {duration(left_s / self._num_jobs)} left"

    @contextmanager
    def _listening(self) -> Iterator[None]:
        def note(signum: int, frame: FrameType | None) -> None:
            self._signals.append(signum)

        before: dict[int, Any] = {signum: signal.signal(signum, note) for signum in _SIGNALS}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)


def _failure(entry: _Running, status: int) -> str | None:
    """How a command failed; None where what it is for is there."""
    what = f"{entry.job.name}: {entry.kind}"
    if status:
        return f"{what} ended with status {status}; see {entry.command.log}"
    if entry.kind in entry.job.left():
        return f"{what} ended with status 0, but made nothing; see {entry.command.log}"
    return None


def duration(seconds: float) -> str:
    """Seconds in words for people."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
