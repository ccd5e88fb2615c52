"""A bounded queue of jobs in front of one model thread.

Nothing here knows a model or HTTP: the work is a function of a job, which may take long and is
stopped where it looks (`Job.check`).
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from r1omni.serving.job import Job, Refusal, State
from r1omni.types import R1OmniError

_logger = logging.getLogger(__name__)


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


def _stopping() -> Refusal:
    return Refusal(503, "the server stops; try again later")
