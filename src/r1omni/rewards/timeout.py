"""A limit on the time that a reward function may take."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import Any


def limited(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    """`function` with a limit: a call that takes longer raises TimeoutError.

    A call that hangs cannot be stopped from outside. Its thread is left behind, and ends with the
    process.

    Args:
        function: a reward function, asynchronous or not.
        seconds: above 0.
    """

    def call(*arguments: Any, **keywords: Any) -> Any:
        outcome: list[Any] = []

        def work() -> None:
            try:
                outcome.append((function(*arguments, **keywords), None))
            except Exception as error:
                outcome.append((None, error))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(seconds)
        if not outcome:
            raise TimeoutError(f"no answer within {seconds:g} s")
        value, error = outcome[0]
        if error is not None:
            raise error
        return _limited_wait(value, seconds) if inspect.isawaitable(value) else value

    return call


async def _limited_wait(awaitable: Awaitable[Any], seconds: float) -> Any:
    try:
        return await asyncio.wait_for(awaitable, seconds)
    except TimeoutError:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
