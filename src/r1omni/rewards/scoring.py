"""Rewards of a batch of completions, checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from r1omni.rewards.registry import RewardFunction, get_reward
from r1omni.types import R1OmniError, UsageError


@dataclass(frozen=True)
class RewardSpec:
    """A reward function and its share in the total.

    Attributes:
        name: registered name or "package.module:function".
        weight: factor of the reward in the total; 0 only logs it.

    Raises:
        UsageError: a weight that is not finite.
    """

    name: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise UsageError(f"reward {self.name!r}: weight {self.weight} is not finite")


def score(
    specs: Sequence[RewardSpec],
    completions: Sequence[str],
    labels: Sequence[str | None],
    **columns: Sequence[Any],
) -> Tensor:
    """Rewards of completions, not yet weighted.

    Args:
        specs: K reward functions.
        completions: N completions.
        labels: N class names; None for a clip without one.
        columns: whatever else the functions may use, N entries each.

    Returns:
        float32 [N, K], NaN where a function returned None.

    Raises:
        UsageError: no function, one named twice or unknown, or a column whose length is not N.
        R1OmniError: a function failed, or returned something else than N finite numbers or
            None; it names the function and, if it can be known, the completion.
    """
    names = [spec.name for spec in specs]
    if not names or len(set(names)) != len(names):
        raise UsageError(f"rewards are {names}; name at least one, and each once")
    lists = {name: list(values) for name, values in {"labels": labels, **columns}.items()}
    for name, values in lists.items():
        if len(values) != len(completions):
            raise UsageError(f"{name} has {len(values)} entries for {len(completions)} completions")
    # Every function is looked up before the first runs: a typing error should not cost minutes.
    functions = [(name, get_reward(name)) for name in names]
    rows = [_evaluate(name, function, list(completions), lists) for name, function in functions]
    return torch.tensor(rows, dtype=torch.float32).T.contiguous()


def _evaluate(
    name: str, function: RewardFunction, completions: list[str], lists: dict[str, list[Any]]
) -> list[float]:
    """N rewards of one function, NaN for None."""
    try:
        values = function(completions, **lists)
    except Exception as error:
        index = _failing_index(function, completions, lists, type(error))
        where = "" if index is None else f" on completion {index}"
        raise R1OmniError(
            f"reward {name!r} failed{where}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(values, list | tuple) or len(values) != len(completions):
        shown = f"{len(values)} values" if isinstance(values, list | tuple) else repr(values)[:80]
        raise R1OmniError(
            f"reward {name!r} returned {shown} for {len(completions)} completions; expected a "
            "list with one number or None each"
        )
    return [_checked_value(name, index, value) for index, value in enumerate(values)]


def _failing_index(
    function: RewardFunction,
    completions: list[str],
    lists: dict[str, list[Any]],
    error_type: type[Exception],
) -> int | None:
    """The first completion that fails in the same way on its own, or None if none does.

    Reward functions are pure, so asking again changes nothing.
    """
    for index, completion in enumerate(completions):
        alone = {name: [values[index]] for name, values in lists.items()}
        try:
            function([completion], **alone)
        except error_type:
            return index
        except Exception:
            return None  # it cannot take one completion alone, so nothing can be known
    return None


def _checked_value(name: str, index: int, value: object) -> float:
    if value is None:
        return math.nan
    if not isinstance(value, Real) or not math.isfinite(value):
        raise R1OmniError(
            f"reward {name!r} returned {value!r} for completion {index}; expected a finite "
            "number or None"
        )
    if abs(float(value)) > torch.finfo(torch.float32).max:
        raise R1OmniError(
            f"reward {name!r} returned {value!r} for completion {index}, beyond float32"
        )
    return float(value)
