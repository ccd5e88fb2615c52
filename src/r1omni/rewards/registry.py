"""Reward functions by name.

A reward function has the signature

    (completions: list[str], labels: list[str | None], **columns) -> list[float | None]

with one value a completion, None where it has nothing to say. `columns` carries whatever else is
known, one list entry a completion; a function takes the columns it needs by name and ignores
the rest with `**columns`. It is pure: the same completion always earns the same reward.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from r1omni.types import UsageError


class RewardFunction(Protocol):
    """Scores completions; see the module."""

    def __call__(
        self, completions: list[str], labels: list[str | None], **columns: list[Any]
    ) -> list[float | None]: ...


_REGISTRY: dict[str, RewardFunction] = {}
_Function = TypeVar("_Function", bound=Callable[..., list[float | None]])


def register(name: str) -> Callable[[_Function], _Function]:
    """Make a reward function known as `name`.

    Raises:
        UsageError: the name is taken, or holds a colon, which marks an import path.
    """
    if ":" in name or not name:
        raise UsageError(f"reward name {name!r} is empty or holds a colon; choose another")

    def add(function: _Function) -> _Function:
        if _REGISTRY.setdefault(name, function) is not function:
            raise UsageError(f"a reward function is already registered as {name!r}")
        return function

    return add


def reward_names() -> tuple[str, ...]:
    """The registered names, sorted."""
    return tuple(sorted(_REGISTRY))


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
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"reward {name!r}: cannot import module {module_name!r}: {error}"
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise UsageError(f"reward {name!r}: module {module_name!r} has no function {attribute!r}")
    return function  # type: ignore[no-any-return]
