"""Every option of a configuration by its dotted name, walked from the classes that take them."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterator
from typing import Any

import lightning as L

from r1omni.data import EmotionDataModule
from r1omni.training.grpo import GRPOModule
from r1omni.training.logger import RunConfig
from r1omni.training.sft import SFTModule

# Where a configuration holds the arguments of which classes.
PLACES: dict[str, tuple[type, ...]] = {
    "trainer": (L.Trainer,),
    "model.init_args": (GRPOModule, SFTModule),
    "data": (EmotionDataModule,),
    "run": (RunConfig,),
}


def option_names() -> list[str]:
    """All of them, sections before what is in them; entries of lists are not walked."""
    names = [name for place, kinds in PLACES.items() for k in kinds for name, _ in below(place, k)]
    return list(dict.fromkeys(["config", "ckpt_path", "seed_everything", *names]))


def below(place: str, kind: type) -> Iterator[tuple[str, Any]]:
    """Dotted names below a place of a class's arguments, with their types."""
    source = kind if dataclasses.is_dataclass(kind) else kind.__init__  # type: ignore[misc]
    arguments = inspect.signature(kind).parameters
    ours = kind.__module__.startswith("r1omni.")
    hints = typing.get_type_hints(source) if ours else dict.fromkeys(arguments)
    for name in arguments:
        if name not in hints:
            continue
        yield f"{place}.{name}", hints[name]
        if typing.get_origin(hints[name]) is list:
            continue
        for member in (hints[name], *typing.get_args(hints[name])):
            if dataclasses.is_dataclass(member) and isinstance(member, type):
                yield from below(f"{place}.{name}", member)
