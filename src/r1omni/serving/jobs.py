"""Jobs: a bounded queue in front of one model thread, what each has told so far, and how it ends.

Nothing here knows a model or HTTP: the work is a function of a job, which may take long and is
stopped where it looks (`Job.check`).
"""

from __future__ import annotations

import bisect
import logging
import math
import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from r1omni.recordings.analyzing import Asked
from r1omni.recordings.records import Record
from r1omni.types import R1OmniError

State = Literal["queued", "running", "done", "failed", "cancelled"]
EventKind = Literal["text", "record", "end"]

_logger = logging.getLogger(__name__)


class Refusal(R1OmniError):
    """A request that is not done.

    Attributes:
        status: of HTTP.
        headers: that go with it.
    """

    def __init__(self, status: int, line: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(line)
        self.status = status
        self.headers = headers or {}


@dataclass(frozen=True)
class Event:
    """Something that a job has told.

    Attributes:
        number: its place among all events of the job.
        kind: "text" for a piece of an answer that is being written, "record" for an answer, and
            one "end".
        data: what JSON holds of it.
    """

    number: int
    kind: EventKind
    data: dict[str, Any]


class Job:
    """One recording to analyze, seen from all threads.

    Args:
        path: the recording here.
        name: what its owner calls it.
        asked: of it.
        folder: deleted with everything in it when the job ends; None leaves the recording alone.
    """

    def __init__(self, path: Path, name: str, asked: Asked, folder: Path | None = None) -> None:
        # Whoever knows it may read the job, so it cannot be guessed.
        self.id = secrets.token_urlsafe(16)
        self.path, self.name, self.asked = path, name, asked
        self.state: State = "queued"
        self.progress = 0.0
        self.failure: Refusal | None = None
        self.records: list[Record] = []
        self.ended_at = math.inf
        self.took_s = 0.0
        self._folder = folder
        self._begun_at = math.nan
        self._stop: Refusal | None = None
        self._deadline, self._late = math.inf, Refusal(504, "took too long")
        self._events: list[Event] = []
        self._next = 0
        self._listeners: set[Callable[[], object]] = set()
        self._lock = threading.RLock()

    @property
    def has_ended(self) -> bool:
        return self.state in ("done", "failed", "cancelled")

    def row(self) -> dict[str, Any]:
        """The job as JSON holds it."""
        with self._lock:
            return {
                "id": self.id,
                "state": self.state,
                "progress": self.progress,
                "records": [record.row() for record in self.records],
                "error": None if self.failure is None else str(self.failure),
            }

    # What works on it calls these.

    def check(self) -> None:
        """Raise a Refusal if the job is to stop: it was cancelled, or has taken too long."""
        if self._stop is not None:
            raise self._stop
        if time.monotonic() > self._deadline:
            raise self._late

    def write(self, record: Record) -> None:
        """Take an answer."""
        with self._lock:
            self.records.append(record)
            self._tell("record", record.row())

    def write_text(self, start_s: float, end_s: float, piece: str) -> None:
        """Take a piece of the answer about a span."""
        with self._lock:
            self._tell("text", {"start_s": start_s, "end_s": end_s, "text": piece})

    # Its queue calls these.

    def begin(self, limit_s: float, remedy: str) -> None:
        with self._lock:
            self.state, self._begun_at = "running", time.monotonic()
            self._deadline = self._begun_at + limit_s
            self._late = Refusal(504, f"{self.name}: took longer than {limit_s:g} s; {remedy}")

    def stop(self, why: Refusal, after_s: float = 0.0) -> None:
        """Have `check` raise, at once or in a while."""
        with self._lock:
            if after_s <= 0:
                self._stop = why
            elif time.monotonic() + after_s < self._deadline:
                self._deadline, self._late = time.monotonic() + after_s, why

    def end(self, state: State, failure: Refusal | None = None) -> None:
        """Delete the upload, then tell the end."""
        if self._folder is not None:
            delete(self._folder)
        with self._lock:
            self.state, self.failure = state, failure
            self.progress = 1.0 if state == "done" else self.progress
            self.ended_at = time.monotonic()
            if not math.isnan(self._begun_at):
                self.took_s = self.ended_at - self._begun_at
            row = {name: value for name, value in self.row().items() if name != "records"}
            self._tell("end", row)
            self._forget_text()

    # Whoever watches it calls these.

    @contextmanager
    def listening(self, listener: Callable[[], object]) -> Iterator[None]:
        """Within it a function is called after every event, in the thread of whoever tells it."""
        with self._lock:
            self._listeners.add(listener)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.discard(listener)
                if self.has_ended:
                    self._forget_text()

    def events_from(self, number: int) -> list[Event]:
        """The events from a number on; after the last one, "end", there is none."""
        with self._lock:
            first = bisect.bisect_left(self._events, number, key=lambda event: event.number)
            return self._events[first:]

    def _tell(self, kind: EventKind, data: dict[str, Any]) -> None:
        self._events.append(Event(self._next, kind, data))
        self._next += 1
        for listener in self._listeners:
            listener()

    def _forget_text(self) -> None:
        """Whoever comes later has the whole answers in the records."""
        if not self._listeners:
            self._events = [event for event in self._events if event.kind != "text"]


class Jobs:
    """All jobs, and the thread that works on one after the other.

    Args:
        work: on a job; what it raises ends the job alone.
        max_waiting: jobs that may wait, those among them whose upload is under way.
        limit_s: seconds that a job may take once it is begun.
        keep_s: seconds for which a job is kept after its end.

    Attributes:
        ended: called with each job that has ended.
        is_stopping: whether no job is taken any more.
    """

    def __init__(
        self,
        work: Callable[[Job], None],
        max_waiting: int,
        limit_s: float,
        keep_s: float,
    ) -> None:
        self._work = work
        self.ended: Callable[[Job], None] = lambda job: None
        self._max_waiting, self._limit_s, self._keep_s = max_waiting, limit_s, keep_s
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._num_reserved = 0
        self._running: Job | None = None
        self._mean_s = 1.0
        self.is_stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Jobs that wait, those among them whose upload is under way."""
        with self._changed:
            return len(self._waiting) + self._num_reserved

    @property
    def is_alive(self) -> bool:
        """Whether jobs are worked on."""
        return self._thread.is_alive()

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """A place in the queue, until a job takes it (`add`, after this) or nothing comes of it.

        Raises:
            Refusal: there is none (429), or the server stops (503).
        """
        with self._changed:
            if self.is_stopping:
                raise _stopping()
            if self.num_waiting >= self._max_waiting:
                later_s = math.ceil(min(self._mean_s * (self.num_waiting + 1), 3600.0))
                raise Refusal(
                    429, f"{self.num_waiting} jobs are waiting; try again in {later_s} s",
                    {"Retry-After": str(later_s)},
                )  # fmt: skip
            self._num_reserved += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_reserved -= 1

    def add(self, job: Job) -> None:
        """Put a job into the queue.

        Raises:
            Refusal: the server stops (503); the job's upload is deleted.
        """
        with self._changed:
            if self.is_stopping:
                job.end("cancelled", _stopping())
                raise _stopping()
            self._jobs[job.id] = job
            self._waiting.append(job)
            self._changed.notify_all()

    def get(self, job_id: str) -> Job:
        """A job by its id.

        Raises:
            Refusal: there is none (404).
        """
        self.sweep()
        with self._changed:
            if job_id not in self._jobs:
                raise Refusal(404, "there is no such job; it may have been deleted")
            return self._jobs[job_id]

    def cancel(self, job_id: str) -> bool:
        """Stop a job: at once if it waits, else where it looks next; delete it if it has ended.

        Returns:
            whether it had ended, and is deleted.

        Raises:
            Refusal: there is none (404).
        """
        job = self.get(job_id)
        why = Refusal(409, f"{job.name}: was cancelled")
        with self._changed:
            if job.has_ended:
                self._jobs.pop(job_id, None)
                return True
            if job in self._waiting:
                self._waiting.remove(job)
                self._finish(job, "cancelled", why)
            else:
                job.stop(why)
        return False

    def sweep(self) -> None:
        """Delete the jobs that ended long enough ago."""
        with self._changed:
            now = time.monotonic()
            old = [job.id for job in self._jobs.values() if now - job.ended_at > self._keep_s]
            for job_id in old:
                del self._jobs[job_id]

    def stop(self, grace_s: float) -> None:
        """Take no new job, cancel those that wait, and the running one after a while."""
        with self._changed:
            self.is_stopping = True
            while self._waiting:
                self._finish(self._waiting.popleft(), "cancelled", _stopping())
            if self._running is not None:
                self._running.stop(_stopping(), grace_s)
            self._changed.notify_all()

    def close(self, patience_s: float) -> bool:
        """Wait until the thread has ended after `stop`; returns whether it has."""
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self.is_stopping:
                    self._changed.wait()
                if not self._waiting:
                    return
                self._running = job = self._waiting.popleft()
                job.begin(self._limit_s, "ask for less, or shorten it")
            state, failure = self._outcome(job)
            self._finish(job, state, failure)
            with self._changed:
                self._running = None
                self._mean_s += (job.took_s - self._mean_s) / 4

    def _outcome(self, job: Job) -> tuple[State, Refusal | None]:
        try:
            self._work(job)
        except Refusal as why:
            return ("cancelled" if why.status in (409, 503) else "failed"), why
        except R1OmniError as error:
            return "failed", Refusal(422, str(error))
        except Exception:  # a defect, or no memory: the next job may do without
            _logger.exception("job %s failed", job.id)
            line = f"{job.name}: failed inside the server, whose log says why"
            return "failed", Refusal(500, line)
        return "done", None

    def _finish(self, job: Job, state: State, failure: Refusal | None) -> None:
        job.end(state, failure)
        self.ended(job)


def delete(folder: Path) -> None:
    """Delete a folder of an upload; what cannot be deleted is logged."""
    try:
        shutil.rmtree(folder)
    except OSError as error:
        _logger.error("%s cannot be deleted: %s", folder, error)


def _stopping() -> Refusal:
    return Refusal(503, "the server stops; try again later")
