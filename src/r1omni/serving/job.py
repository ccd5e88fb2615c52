"""One recording to analyze: where it is, what it has told so far, and how it ends."""

from __future__ import annotations

import bisect
import logging
import math
import secrets
import shutil
import threading
import time
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


def delete(folder: Path) -> None:
    """Delete a folder of an upload; what cannot be deleted is logged."""
    try:
        shutil.rmtree(folder)
    except OSError as error:
        _logger.error("%s cannot be deleted: %s", folder, error)
