"""Settings that were given and that the parser would leave out without a word: refused.

jsonargparse drops the arguments of a class where a later file or word names another class.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from r1omni.types import UsageError

# What the parser says of it, for debugging only; it has no other place for that.
_DROPS = re.compile(
    r"Due to class_path change from '([^']+)' to '([^']+)', discarding init_args: {(.*)}\.",
    re.DOTALL,
)
PARSER_LOGGER = logging.getLogger("r1omni-parser")
_NESTED = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}")


class ChangesOfClass(logging.Handler):
    """Hears what the parser drops where a class takes the place of another.

    `PARSER_LOGGER` is to be the parser's own.
    """

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._drops: dict[str, tuple[str, list[str]]] = {}
        PARSER_LOGGER.setLevel(logging.DEBUG)
        PARSER_LOGGER.propagate = False  # nobody else is to hear what is for debugging
        PARSER_LOGGER.addHandler(self)

    def close(self) -> None:
        """Hear no more."""
        PARSER_LOGGER.removeHandler(self)
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        found = _DROPS.match(record.getMessage())
        if found is not None:
            before, after, settings = found.groups()
            while _NESTED.search(settings):
                settings = _NESTED.sub("", settings)
            self._drops[after] = (before, re.findall(r"'(\w+)': ", settings))

    def check(self, config: Any) -> None:
        """Refuse a class in whose favour settings of another one were dropped.

        Args:
            config: the parsed configuration of a command.

        Raises:
            UsageError: naming both classes, the settings, and what to do.
        """
        for key, value in config.items():
            place, _, last = key.rpartition(".")
            if last != "class_path" or value not in self._drops:
                continue
            before, names = self._drops[value]
            dropped = ", ".join(f"{place}.init_args.{name}" for name in names)
            raise UsageError(
                f"{key} is {value}, in place of {before}, and cannot have what was given for that: "
                f"{dropped}; take it out, or begin with a configuration of {value}"
            )
