"""A server in a thread of the tests, with any work, and a client of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmark_serve import FORM, JSON, ask, form

from r1omni.serving.config import ServeConfig
from r1omni.serving.job import Job
from r1omni.serving.server import Front, listening_at, made_server


@dataclass(frozen=True)
class Client:
    """Asks a server; every answer that is a refusal has to be one line of JSON."""

    port: int
    headers: Mapping[str, str] = field(default_factory=dict)

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], Any]:
        code, found, data = ask(self.port, method, path, body, {**self.headers, **(headers or {})})
        assert found["cache-control"] == "no-store"
        assert found["x-content-type-options"] == "nosniff"
        answer = json.loads(data) if found.get("content-type") == "application/json" else data
        if code >= 400 and path != "/healthz":
            assert answer.keys() == {"detail"}, answer
            assert "\n" not in answer["detail"] and "Traceback" not in answer["detail"]
        return code, found, answer

    def upload(self, data: bytes | None, name: str = "a.mp4", **fields: object) -> tuple[int, Any]:
        code, _, answer = self.ask("POST", "/analyze", form(fields, data, name), FORM)
        return code, answer

    def name(self, **values: object) -> tuple[int, Any]:
        code, _, answer = self.ask("POST", "/analyze", json.dumps(values).encode(), JSON)
        return code, answer

    def job(self, job_id: str) -> Any:
        return self.ask("GET", f"/jobs/{job_id}")[2]

    def events(self, job_id: str) -> list[tuple[str, Any]]:
        _, _, page = self.ask("GET", f"/jobs/{job_id}/events")
        blocks = [block.splitlines() for block in page.decode().split("\n\n") if block]
        return [
            (lines[1].removeprefix("event: "), json.loads(lines[2].removeprefix("data: ")))
            for lines in blocks
            if not lines[0].startswith(":")
        ]


@contextmanager
def served(
    config: ServeConfig, work: Callable[[Job], None], front: Front | None = None
) -> Iterator[Client]:
    """A server at a free port; it has ended afterwards."""
    with (
        listening_at(config) as listening,
        made_server(config, work, "0" * 16, "float32", front) as server,
    ):
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        key = {} if config.api_key is None else {"Authorization": f"Bearer {config.api_key}"}
        try:
            yield Client(listening.getsockname()[1], key)
        finally:
            server.should_exit = True
            thread.join()
