"""What the plain commands share: how their words are read and refused."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from r1omni.options import Range
from r1omni.types import UsageError


class Parser(argparse.ArgumentParser):
    """Wrong use raises one line instead of printing the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see `{self.prog} --help`)")


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
