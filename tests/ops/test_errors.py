"""What the kernels refuse is wrong use; what torch raises is a failure."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from r1omni import kernels, ops
from r1omni.kernels import dispatch
from r1omni.ops import errors
from r1omni.types import UsageError

ONES = torch.ones(4, 2)
IDS = torch.zeros(4, dtype=torch.long)
# What stands on the kernels, with arguments that are right; `converting` finds them.
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "selective_logprob": (ONES, IDS),
    "selective_logprob_and_entropy": (ONES, IDS),
    "linear_logprob": (ONES, ONES, IDS),
    "group_advantages": (ONES, 2),
    "reward_metrics": (ONES, 2),
}


def converting() -> dict[str, Callable[..., Any]]:
    """The functions of ops that turn the kernels' refusals into ours."""
    found = {}
    for module in pkgutil.iter_modules(ops.__path__, "r1omni.ops."):
        for function in vars(importlib.import_module(module.name)).values():
            is_own = inspect.isfunction(function) and function.__module__ == module.name
            if is_own and "with usage_errors()" in inspect.getsource(function):
                found[function.__name__] = function
    return found


def test_every_function_that_converts_is_tried() -> None:
    assert converting().keys() == ARGUMENTS.keys()


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize(
    ("raised", "wanted"), [(ValueError, ValueError), (dispatch.ArgumentError, UsageError)]
)
def test_only_refusals_become_usage_errors(
    name: str, raised: type, wanted: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: Any, **named: Any) -> None:
        raise raised("what it says")

    function = converting()[name]
    for operator in kernels.__all__:
        monkeypatch.setattr(kernels, operator, fails)
    monkeypatch.setattr("r1omni.ops.advantages.check_options", fails)
    with pytest.raises(ValueError if wanted is ValueError else UsageError, match="what it says"):
        function(*ARGUMENTS[name])
    with pytest.raises(wanted) as caught, errors.usage_errors():
        fails()
    assert type(caught.value) is wanted


def test_kernels_refuse_by_their_own_error() -> None:
    """A plain ValueError could not be told from one of torch."""
    plain = [
        f"{path.name}:{node.lineno}: raise ArgumentError of dispatch.py"
        for path in Path(kernels.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Raise) and node.exc is not None
        if ast.unparse(node.exc).startswith("ValueError")
    ]
    assert plain == []
