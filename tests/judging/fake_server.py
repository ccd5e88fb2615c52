"""A judge's server in a thread that does what it is told: answers, fails, hangs, lies."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[["Handler", dict[str, Any]], None]


class Handler(BaseHTTPRequestHandler):
    """One request; `server.behave` decides what comes back."""

    protocol_version = "HTTP/1.1"
    server: FakeServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.seen.append((self.path, dict(self.headers), body))
            number = len(self.server.seen)
        self.number = number
        with suppress(BrokenPipeError, ConnectionResetError):  # the client gave up, as it should
            self.server.behave(self, body)

    do_GET = do_POST

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def reply(self, text: Any, **more: Any) -> None:
        """A chat completion with this text."""
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        completion = {"choices": [choice | more.pop("choice", {})], **more}
        self.send(200, json.dumps(completion).encode(), Content_Type="application/json")

    def log_message(self, *args: Any) -> None:
        pass


class FakeServer(ThreadingHTTPServer):
    """On a free port of this machine.

    Attributes:
        behave: what is done with a request.
        seen: path, headers and body of every request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behave: Behaviour = grade_by_length
        self.seen: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.lock = threading.Lock()
        self.ending = threading.Event()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def questions(self) -> list[str]:
        return [body["messages"][0]["content"] for _, _, body in self.seen]


@contextmanager
def serving() -> Iterator[FakeServer]:
    server = FakeServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.ending.set()
        server.shutdown()
        thread.join()
        server.server_close()


def grade_by_length(handler: Handler, body: dict[str, Any]) -> None:
    """A grade that only the question decides."""
    grade = len(body["messages"][0]["content"]) % 11
    handler.reply(json.dumps({"score": grade, "why": "its length"}), usage={"total_tokens": 7})


def hang(handler: Handler, body: dict[str, Any]) -> None:
    """Say nothing."""
    handler.server.ending.wait(30)


def drip(handler: Handler, body: dict[str, Any]) -> None:
    """A response whose bytes come one by one, each in time."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not handler.server.ending.is_set():
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.02)
