"""Rewards of a batch of completions, checked."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeVar

import torch
from torch import Tensor

from r1omni.rewards.registry import RewardFunction
from r1omni.rewards.spec import RewardSpec, bind_all
from r1omni.types import R1OmniError, UsageError

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
        R1OmniError: a function failed, or returned something else than N finite numbers or
            None; it names the function and, if it can be known, the sample and the completion.
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
    """Run a coroutine from code that is not asynchronous."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    # Inside a loop already, as in a notebook: a loop cannot run in another, but beside it.
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(asyncio.run, coroutine).result()


def _checked_row(name: str, function: RewardFunction, outcome: Any, inputs: _Inputs) -> list[float]:
    """N rewards of one function, NaN for None."""
    if isinstance(outcome, BaseException):
        index = _failing_index(function, inputs, outcome)
        where = "" if index is None else f" on {inputs.place(index)}"
        kind = UsageError if isinstance(outcome, UsageError) else R1OmniError
        raise kind(
            f"reward {name!r} failed{where}: {type(outcome).__name__}: {outcome}"
        ) from outcome
    if not isinstance(outcome, list | tuple) or len(outcome) != len(inputs):
        number = isinstance(outcome, list | tuple)
        shown = f"{len(outcome)} values" if number else repr(outcome)[:80]
        first = f", the first of which is {inputs.place(0)}" if len(inputs) else ""
        raise R1OmniError(
            f"reward {name!r} returned {shown} for {len(inputs)} completions{first}; expected a "
            "list with one number or None each"
        )
    return [_checked_value(name, value, inputs, index) for index, value in enumerate(outcome)]


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
    if isinstance(value, Real):
        try:
            number = float(value)
        except OverflowError:  # a whole number beyond any float
            number = math.inf
        if abs(number) <= torch.finfo(torch.float32).max:  # not so for NaN
            return number
    raise R1OmniError(
        f"reward {name!r} returned {repr(value)[:80]} for {inputs.place(index)}; expected None or "
        "a number that is finite in float32"
    )
