"""What the plain commands share: how their words are read and refused."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from r1omni.options import Range
from r1omni.parser_lines import did_you_mean
from r1omni.types import UsageError


class Parser(argparse.ArgumentParser):
    """Wrong use raises one line instead of printing the whole usage.

    Wrong use is an option given twice, too, unless it is one to repeat (`action="append"`), where
    argparse takes the last; and an empty value, which a path would read as the working directory.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.given: set[str] = set()
        self._words: list[str] = []
        for action in (None, "store"):
            self.register("action", action, _Once)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        self.given.clear()
        words = sys.argv[1:] if args is None else list(args)
        for before, word in zip(["", *words], words, strict=False):
            if not word or re.fullmatch("--[^=]+=", word):
                option = word[:-1] or (before if before.startswith("-") else "")
                place = f"argument {option}: the value" if option else "a word"
                self.error(f"{place} is empty; give one, or leave it out")
        self._words = words
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments: (--[^ =]+)", message)
        if unknown:
            message += did_you_mean(unknown[1], self._option_string_actions)
        elif message.startswith("the following arguments are required: "):
            # A misspelt option may be the one that is missing, and argparse tells of that first.
            known = list(self._option_string_actions)
            for name in (word.partition("=")[0] for word in self._words if word.startswith("--")):
                if not any(option.startswith(name) for option in known):
                    message += f"; {name} is no option{did_you_mean(name, known)}"
        choice = re.search(r"invalid choice: (.+?) \(choose from (.+)\)$", message)
        if choice:
            word, *known = (text.strip().strip("'") for text in [choice[1], *choice[2].split(", ")])
            message += did_you_mean(word, known)
        raise UsageError(f"{message} (see `{self.prog} --help`)")


class _Once(argparse.Action):
    """Stores a value as argparse does, or refuses it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        assert isinstance(parser, Parser)
        if option_string is not None and self.dest in parser.given:
            parser.error(f"argument {option_string}: given twice; give it once")
        parser.given.add(self.dest)
        setattr(namespace, self.dest, values)


def parser_of(name: str, function: Callable[..., None]) -> Parser:
    """The parser of a command; its function's docstring says what it does."""
    return Parser(prog=f"python -m r1omni {name}", description=function.__doc__)


class Number:
    """An argument that is a number; argparse calls it with the words of the command line.

    Args:
        allowed: its range.
        kind: int or float.
    """

    def __init__(self, allowed: Range, kind: type = int) -> None:
        self.allowed, self.kind = allowed, kind

    def __call__(self, text: str) -> float:
        try:
            value: float = self.kind(text)
        except ValueError:
            value = math.nan
        if value not in self.allowed:
            noun = "whole number" if self.kind is int else "number"
            raise argparse.ArgumentTypeError(f"{text!r} must be a {noun} {self.allowed}")
        return value


def check_out(out: Path, is_new: bool = False) -> None:
    """Refuse a folder that cannot be made, before anything is computed."""
    if is_new and out.exists():
        raise UsageError(f"--out {out} exists; choose another folder or remove it")
    existing = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UsageError(f"--out {out} cannot be a folder: {existing} is a file; choose another")
