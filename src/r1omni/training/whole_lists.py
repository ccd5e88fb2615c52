"""A list of settings that is given again takes the place of the former one, whole.

The parser would lay two lists of one length over each other entry by entry: a data set or a reward
would have the options, or the weight, of another one that had its place. An empty list is put
between them, which has nothing to inherit from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from r1omni.training.renamed import CONFIG_FLAGS

_FILES = (".yaml", ".yml", ".json")


def with_whole_lists(args: list[str]) -> list[str]:
    """The words of a command line, with an empty list before each list that is given again.

    Lists of sections are meant: data sets, rewards, callbacks. `--name+`, which appends, is left as
    it is.

    Args:
        args: the words, subcommand first; files among them have been found to be YAML.
    """
    words: list[str] = []
    given: set[str] = set()
    for word, following in zip(args, [*args[1:], ""], strict=True):
        flag, equals, value = word.partition("=")
        if flag.startswith("-"):
            lists = _lists(flag, value if equals else following)
            again = [] if flag.endswith("+") else [name for name in lists if _key(name) in given]
            words += [part for name in again for part in (f"--{name}", "[]")]
            given |= set(map(_key, lists))
        words.append(word)
    return words


def _key(name: str) -> str:
    """One spelling of a name: `init_args` may be left out on the command line."""
    return ".".join(part for part in name.split(".") if part != "init_args")


def _lists(flag: str, value: str) -> list[str]:
    """Dotted names of the lists of sections in a value, or in the file that it names."""
    is_file = value.endswith(_FILES) and Path(value).is_file()
    text = Path(value).read_text(encoding="utf-8") if is_file else value
    name = "" if flag in CONFIG_FLAGS else flag.strip("-").rstrip("+")
    try:
        content = yaml.safe_load(text)
        if isinstance(content, dict):  # a list may stand elsewhere: ${data.test}
            content = OmegaConf.to_container(OmegaConf.create(content), resolve=True)
    except (yaml.YAMLError, OmegaConfBaseException):  # the parser says what is wrong with it
        return []
    return list(_walk(name, content))


def _walk(name: str, content: Any) -> Iterator[str]:
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from _walk(f"{name}.{key}" if name else str(key), value)
    elif isinstance(content, list) and any(isinstance(entry, Mapping) for entry in content):
        yield name
