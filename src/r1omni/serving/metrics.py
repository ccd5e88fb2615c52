"""What Prometheus reads of a server."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from r1omni.serving.job import Job

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]
_BUCKETS_S = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)


class Metrics:
    """Counts of one server, in a registry of its own.

    Args:
        queue_length: tells how many jobs wait.
    """

    def __init__(self, queue_length: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "r1omni_requests", "Requests by status code.", ["code"], registry=self._registry
        )
        self._seconds = Histogram(
            "r1omni_job_seconds", "Seconds that jobs took, without waiting.", ["state"],
            buckets=_BUCKETS_S, registry=self._registry,
        )  # fmt: skip
        self._records = Counter("r1omni_records", "Answers given.", registry=self._registry)
        queue = Gauge("r1omni_queue_length", "Jobs that wait.", registry=self._registry)
        queue.set_function(queue_length)

    def answered(self, code: int) -> None:
        """Count a request."""
        self._requests.labels(str(code)).inc()

    def ended(self, job: Job) -> None:
        """Count a job that has ended."""
        self._seconds.labels(job.state).observe(job.took_s)
        self._records.inc(sum(record.error is None for record in job.records))

    def page(self) -> bytes:
        """All counts, as Prometheus reads them."""
        return generate_latest(self._registry)
