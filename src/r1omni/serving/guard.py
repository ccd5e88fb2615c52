"""Around every request: the key, the host's name, headers, and the count of codes."""

from __future__ import annotations

import hmac
from collections.abc import Collection

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from r1omni.serving.metrics import Metrics

# What needs no key: whether it lives, and what it does.
OPEN = ("/healthz", "/openapi.json")
_HEADERS = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


class Guard:
    """An application with the same application inside, for those who may ask it.

    Without a key only this machine reaches the server, and browsers on it are led there by any
    page they show: so the name that they ask for has to be the host's own, and a page of another
    origin is refused.

    Args:
        app: the application.
        key: what requests have to know, or None.
        host: that the server listens at.
        metrics: counts every request.
        open_paths: more paths that need no key.
    """

    def __init__(
        self,
        app: ASGIApp,
        key: str | None,
        host: str,
        metrics: Metrics,
        open_paths: Collection[str] = (),
    ) -> None:
        self._app, self._metrics = app, metrics
        self._open = {*OPEN, *open_paths}
        self._wanted = None if key is None else f"Bearer {key}".encode()
        self._names = {host, f"[{host}]", "localhost", "127.0.0.1", "[::1]"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_ours(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.answered(message["status"])
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        refused = self._refused(scope)
        await (self._app if refused is None else refused)(scope, receive, send_ours)

    def _refused(self, scope: Scope) -> JSONResponse | None:
        headers = dict(scope["headers"])
        if self._wanted is None:
            host = headers.get(b"host", b"").decode("latin-1")
            origin = headers.get(b"origin", b"").decode("latin-1")
            name = host if host.endswith("]") else host.rpartition(":")[0] or host
            if name not in self._names or (origin and origin.partition("://")[2] != host):
                return _refusal(403, "asked for by another name, or by a page of another origin")
            return None
        given = headers.get(b"authorization", b"")
        if scope["path"] in self._open or hmac.compare_digest(given, self._wanted):
            return None
        return _refusal(
            401, "the key is missing or wrong; send it as `Authorization: Bearer KEY`",
            {"WWW-Authenticate": "Bearer"},
        )  # fmt: skip


def _refusal(status: int, line: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": line}, status, headers)
