"""Options, metrics and rewards under earlier names: accepted for one release, with a warning.

The tables are `OPTIONS`, `METRICS` and `REWARDS`. Old names are taken on the command line, in
configuration files, in the settings that a checkpoint records, and as `run.keep_best.metric`. In
Python only the new ones are known.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_only

from r1omni.types import UsageError

# Old name -> new name, `init_args` left out.
OPTIONS = {
    "data.loader.max_broken_share": "data.loader.max_broken_ratio",
    "model.optimizer.warmup_share": "model.optimizer.warmup_ratio",
    "model.optimizer.final_share": "model.optimizer.min_lr_ratio",
    "model.optimizer.projector_rate_scale": "model.optimizer.projector_lr_scale",
    "model.optimizer.tower_rate_scale": "model.optimizer.tower_lr_scale",
    "trainer.strategy.sharding.activation_checkpointing": "model.activation_checkpointing",
}
# Of these the section is another; of the others it is the same.
_MOVED = {old for old, new in OPTIONS.items() if old.rpartition(".")[0] != new.rpartition(".")[0]}
METRICS = {
    "kl_clamped_share": "kl_clamped_ratio",
    "off_policy_masked_share": "off_policy_masked_ratio",
}
# It is the F1 of petals of our one wheel; what the field calls its wheel metric is another figure.
REWARDS = {"wheel_f1": "petal_f1"}
# Where a reward is named, and the option that names a metric.
_NAMES_A_REWARD = ("model.grpo.rewards.name", "model.grpo.rewards.schedule.gate.reward")
_NAMES_A_METRIC = "run.keep_best.metric"
CONFIG_FLAGS = ("--config", "-c")
_INIT_ARGS = re.compile(r"\binit_args\.?")
_logger = logging.getLogger(__name__)


def with_new_names(args: list[str]) -> list[str]:
    """The words of a command line, old names replaced in them and in the files that they name.

    A file that has old names is replaced by its content. One warning names all of them.

    Raises:
        UsageError: an option under both names.
    """
    found: dict[str, str] = {}
    words: list[str] = []
    flag = ""
    flags = {_plain(word.partition("=")[0]) for word in args if word.startswith("-")}
    for word in args:
        name, equals, value = word.partition("=")
        if word.startswith("-"):
            given = name
            name = _new_flag(name, found)
            if name != given and _plain(name) in flags:
                raise UsageError(f"{given} is called {name} now; both are given, leave one")
            moved: dict[str, Any] = {}
            words.append(name + equals + (_new_value(name, value, found, moved) if equals else ""))
            words += _flags(moved)
            flag = "" if equals else name
        else:
            moved = {}
            words += [_new_value(flag, word, found, moved), *_flags(moved)]
            flag = ""
    if found:
        _warn(found)
    return words


def renamed_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted name, as a checkpoint of an earlier release records them, by new names."""
    new = {_with_init_args(old, name): name for name in settings for old in [_plain(name)]}
    moved: dict[str, Any] = {}
    renamed = {
        new_name: _renamed(settings[name], _plain(name), name, {}, moved)
        for new_name, name in new.items()
    }
    return renamed | {".".join(_place(name)): value for name, value in moved.items()}


def _with_init_args(plain: str, name: str) -> str:
    """The new name of an option, with `init_args` where its old one has it."""
    if plain not in OPTIONS:
        return name
    if plain in _MOVED:
        dashes = name[: len(name) - len(name.lstrip("-"))]
        return dashes + ".".join(_place(OPTIONS[plain]))
    return f"{name.rpartition('.')[0]}.{OPTIONS[plain].rpartition('.')[2]}"


def _place(name: str) -> list[str]:
    """The keys of an option in a file: the classes of `model` and `trainer.strategy` are named."""
    section, *rest = name.split(".")
    return [section, "init_args", *rest] if section == "model" else [section, *rest]


def _flags(moved: Mapping[str, Any]) -> list[str]:
    return [
        f"--{'.'.join(_place(name))}={yaml.safe_dump(v).split()[0]}" for name, v in moved.items()
    ]


def _plain(name: str) -> str:
    return _INIT_ARGS.sub("", name.strip("-")).rstrip("+").strip(".")  # "+" appends to a list


def _new_flag(flag: str, found: dict[str, str]) -> str:
    plain = _plain(flag)
    if plain in OPTIONS:
        found[plain] = OPTIONS[plain]
    return _with_init_args(plain, flag)


def _new_value(flag: str, value: str, found: dict[str, str], moved: dict[str, Any]) -> str:
    """A value, or the content of the file that it names, where an old name stands in it.

    What belongs elsewhere is put there in a whole configuration; of a part of one it is put into
    `moved`, by its new name.
    """
    is_file = value.endswith((".yaml", ".yml")) and Path(value).is_file()
    text = Path(value).read_text(encoding="utf-8") if is_file else value
    old_names = [old.rpartition(".")[2] for old in (*OPTIONS, *METRICS, *REWARDS)]
    if not any(old in text for old in old_names):
        return value
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:  # the parser says what is wrong with it
        return value
    prefix = "" if flag in CONFIG_FLAGS else _plain(flag)
    place = value if is_file else flag
    new = _renamed(content, prefix, place, found, moved)
    if flag in CONFIG_FLAGS:
        for name in list(moved):
            _put(new, _place(name), moved.pop(name), place)
    if new == content:
        return value
    return new if isinstance(new, str) else yaml.safe_dump(new, sort_keys=False, width=2**20)


def _put(content: dict[str, Any], keys: list[str], value: Any, place: str) -> None:
    """Set an option that comes from another section of the same configuration."""
    *sections, last = keys
    for section in sections:
        content = content.setdefault(section, {})
    if last in content:
        raise UsageError(f"{place}: {last} is in {'.'.join(sections)} now; it has both, leave one")
    content[last] = value


def _renamed(
    value: Any, path: str, place: str, found: dict[str, str], moved: dict[str, Any]
) -> Any:
    """A part of a configuration under new names; `path` is where it lies.

    What does not stay in its section is taken out and put into `moved`, by its new name.
    """
    if isinstance(value, dict):
        new: dict[Any, Any] = {}
        for key, entry in value.items():
            whole = _plain(f"{path}.{key}")
            name = key
            if whole in OPTIONS:
                name = OPTIONS[whole].rpartition(".")[2]
                found[whole] = OPTIONS[whole]
                if whole in _MOVED:
                    moved[OPTIONS[whole]] = entry
                    continue
                if name in value:
                    raise UsageError(f"{place}: {key} is called {name} now; it has both, leave one")
            new[name] = _renamed(entry, whole, place, found, moved)
        return new
    if isinstance(value, list):
        return [_renamed(entry, path, place, found, moved) for entry in value]
    if isinstance(value, str) and path in _NAMES_A_REWARD and value in REWARDS:
        found[f"reward {value}"] = REWARDS[value]
        return REWARDS[value]
    if isinstance(value, str) and path == _NAMES_A_METRIC:
        new_metric = _new_metric(value)
        if new_metric != value:
            found[value] = new_metric
        return new_metric
    if isinstance(value, str) and "${" in value:
        for old, new_name in OPTIONS.items():
            if old in _MOVED:  # of a value that is the new one's as well, nothing can be told
                continue
            named = re.compile(rf"\.{old.rpartition('.')[2]}\b")
            if named.search(value):
                found[old] = new_name
                value = named.sub(f".{new_name.rpartition('.')[2]}", value)
    return value


def _new_metric(name: str) -> str:
    """A metric by its new name; those of a reward have its name in theirs."""
    parts = name.split("/")
    if parts[0] == "rewards" and len(parts) > 1:
        parts[1] = REWARDS.get(parts[1], parts[1])
    return METRICS.get(name, "/".join(parts))


@rank_zero_only
def _warn(found: Mapping[str, str]) -> None:
    changes = "; ".join(f"{old} is now {new}" for old, new in found.items())
    _logger.warning("renamed: %s. The old names are accepted until the next release", changes)
