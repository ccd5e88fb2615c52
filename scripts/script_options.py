"""Options of scripts, read and refused as those of the plain commands are: in one line."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

sys.path.append(str(Path(__file__).resolve().parent.parent / "src"))  # if it is not installed

from r1omni.commands.arguments import Parser
from r1omni.types import UsageError

if TYPE_CHECKING:
    from r1omni.models.config import OmniConfig


class ScriptParser(Parser):
    """Wrong use ends the script with one line and status 2.

    An `--out` that cannot be written is wrong use, too, told of before anything is measured. The
    folder that it lies in is made.
    """

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        found, left = super().parse_known_args(args, namespace)
        out = getattr(found, "out", None)
        if isinstance(out, Path):
            folder = out if out.is_dir() else out.parent
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder):
                    pass
            except OSError as error:
                self.error(f"--out: cannot write in {folder}: {error.strerror}")
        return found, left

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see `{self.prog} --help`)\n")


def file_to_write(text: str) -> Path:
    """The type of an option that names a file, where others name a folder."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder; name a file in it")
    return path


def model_sizes(text: str) -> OmniConfig:
    """The type of an option that names a YAML file of a model's sizes."""
    from r1omni.models.sizes import config_from_sizes  # slow, and few scripts need it

    try:
        return config_from_sizes(Path(text))
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
