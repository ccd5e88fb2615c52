"""A judge behind an OpenAI-compatible API: one question, one reply, within limits.

A redirect is never followed, whatever the host: texts and the key go where the configuration says.
Nothing of a response is trusted: not its length, its time, its form or its count of tokens.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from math import isfinite
from types import TracebackType
from typing import Any

import httpx2

from r1omni.judging.cache import GradeCache
from r1omni.judging.config import JudgeConfig
from r1omni.judging.questions import NoGrade
from r1omni.options import shortened
from r1omni.types import RunStopped

# Of a response; a grade with its reasons has a few thousand bytes.
_MOST_BYTES = 2**20
# What another try may help against, beside errors of the server.
_PASSING = {408, 425, 429}
# What every other request would meet, too.
_FINAL = {401, 403, 404, 405}


class Failed(Exception):
    """A try failed; the message says in a few words how.

    Attributes:
        again: whether another try may help.
        wait_s: seconds that the server asks to wait before it, or 0.
    """

    def __init__(self, reason: str, again: bool = True, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.again, self.wait_s = again, wait_s


@dataclass(frozen=True)
class _Response:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Endpoint:
    """Asks the model of a configuration; an asynchronous context manager.

    Args:
        config: with an endpoint.
        grades: counts what is spent.

    Raises:
        UsageError: the variable of the key is not set.
    """

    def __init__(self, config: JudgeConfig, grades: GradeCache) -> None:
        assert config.endpoint is not None
        self._config, self._grades = config, grades
        self._url = config.endpoint.rstrip("/") + "/chat/completions"
        self._key = config.key()
        headers = {"Accept-Encoding": "identity"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        self._client = httpx2.AsyncClient(
            headers=headers,
            follow_redirects=False,
            timeout=config.request_limit_s,
            verify=_certificates(),
            limits=httpx2.Limits(max_connections=config.at_once),
        )
        # Of its own: waiting must not move the random numbers of a training.
        self._jitter = random.Random()

    async def __aenter__(self) -> Endpoint:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def ask(self, question: str, read: Callable[[str], float], deadline: float) -> str:
        """The reply to a question, once one has a grade.

        Args:
            question: the whole prompt.
            read: raises NoGrade for a reply without a grade.
            deadline: of the batch, by `time.monotonic`.

        Raises:
            Failed: every try failed, or a further one cannot help.
            RunStopped: the budget is spent, or the endpoint would refuse every other question.
        """
        for number in range(self._config.max_retries + 1):
            try:
                reply = await self._try(question)
                read(reply)
                return reply
            except NoGrade as error:
                failure = Failed(str(error))
            except Failed as error:
                failure = error
            wait = max(failure.wait_s, self._backoff_s(number))
            if not failure.again or number == self._config.max_retries:
                break
            if time.monotonic() + wait > deadline:
                raise Failed(f"{failure}; no time for another try within batch_limit_s")
            await asyncio.sleep(wait)
        raise failure

    def _backoff_s(self, number: int) -> float:
        """Half to all of what doubles with every try, so that many do not come back together."""
        return self._config.backoff_s * 2.0**number * self._jitter.uniform(0.5, 1.0)

    async def _try(self, question: str) -> str:
        config = self._config
        if not self._grades.begin_request(config.max_requests, config.max_total_tokens):
            raise RunStopped(self._budget_line())
        try:
            async with asyncio.timeout(config.request_limit_s):
                response = await self._post(question)
        except TimeoutError:
            raise Failed(f"no reply within {config.request_limit_s:g} s") from None
        except httpx2.TimeoutException:
            raise Failed(f"no reply within {config.request_limit_s:g} s") from None
        except httpx2.HTTPError as error:
            raise Failed(self._safe(f"{type(error).__name__}: {error}")) from error
        return self._reply(response)

    async def _post(self, question: str) -> _Response:
        config = self._config
        body = {
            "model": config.model,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": config.max_new_tokens,
            **config.parameters,
        }
        body = {name: value for name, value in body.items() if value is not None}
        async with self._client.stream("POST", self._url, json=body) as response:
            chunks: list[bytes] = []
            size = 0
            async for chunk in response.aiter_raw():  # as sent: nothing is unpacked
                size += len(chunk)
                if size > _MOST_BYTES:
                    raise Failed(f"the response has more than {_MOST_BYTES} bytes")
                chunks.append(chunk)
        return _Response(response.status_code, response.headers, b"".join(chunks))

    def _reply(self, response: _Response) -> str:
        status = response.status
        if status in _FINAL or 300 <= status < 400:
            what = "a redirect, which is not followed" if status < 400 else self._told(response)
            raise RunStopped(f"judge: {self._url} answers {status}: {what}")
        if status != 200:
            again = status in _PASSING or status >= 500
            raise Failed(
                f"status {status}: {self._told(response)}", again, _retry_after_s(response.headers)
            )
        try:
            found = json.loads(response.body)
            (choice,) = found["choices"]
            content, cut = choice["message"]["content"], choice.get("finish_reason") == "length"
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            raise Failed("the response is no chat completion") from None
        self._count_tokens(found.get("usage"))
        if not isinstance(content, str):
            raise Failed("the response has no text")
        if cut:
            raise Failed("the reply was cut; give it more max_new_tokens")
        return content

    def _count_tokens(self, usage: Any) -> None:
        total = usage.get("total_tokens") if isinstance(usage, dict) else None
        if isinstance(total, int) and not isinstance(total, bool) and 0 <= total < 2**31:
            self._grades.add_tokens(total)
        elif self._config.max_total_tokens is not None:
            raise RunStopped(
                f"judge: {self._url} reports no usage, so max_total_tokens cannot be kept; use "
                "max_requests in its place"
            )

    def _told(self, response: _Response) -> str:
        """The beginning of a body, for a message."""
        return self._safe(response.body[:400].decode("utf-8", errors="replace"))

    def _safe(self, text: str) -> str:
        return shortened(text if self._key is None else text.replace(self._key, "***"))

    def _budget_line(self) -> str:
        spent, config = self._grades.spent(), self._config
        if config.max_requests is not None and spent.requests >= config.max_requests:
            what, name = f"{spent.requests} requests", "max_requests"
        else:
            what, name = f"{spent.tokens} tokens", "max_total_tokens"
        return (
            f"judge: the budget {name} {getattr(config, name)} is spent: {what} were made with "
            f"{self._grades.path}; raise it and go on, what was judged is kept"
        )


@cache
def _certificates() -> ssl.SSLContext:
    """What tells true hosts from false ones; read once, since it takes half a second."""
    return httpx2.create_ssl_context()


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """What a Retry-After asks for, in seconds or as a date; 0 where there is none to read."""
    text = headers.get("retry-after", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            return 0.0
        date = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
        seconds = (date - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if isfinite(seconds) else 0.0
