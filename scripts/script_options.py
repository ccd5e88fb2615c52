"""Options of scripts, read and refused as those of the plain commands are: in one line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

sys.path.append(str(Path(__file__).resolve().parent.parent / "src"))  # if it is not installed

from r1omni.commands.arguments import Parser


class ScriptParser(Parser):
    """Wrong use ends the script with one line and status 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see `{self.prog} --help`)\n")
