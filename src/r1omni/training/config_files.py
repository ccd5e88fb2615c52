"""Configuration files as they are written: what is wrong with them, by file and line.

The parser reads them without their names, takes the last of two settings of one name, and lets any
value take the place of a section, whose settings are then gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, is_dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import yaml

from r1omni.data import EmotionDataModule
from r1omni.training.grpo import GRPOModule
from r1omni.training.renamed import CONFIG_FLAGS
from r1omni.training.sft import SFTModule
from r1omni.training.sharded import FSDP2Strategy
from r1omni.types import UsageError, why_no_file

# What holds settings of classes with sections of their own, and those classes.
_PLACES: dict[str, tuple[Any, ...]] = {
    "model.init_args": (SFTModule, GRPOModule),
    "data": (EmotionDataModule,),
    "trainer.strategy.init_args": (FSDP2Strategy,),
}

# What YAML reads as nothing, and the parser would put in the place of a section.
_NULLS = ("null", "Null", "NULL", "~", "None")


def check_config_files(args: list[str]) -> None:
    """Refuse files of a command line that are no configuration.

    Args:
        args: the words of the command line.

    Raises:
        UsageError: naming the file, and the line: it is missing or no YAML, it has a setting twice,
            or a value where a section of settings belongs; or naming a word that empties a section.
    """
    for word, following in zip(args, [*args[1:], ""], strict=True):
        flag, equals, value = word.partition("=")
        file = value if equals else following
        if flag.removeprefix("--") in SECTIONS and file in _NULLS:
            raise UsageError(
                f"{flag} is null; it must be a section of settings, as "
                f"{flag}.{SECTIONS[flag.removeprefix('--')]} ..."
            )
        if flag not in CONFIG_FLAGS:
            continue
        if not Path(file).is_file():
            raise UsageError(f"--config {file}: {why_no_file(Path(file))}")
        content = _read(file)
        if not isinstance(content, yaml.MappingNode):
            raise UsageError(f"{file} is no configuration; it must hold sections such as `model:`")
        _check(content, "", file)


def _read(file: str) -> yaml.Node | None:
    try:
        return yaml.compose(Path(file).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is no YAML: it is no text in UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise UsageError(f"{file}{line}: no YAML: {problem}") from error


def _check(section: yaml.MappingNode, place: str, file: str) -> None:
    seen = set()
    for key, value in section.value:
        name = f"{place}{key.value}"
        where = f"{file}, line {key.start_mark.line + 1}: {name}"
        if name in seen:
            raise UsageError(f"{where} is there a second time; leave one")
        seen.add(name)
        if isinstance(value, yaml.MappingNode):
            _check(value, f"{name}.", file)
        elif name in SECTIONS and not _is_elsewhere(value):
            such = SECTIONS[name]
            shown = f"is {value.value}" if value.value else "is empty"
            if isinstance(value, yaml.SequenceNode):
                shown = "is a list"
            raise UsageError(
                f"{where} {shown}; it must be a section of settings, as {{{such}: ...}}"
            )


def _is_elsewhere(value: yaml.Node) -> bool:
    """Whether a value names what holds the section: a file, or another place in this one."""
    text = str(value.value)
    return text.startswith("${") or text.endswith((".yaml", ".yml", ".json"))


def _sections(kind: Any, place: str) -> Iterator[tuple[str, str]]:
    """Dotted keys of the sections of a class, to any depth, with a setting of each."""
    fields = getattr(kind, "__dataclass_fields__", {})
    for name, parameter in signature(kind).parameters.items():
        default = parameter.default
        if name in fields and fields[name].default_factory is not MISSING:
            default = fields[name].default_factory()
        if is_dataclass(default):
            key = f"{place}.{name}"
            yield key, next(iter(vars(default)))
            yield from _sections(type(default), key)


SECTIONS = {
    "run": "name",
    "trainer": "max_steps",
    "model": "class_path",
    "data": "root",
    "model.init_args": "init_from",
    **dict(s for place, kinds in _PLACES.items() for kind in kinds for s in _sections(kind, place)),
}
