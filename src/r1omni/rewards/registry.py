"""Reward functions by name.

A reward function has the signature

    (completions: list[str], labels: list[str | None], **columns) -> list[float | None]

with one value a completion, None where it has nothing to say. `columns` carries whatever else is
known, one list entry a completion (`COLUMNS` in `spec.py`); a function takes the columns it needs
by name and ignores the rest with `**columns`. Its options are keyword parameters too, set for all
completions by the configuration. It is pure: the same completion always earns the same reward.

The values come in a list or tuple, or in a numpy array or tensor of one dimension, on any device. A
value is a number of Python, numpy or torch (True is 1), also in an array or tensor without
dimension; it is taken as float32, without gradient. NaN is no None: what is not finite, a text, a
list in a list or another count of values stops the run at the first rollout, and the error names
the reward, the sample and the value.

It may be `async def`, for instance to ask a judge over the network: all such functions of a batch
wait together.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Protocol, TypeVar

from r1omni.options import imported
from r1omni.types import UsageError


class RewardFunction(Protocol):
    """Scores completions; see the module."""

    def __call__(
        self, completions: list[str], labels: list[str | None], **columns: list[Any]
    ) -> list[float | None] | Awaitable[list[float | None]]: ...


# Refuses options that a function cannot use, given the names of the columns that it will get.
OptionCheck = Callable[[Mapping[str, Any], Collection[str]], None]

_REGISTRY: dict[str, RewardFunction] = {}
_CHECKS: dict[str, OptionCheck] = {}
_NEED_LABELS: set[str] = set()
_Function = TypeVar("_Function", bound=Callable[..., Any])


def register(
    name: str, check: OptionCheck | None = None, needs_labels: bool = False
) -> Callable[[_Function], _Function]:
    """Make a reward function known as `name`.

    Args:
        name: what a configuration calls it.
        check: raises UsageError for values of options that the function would refuse, so that a
            run does not begin with them. Names of options are checked without it.
        needs_labels: whether the function is silent about a clip without a label, so that a run
            without any does not begin.

    Raises:
        UsageError: the name is taken, or holds a colon, which marks an import path.
    """
    if ":" in name or not name:
        raise UsageError(f"reward name {name!r} is empty or holds a colon; choose another")

    def add(function: _Function) -> _Function:
        if _REGISTRY.setdefault(name, function) is not function:
            raise UsageError(f"a reward function is already registered as {name!r}")
        if check is not None:
            _CHECKS[name] = check
        if needs_labels:
            _NEED_LABELS.add(name)
        return function

    return add


def reward_names() -> tuple[str, ...]:
    """The registered names, sorted."""
    return tuple(sorted(_REGISTRY))


def option_check(name: str) -> OptionCheck | None:
    """The check that was registered with `name`, if any."""
    return _CHECKS.get(name)


def needs_labels(name: str) -> bool:
    """Whether a function is known to be silent about clips without a label."""
    return name in _NEED_LABELS


def get_reward(name: str) -> RewardFunction:
    """The reward function registered as `name`, or found at "package.module:function".

    Raises:
        UsageError: no such name, module or function.
    """
    if ":" not in name:
        if name not in _REGISTRY:
            raise UsageError(
                f"reward {name!r} is unknown; use one of {', '.join(reward_names())}, or an "
                "import path package.module:function"
            )
        return _REGISTRY[name]
    return imported("reward", name)
