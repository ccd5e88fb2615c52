"""Options of Lightning's Trainer that a run has otherwise: refused by name, never replaced.

A Trainer made in Python may have its own logger, checkpoints and callbacks. A few options would
still do something else than they say (`check_any_trainer`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import lightning as L
import yaml
from jsonargparse import ArgumentParser
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.strategies import Strategy

from r1omni.options import above, at_least
from r1omni.types import UsageError

# Numbers that stop Lightning midway with words of its own, or let it end with nothing done.
RANGES = {
    "num_nodes": at_least(1),
    "limit_train_batches": above(0),
    "val_check_interval": above(0),
    "check_val_every_n_epoch": at_least(1),
    "log_every_n_steps": at_least(1),
    "accumulate_grad_batches": at_least(1),
    "gradient_clip_val": at_least(0),
}
# What a command does nothing without; in a training, 0 turns validation off.
_LIMITS = {
    "validate": {"limit_val_batches": above(0)},
    "test": {"limit_test_batches": above(0)},
    "predict": {"limit_predict_batches": above(0)},
}
# Option -> whether a value of it can be honoured, and what to do instead. All others are handed
# to the Trainer as they are.
REFUSED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "logger": (
        lambda value: value is None or isinstance(value, bool),
        "a run is tracked by MLflow in run.tracking_uri; use true, or false for no tracking",
    ),
    "enable_checkpointing": (
        lambda value: value is not False,
        "a run is stopped, resumed and exported by its checkpoints; set run.checkpoint_every and "
        "run.keep_checkpoints, or try a run with trainer.fast_dev_run, which writes none",
    ),
    "callbacks": (
        lambda value: not any(issubclass(c, Checkpoint) for c in _classes(value)),
        "a run writes its own checkpoints; set run.checkpoint_every and run.keep_checkpoints, and "
        "run.keep_best={metric: ..., mode: max} to keep the best one",
    ),
    "plugins": (
        lambda value: not any(issubclass(c, CheckpointIO) for c in _classes(value)),
        "a run writes its own checkpoints; leave it out",
    ),
    "max_epochs": (
        lambda value: value in (None, -1),
        "a run ends by trainer.max_steps, where its schedule does; leave max_epochs out",
    ),
    "overfit_batches": (
        lambda value: not value,
        "r1omni chooses samples itself; give the entries of data.train `sampling: 'first:8'`",
    ),
    "use_distributed_sampler": (
        lambda value: not value,
        "r1omni splits samples over the ranks itself; leave it out",
    ),
    "reload_dataloaders_every_n_epochs": (
        lambda value: not value,
        "a new loader would begin the order of the samples again; leave it out",
    ),
    "barebones": (
        lambda value: not value,
        "it has no tracking and no checkpoints; use --trainer.logger false and "
        "--trainer.enable_progress_bar false",
    ),
    "model_registry": (
        lambda value: value is None,
        "r1omni uploads nothing; a run ends with a model folder",
    ),
}
# Of those, what matters to a training alone.
_OF_FIT = {"enable_checkpointing", "max_epochs", "overfit_batches"}
# Of those, what would do something else under a Trainer that is made in Python, too.
_IN_PYTHON = ("overfit_batches", "reload_dataloaders_every_n_epochs")


def check_trainer_options(trainer: Any, command: str) -> None:
    """Refuse the options of a parsed `trainer` section that a run could not honour.

    Args:
        trainer: a mapping of option to value, classes as `class_path` and `init_args`.
        command: "fit", "validate", "test" or "predict".

    Raises:
        UsageError: naming the option and what to use instead.
        ArgumentError: a strategy that is written out on the command line, and wrongly.
    """
    for name, allowed in (RANGES if command == "fit" else _LIMITS[command]).items():
        value = trainer.get(name)
        if isinstance(value, int | float) and value not in allowed:
            raise UsageError(f"trainer.{name} is {value}; it must be a number {allowed}")
    for name, (honours, instead) in REFUSED.items():
        value = trainer.get(name)
        if (command == "fit" or name not in _OF_FIT) and not honours(value):
            raise UsageError(f"trainer.{name} is {_shown(value)}, but {instead}")
    strategy = trainer.get("strategy")
    if isinstance(strategy, str) and "class_path" in strategy:
        _refuse_as_class(strategy)
    if trainer.get("gradient_clip_algorithm") and trainer.get("gradient_clip_val") is None:
        raise UsageError(
            f"trainer.gradient_clip_algorithm is {trainer.get('gradient_clip_algorithm')}, but "
            "nothing is clipped without trainer.gradient_clip_val"
        )


def check_any_trainer(trainer: L.Trainer) -> None:
    """Refuse what our loaders could not honour, whoever made the Trainer.

    Raises:
        UsageError: naming the option and what to use instead.
    """
    for name in _IN_PYTHON:
        honours, instead = REFUSED[name]
        value = getattr(trainer, name)
        if not honours(value):
            raise UsageError(f"trainer.{name} is {value}, but {instead}")


def _refuse_as_class(strategy: str) -> None:
    """Say what a strategy's class does not take: the parser took it for a name instead."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Strategy, "trainer.strategy")
    parser.parse_object({"trainer": {"strategy": yaml.safe_load(strategy)}})


def _classes(value: Any) -> Iterator[type]:
    """The classes that a value of the configuration names."""
    for entry in value if isinstance(value, list) else [value]:
        path = _path(entry)
        if path is not None:
            module, _, name = path.rpartition(".")
            yield getattr(import_module(module), name)


def _path(entry: Any) -> str | None:
    found = entry.get("class_path") if hasattr(entry, "get") else None
    return found if isinstance(found, str) else None


def _shown(value: Any) -> str:
    entries = value if isinstance(value, list) else [value]
    return ", ".join(str(_path(entry) or entry) for entry in entries)
