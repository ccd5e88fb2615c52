"""docs/commands.md: every option of every plain command, from the parsers themselves.

    python scripts/write_commands.py

What stands above the line that begins the options is written by hand and stays.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from script_options import ScriptParser

from r1omni.commands import COMMANDS
from r1omni.commands.arguments import Number, Parser

PAGE = Path(__file__).resolve().parents[1] / "docs" / "commands.md"
BEGIN = "## Options of every command\n"
_KINDS = {Path: "path", None: "text", str: "text"}


class _Found(Exception):
    """Takes a parser out of the command that made it."""


def main() -> None:
    """Write the page."""
    ScriptParser(description=__doc__.splitlines()[0]).parse_args()
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")


def page(known: str) -> str:
    """The page with its options written anew."""
    above, _, _ = known.partition(BEGIN)
    told = (
        "From the parsers themselves, by `python scripts/write_commands.py`; a test holds that "
        "this is up to date.\nOptions of `fit`, `validate`, `test` and `predict` are those of a "
        "configuration file: [configuration.md](configuration.md).\nAll commands take `--help` "
        "and `--debug`. A number outside its range is refused, and so is an option that is\n"
        "given twice. Without a default, what stands behind a semicolon is done.\n"
    )
    return f"{above}{BEGIN}\n{told}\n" + "\n".join(_sections())


def parser(name: str) -> Parser:
    """The parser of a command."""

    def caught(self: Parser, *args: object, **options: object) -> None:
        raise _Found(self)

    with mock.patch.object(Parser, "parse_known_args", caught):
        try:
            COMMANDS[name]([])
        except _Found as found:
            made = found.args[0]
            assert isinstance(made, Parser)
            return made
    raise AssertionError(f"{name} parses no words")


def options_of(name: str) -> list[argparse.Action]:
    """What a command takes, without --help and what is hidden."""
    hidden = (argparse.SUPPRESS, "show this help message and exit")
    return [action for action in parser(name)._actions if action.help not in hidden]


def _sections() -> Iterator[str]:
    for name in COMMANDS:
        rows = [_row(action) for action in options_of(name)]
        head = "| option | value | default | what it is |\n|---|---|---|---|\n"
        yield f"### {name}\n\n{parser(name).description}\n\n{head}" + "\n".join(rows) + "\n"


def _row(action: argparse.Action) -> str:
    names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{_metavar(action)}`"
    default = "required" if action.required else _default(action.default)
    told = (action.help or "").replace("|", "\\|").replace("<", "\\<")
    return f"| {names} | {_value(action)} | {default} | {told} |"


def _default(value: object) -> str:
    return "" if value is False or value in (None, "", [], ()) else f"`{value}`"


def _metavar(action: argparse.Action) -> str:
    return action.metavar if isinstance(action.metavar, str) else action.dest


def _value(action: argparse.Action) -> str:
    if action.choices is not None:
        told = ", ".join(f"`{choice}`" for choice in action.choices)
    elif action.nargs == 0:
        told = "none"
    elif isinstance(action.type, Number):
        noun = "whole number" if action.type.kind is int else "number"
        told = f"{noun} {action.type.allowed}".removesuffix(f" and at most {2**31 - 1}")
    else:
        told = _KINDS.get(action.type, "text")  # type: ignore[call-overload]
    return f"one or more: {told}" if action.nargs == "+" else told


if __name__ == "__main__":
    main()
