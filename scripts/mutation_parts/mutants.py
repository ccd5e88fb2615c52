"""Mutants of a module: its source with one small change, by the operators of cosmic-ray.

Left out are changes that no test could miss or see. Arithmetic replaced by a shift or by bitwise
logic raises on the first float, and would flatter the score. `==` replaced by `is` (and the other
way) is the same for None and for small numbers. Annotations are not evaluated.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from dataclasses import dataclass

# A replacement stays in the group of what it replaces.
_GROUPS = (
    {"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"},
    {"BitOr", "BitAnd", "BitXor"},
    {"Eq", "NotEq", "Lt", "LtE", "Gt", "GtE"},
    {"Is", "IsNot"},
    {"UAdd", "USub", "Invert", "Not", "Delete"},
)


class WrongUse(Exception):
    """What the caller can put right.

    Not the package's `UsageError`: each child has to import the package from its own copy.
    """


@dataclass(frozen=True)
class Mutant:
    """A changed module.

    Attributes:
        line: of the change, from 1.
        change: the changed lines, before and after.
        source: of the whole module.
    """

    line: int
    change: str
    source: str


def mutants_of(source: str) -> list[Mutant]:
    """All mutants of a module, in the order of their lines.

    No two are the same program, and none is the same as `source` but for annotations.

    Raises:
        WrongUse: cosmic-ray is not installed.
    """
    seen = {_program(source)}
    mutants = []
    for changed in _changed(source):
        try:
            program = _program(changed)
        except SyntaxError:
            continue  # a place where the replacement has no meaning, as in `import *`
        if program not in seen:
            seen.add(program)
            mutants.append(mutant(source, changed))
    return sorted(mutants, key=lambda each: (each.line, each.change))


def mutant(source: str, changed: str) -> Mutant:
    """The mutant that has `changed` for `source`; the two differ in at least one line."""
    before, after = source.splitlines(), changed.splitlines()
    shortest = min(len(before), len(after))
    first = next((i for i in range(shortest) if before[i] != after[i]), shortest)
    same = 0
    while same < shortest - first and before[-1 - same] == after[-1 - same]:
        same += 1
    old = " ".join(line.strip() for line in before[first : len(before) - same])
    new = " ".join(line.strip() for line in after[first : len(after) - same])
    # A decorator is taken off with the empty lines before it.
    while first < len(before) - 1 and not before[first].strip():
        first += 1
    return Mutant(first + 1, f"{old.strip()}  ->  {new.strip()}", changed)


def _changed(source: str) -> Iterator[str]:
    try:
        plugins = importlib.import_module("cosmic_ray.plugins")
        mutating = importlib.import_module("cosmic_ray.mutating")
        trees = importlib.import_module("cosmic_ray.ast")
    except ImportError as error:
        raise WrongUse(
            f"cosmic-ray makes the mutants ({error}); install the extra: pip install '.[mutation]'"
        ) from error
    tree = trees.get_ast(source)
    for name in plugins.operator_names():
        kind = plugins.get_operator(name)
        # Those with arguments replace variables that are named to them.
        if kind.arguments() or not _tells(name):
            continue
        operator = kind()
        places = sum(len(list(operator.mutation_positions(node))) for node in trees.ast_nodes(tree))
        for place in range(places):
            changed = mutating.mutate_code(source, operator, place)
            if changed is not None:
                yield changed


def _tells(operator: str) -> bool:
    words = operator.split("_")
    return len(words) != 3 or any({words[1], words[2]} <= group for group in _GROUPS)


class _Bare(ast.NodeTransformer):
    """Takes annotations off, where `from __future__ import annotations` keeps them unevaluated."""

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)


def _program(source: str) -> str:
    return ast.dump(_Bare().visit(ast.parse(source)))
