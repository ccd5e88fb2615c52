"""Rewards of a batch of completions, checked."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from collections.abc import Awaitable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from r1omni.rewards.registry import RewardFunction
from r1omni.rewards.spec import RewardSpec, bind_all
from r1omni.types import R1OmniError, RunStopped, UsageError

_T = TypeVar("_T")
# Characters of a completion that an error shows.
_SHOWN = 60


@dataclass(frozen=True)
class _Inputs:
    """What every function of a batch is called with: N completions, and columns of N entries."""

    completions: list[str]
    columns: dict[str, list[Any]]

    def __len__(self) -> int:
        return len(self.completions)

    def call(self, function: RewardFunction) -> Any:
        # Copies: a function that sorts a list must not change what the next one sees.
        columns = {name: list(values) for name, values in self.columns.items()}
        return function(list(self.completions), **columns)

    def only(self, index: int) -> _Inputs:
        return _Inputs(
            [self.completions[index]],
            {name: [values[index]] for name, values in self.columns.items()},
        )

    def place(self, index: int) -> str:
        """How an error names a completion: sample, number and first characters."""
        text = self.completions[index]
        shown = repr(text[:_SHOWN]) + ("..." if len(text) > _SHOWN else "")
        sample_ids = self.columns.get("sample_ids")
        sample = "" if sample_ids is None else f" of sample {sample_ids[index]!r}"
        return f"completion {index}{sample}, {shown}"


def score(
    specs: Sequence[RewardSpec],
    completions: Sequence[str],
    labels: Sequence[str | None],
    **columns: Sequence[Any],
) -> Tensor:
    """Rewards of completions, not yet weighted.

    Functions are called one after the other. What asynchronous ones return is awaited together,
    so a batch takes as long as the slowest of them, whether or not an event loop is running.

    Args:
        specs: K reward functions.
        completions: N completions.
        labels: N class names; None for a clip without one.
        columns: whatever else the functions may use, N entries each; see `COLUMNS`.

    Returns:
        float32 [N, K], NaN where a function returned None.

    Raises:
        UsageError: as `check_rewards`; a column whose length is not N; a function refused its
            input.
        RunStopped: a function says that the run cannot go on.
        R1OmniError: a function failed, or returned something else than N finite numbers or
            None (`registry.py` says which kinds are numbers); it names the function and, if it can
            be known, the sample and the completion.
    """
    inputs = _Inputs(
        list(completions), {name: list(v) for name, v in {"labels": labels, **columns}.items()}
    )
    for name, values in inputs.columns.items():
        if len(values) != len(inputs):
            raise UsageError(f"{name} has {len(values)} entries for {len(inputs)} completions")
    # Every function is looked up before the first runs: a typing error should not cost minutes.
    functions = bind_all(specs, columns)
    outcomes = _run([_call(function, inputs) for function in functions])
    rows = [
        _checked_row(spec.name, function, outcome, inputs)
        for spec, function, outcome in zip(specs, functions, outcomes, strict=True)
    ]
    return torch.tensor(rows, dtype=torch.float32).T.contiguous()


def _call(function: RewardFunction, inputs: _Inputs) -> Any:
    """What a function returns, or the exception that it raises.

    An exception is raised later: functions that were called before may still have to be awaited.
    """
    try:
        return inputs.call(function)
    except Exception as error:
        return error


def _run(results: list[Any]) -> list[Any]:
    """The same results, with those that can be awaited awaited together, exceptions included."""
    waiting = [index for index, result in enumerate(results) if inspect.isawaitable(result)]
    if waiting:
        finished = _run_to_end(_gather([results[index] for index in waiting]))
        for index, outcome in zip(waiting, finished, strict=True):
            results[index] = outcome
    return results


async def _gather(awaitables: list[Awaitable[Any]]) -> list[Any]:
    return await asyncio.gather(*awaitables, return_exceptions=True)


def _run_to_end(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine from code that is not asynchronous, in a thread of its own.

    Not here: a loop may be running already, as in a notebook, and what a signal raises in this
    thread would become the result of whichever task it met.
    """
    outcome: Future[_T] = Future()
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> _T:
        loops.append(asyncio.get_running_loop())
        return await coroutine

    def work() -> None:
        try:
            outcome.set_result(asyncio.run(run()))
        except BaseException as error:
            outcome.set_exception(error)

    # A daemon, so that a call that hangs does not outlive the process that gave it up.
    threading.Thread(target=work, daemon=True).start()
    try:
        return outcome.result()
    except BaseException:
        for loop in loops:
            with suppress(RuntimeError):  # it is closed: nothing is left to cancel
                loop.call_soon_threadsafe(_cancel_all, loop)
        raise


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()


def _checked_row(name: str, function: RewardFunction, outcome: Any, inputs: _Inputs) -> list[float]:
    """N rewards of one function, NaN for None."""
    if isinstance(outcome, RunStopped):
        raise RunStopped(f"reward {name!r}: {outcome}") from outcome  # of no one completion
    if isinstance(outcome, BaseException):
        index = _failing_index(function, inputs, outcome)
        where = "" if index is None else f" on {inputs.place(index)}"
        kind = UsageError if isinstance(outcome, UsageError) else R1OmniError
        raise kind(
            f"reward {name!r} failed{where}: {type(outcome).__name__}: {outcome}"
        ) from outcome
    values = _members(outcome)
    if values is None or len(values) != len(inputs):
        shown = _shown(outcome) if values is None else f"{len(values)} values"
        first = f", the first of which is {inputs.place(0)}" if len(inputs) else ""
        raise R1OmniError(
            f"reward {name!r} returned {shown} for {len(inputs)} completions{first}; expected a "
            "list, tuple, array or tensor with one number each, or None in a list"
        )
    return [_checked_value(name, value, inputs, index) for index, value in enumerate(values)]


def _members(outcome: Any) -> list[Any] | None:
    """The values of what a function returned; None where it is no list of them."""
    if isinstance(outcome, np.ndarray | Tensor):
        return list(outcome) if outcome.ndim == 1 else None
    return list(outcome) if isinstance(outcome, list | tuple) else None


def _shown(value: object) -> str:
    """A value for an error, in one short line."""
    if isinstance(value, np.ndarray | Tensor):
        kind = f"{type(value).__name__} of shape {tuple(value.shape)}, dtype {value.dtype}"
        number = _number(value)
        return kind if number is None else repr(number)
    return " ".join(repr(value).split())[:_SHOWN]


def _failing_index(
    function: RewardFunction, inputs: _Inputs, expected: BaseException
) -> int | None:
    """The first completion that fails in the same way on its own, or None if none does.

    Reward functions are pure, so asking again changes nothing. What can be awaited is awaited
    together: a judge may take seconds for each completion.
    """
    outcomes: list[Any] = []
    for index in range(len(inputs)):
        outcomes.append(_call(function, inputs.only(index)))
        if isinstance(outcomes[-1], Exception):
            break
    for index, outcome in enumerate(_run(outcomes)):
        if isinstance(outcome, BaseException):
            # With another error it cannot take one completion alone, so nothing can be known.
            return index if type(outcome) is type(expected) else None
    return None


def _checked_value(name: str, value: object, inputs: _Inputs, index: int) -> float:
    if value is None:
        return math.nan
    number = _number(value)
    if number is not None and abs(number) <= torch.finfo(torch.float32).max:  # not so for NaN
        return number
    raise R1OmniError(
        f"reward {name!r} returned {_shown(value)} for {inputs.place(index)}; expected None or a "
        "number that is finite in float32"
    )


def _number(value: Any) -> float | None:
    """A number, or an array or tensor of no dimension that holds one, as a float."""
    if isinstance(value, np.ndarray | Tensor):
        if value.ndim:
            return None
        try:
            value = value[()] if isinstance(value, np.ndarray) else value.item()
        except RuntimeError:  # a dtype or a device from which torch reads no number
            return None
    if not isinstance(value, Real | np.bool_) or isinstance(value, np.timedelta64):
        return None
    try:
        return float(value)
    except OverflowError:  # a whole number beyond any float
        return math.inf
