"""A constant has one home: no module writes down again what another one has."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "r1omni"
# One a module by custom: what it makes carries the name of its module, or stands for any type.
_OWN = {"logging.getLogger", "TypeVar"}


def constants(tree: ast.Module) -> list[tuple[str, str, bool]]:
    """Name, value and whether the value has parts, of every constant of a module."""
    found = []
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            target, value = node.target, node.value
        else:
            continue
        if isinstance(value, ast.Call) and ast.unparse(value.func) in _OWN:
            continue
        if isinstance(value, ast.Call) and ast.unparse(value.func) == "tl.constexpr":
            value = value.args[0]
        if isinstance(target, ast.Name) and target.id != "__all__":
            parts = [node for node in ast.walk(value) if isinstance(node, ast.Constant)]
            whole = isinstance(value, ast.Dict | ast.List | ast.Tuple | ast.Set | ast.Call)
            number = _number(value)
            text = ast.unparse(value) if number is None else repr(number)
            found.append((target.id.strip("_").lower(), text, whole and len(parts) > 1))
    return found


def _number(value: ast.expr) -> float | None:
    if isinstance(value, ast.Constant) and isinstance(value.value, int | float):
        return float(value.value)
    return None


def twice(sources: dict[str, str]) -> list[str]:
    """Constants with the same name and value in two modules, and the same value of several parts.

    Args:
        sources: text of each module, by name.
    """
    homes: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for module, text in sources.items():
        for name, value, whole in constants(ast.parse(text)):
            homes[(value,) if whole else (name, value)].append(f"{module}: {name}")
    return [f"{' and '.join(at)} are {key[-1]}" for key, at in homes.items() if len(at) > 1]


def test_no_constant_is_defined_twice() -> None:
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 100
    texts = {str(f.relative_to(SOURCE)): f.read_text(encoding="utf-8") for f in files}
    assert twice(texts) == []


def test_the_walk_sees_every_form() -> None:
    assert twice({"a": "LIMIT = 1e-4", "b": "_LIMIT: float = tl.constexpr(0.0001)"})
    assert twice({"a": "X = {'a': 1}", "b": "Y = {'a': 1}"})
    assert twice({"a": "X = f(-1, 1)", "b": "Y = f(-1, 1)"})
    assert not twice({"a": "X = 3", "b": "Y = 3"})
    assert not twice({"a": "X = 3", "b": "X = 4"})
    assert not twice({"a": "X = 3", "b": "from a import X"})
    assert not twice({"a": "log = logging.getLogger(n)", "b": "log = logging.getLogger(n)"})
