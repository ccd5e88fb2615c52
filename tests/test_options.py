"""Every number that a person may set is refused by its name, or works; test_choices.py has names.

Nothing here is listed by hand: classes of options are found from the signatures of what a YAML file
configures, rewards in their registry, and arguments in the parsers of the commands.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import math
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from r1omni import commands
from r1omni.cli import main
from r1omni.commands import arguments
from r1omni.data import DatasetSpec, EmotionDataModule, registry
from r1omni.data.registry import dataset_names, load_dataset
from r1omni.judging import JudgeConfig
from r1omni.media.config import MediaConfig
from r1omni.models.sampler import Sampling
from r1omni.options import Range, check_type, choices_of, number_fields
from r1omni.rewards import COLUMNS, RewardSpec, check_rewards
from r1omni.rewards.registry import reward_names
from r1omni.rewards.spec import bind
from r1omni.serving.uploads import UploadLimits
from r1omni.training import GRPOModule, SFTModule
from r1omni.training.logger import RunConfig
from r1omni.training.sharded import FSDP2Strategy
from r1omni.types import R1OmniError, UsageError

BAD: tuple[Any, ...] = (
    -1, 0, 2**70, -(2**70), 1e30, -1e30, 0.5, math.nan, math.inf, -math.inf, "1", True, [1],
)  # fmt: skip
# What a file of ours configures, and what a model folder and the Python API do.
IN_FILES = (SFTModule, GRPOModule, EmotionDataModule, FSDP2Strategy, RunConfig)
ROOTS = (*IN_FILES, MediaConfig, Sampling, UploadLimits, JudgeConfig)
# What a class cannot be made without.
NEEDED: dict[str, Any] = {
    "name": "format", "root": ".", "init_from": "nowhere", "max_new_tokens": 1, "temperature": 1.0,
    "reward": "format", "threshold": 0.5, "end_ids": (0,), "pad_id": 0, "metric": "val/dfew/uar",
    "template": "{reasoning}", "model": "nowhere",
}  # fmt: skip


def reached(*kinds: type) -> list[type]:
    """The classes and every dataclass among the types of their arguments, to any depth."""
    found: list[type] = []
    waiting: list[Any] = list(kinds)
    while waiting:
        kind = waiting.pop()
        waiting += typing.get_args(kind)
        is_ours = getattr(kind, "__module__", "").startswith("r1omni.")
        if not inspect.isclass(kind) or not is_ours or kind in found:
            continue
        found.append(kind)
        waiting += argument_types(kind).values()
    return found


def argument_types(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind if dataclasses.is_dataclass(kind) else kind.__init__)
    return {name: hints[name] for name in inspect.signature(kind).parameters if name in hints}


def numbers_of(kind: type) -> Iterator[tuple[str, type, int | None, bool]]:
    """As `number_fields`, for constructors that are no dataclass as well."""
    if dataclasses.is_dataclass(kind):
        return number_fields(kind)
    typed = argument_types(kind)
    stand_in = type("Arguments", (), {"__annotations__": typed, "__dataclass_fields__": typed})
    return number_fields(stand_in)


NUMBERS = [
    pytest.param(kind, *entry, id=f"{kind.__name__}.{entry[0]}")
    for kind in reached(*ROOTS)
    for entry in numbers_of(kind)
]


def test_the_walk_finds_the_known_classes() -> None:
    names = {kind.__name__ for kind in reached(*ROOTS)}
    assert names >= {
        "RunConfig", "LoaderConfig", "DatasetSpec", "OptimizerConfig", "GRPOConfig",
        "GRPOLossConfig", "RewardSpec", "RewardGate", "LoRAConfig", "ShardingConfig",
    }  # fmt: skip
    assert len(NUMBERS) > 50


def made(kind: type, /, **given: Any) -> R1OmniError | None:
    """The refusal of a class that is made with these values, if it is refused."""
    needed = [name for name in inspect.signature(kind).parameters if name in NEEDED]
    hints = argument_types(kind)
    # Of a closed set, which `NEEDED` cannot know, the first.
    arguments = {name: (*choices_of(hints[name])[0], NEEDED[name])[0] for name in needed} | given
    try:
        kind(**arguments)
    except R1OmniError as error:  # a module asks for its model folder when its numbers are right
        if f"{NEEDED['init_from']} is not a folder" not in str(error):
            return error
    return None


@pytest.mark.parametrize(("kind", "name", "number", "length", "optional"), NUMBERS)
def test_a_number_is_refused_by_name_or_works(
    kind: type, name: str, number: type, length: int | None, optional: bool
) -> None:
    ranges = getattr(kind, "RANGES", {})
    assert name in ranges, f"name the range of {name} in {kind.__name__}.RANGES (r1omni/options.py)"
    allowed: Range = ranges[name]
    for bad in (*BAD, *([] if optional else [None])):
        is_one = type(bad) in (int, float) and not (number is int and isinstance(bad, float))
        value = bad if length is None else (bad,) * length
        refusal = made(kind, **{name: value})
        if is_one and bad in allowed:
            # A number in its range may still contradict another option.
            assert str(allowed) not in str(refusal), (value, refusal)
        else:
            assert isinstance(refusal, UsageError), f"{kind.__name__}({name}={value!r}) is accepted"
            assert name in str(refusal) and "\n" not in str(refusal)
    if length is not None:
        assert made(kind, **{name: (0.5,) * (length + 1)}) is not None


WRONG: tuple[Any, ...] = (object(), 7, 0.5, "x", b"x", True, {"x": 1}, ["x"], [object()], None)


def fits(value: Any, hint: Any) -> bool:
    try:
        check_type("it", value, hint)
    except UsageError:
        return False
    return True


@pytest.mark.parametrize("kind", reached(*ROOTS), ids=lambda kind: kind.__name__)
def test_a_value_of_another_type_is_refused_by_name(kind: type) -> None:
    for name, hint in argument_types(kind).items():
        wrong = [value for value in WRONG if not fits(value, hint)]
        assert wrong, hint
        for value in wrong:
            refusal = made(kind, **{name: value})
            assert isinstance(refusal, UsageError), f"{kind.__name__}({name}={value!r})"
            assert name in str(refusal) and "\n" not in str(refusal) and len(str(refusal)) < 400


# Rewards ----------------------------------------------------------------------------------------


def reward_numbers() -> Iterator[tuple[str, str]]:
    """Rewards and the names of their options that are numbers, or hold some."""
    for reward in reward_names():
        function = bind(RewardSpec(reward, options=needed_options(reward)), COLUMNS)
        function = inspect.unwrap(getattr(function, "func", function))
        hints = typing.get_type_hints(function)
        for name in inspect.signature(function).parameters:
            kinds = {*typing.get_args(hints[name]), hints[name]}
            if name not in COLUMNS and kinds & {int, float}:
                yield reward, name


def needed_options(reward: str) -> dict[str, Any]:
    needed = {
        "balanced_accuracy": {"class_counts": {"sad": 1}},
        "judge": {"judge": {"template": NEEDED["template"], "model": NEEDED["model"]}},
    }
    return needed.get(reward, {})


@pytest.mark.parametrize(("reward", "option"), list(reward_numbers()))
def test_an_option_of_a_reward_is_refused_by_name_or_works(reward: str, option: str) -> None:
    text = "<think>A sad, sad, sad voice.</think><answer>sad</answer>"
    columns: dict[str, list[Any]] = {name: [None] for name in COLUMNS}
    columns |= {"completion_lengths": [12], "max_new_tokens": [64], "modality": ["audio"]}
    accepted = 0
    for bad in (*BAD, 1):
        is_counts = option == "class_counts"
        spec = RewardSpec(reward, options={option: {"sad": bad} if is_counts else bad})
        refusal = refused(spec)
        if refusal is not None:
            assert option in refusal and "\n" not in refusal
            continue
        assert type(bad) in (int, float) and math.isfinite(bad), f"{option}={bad!r} is accepted"
        (value,) = bind(spec, COLUMNS)([text], ["sad"], **columns)
        assert value is None or math.isfinite(value)
        accepted += 1
    assert accepted


def refused(spec: RewardSpec) -> str | None:
    try:
        check_rewards([spec], COLUMNS)
    except UsageError as error:
        return str(error)
    return None


# Data sets ---------------------------------------------------------------------------------------


def dataset_options() -> list[Any]:
    shared = {"root", "split", "instruction", "modality"}
    return [
        pytest.param(name, option, hint, id=f"{name}.{option}")
        for name in dataset_names()
        for option, hint in typing.get_type_hints(registry._LOADERS[name]).items()
        if option not in shared | {"return"}
    ]


@pytest.mark.parametrize(("dataset", "option", "hint"), dataset_options())
def test_an_option_of_a_data_set_is_refused_by_name_or_tried(
    dataset: str, option: str, hint: Any, tmp_path: Path
) -> None:
    # There is nothing in the folder, so an option that passes is followed by a missing file.
    for bad in (*BAD, [True], ["1"], {"a": 1}):
        with pytest.raises(UsageError) as caught:
            load_dataset(DatasetSpec(dataset, str(tmp_path), options={option: bad}))
        message = str(caught.value)
        assert "\n" not in message
        texts, lists = "str" in str(hint), "Sequence[int]" in str(hint)
        is_meant = (texts and isinstance(bad, str)) or (lists and str(bad) == "[1]")
        if not is_meant and not (hint is bool and bad is True):
            assert option.removesuffix("s") in message and str(bad) in message


# Commands ---------------------------------------------------------------------------------------


def actions_of(command: Callable[[list[str]], None]) -> list[argparse.Action]:
    """The arguments of a command."""
    parsers: list[argparse.ArgumentParser] = []

    class Parsed(Exception):
        pass

    def kept(parser: argparse.ArgumentParser, *arguments: Any) -> None:
        parsers.append(parser)
        raise Parsed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arguments.Parser, "parse_known_args", kept)
        with pytest.raises(Parsed):
            command([])
    return parsers[0]._actions


def _takes_numbers(action: argparse.Action) -> bool:
    if isinstance(action.default, int | float) and not isinstance(action.default, bool):
        return True
    return isinstance(action.type, arguments.Number) or action.type in (int, float)


ARGUMENTS = [
    pytest.param(name, action, id=f"{name} {action.option_strings[0]}")
    for name, command in commands.COMMANDS.items()
    for action in actions_of(command)
    if _takes_numbers(action)
]


@pytest.mark.parametrize(("command", "action"), ARGUMENTS)
def test_an_argument_is_refused_by_name_or_works(
    command: str, action: argparse.Action, capfd: pytest.CaptureFixture[str]
) -> None:
    flag = action.option_strings[0]
    assert isinstance(action.type, arguments.Number), f"give {flag} a range: type=Number(...)"
    for bad in (*BAD, "", "x"):
        text = str(bad)
        # Nothing else is given, so what passes is stopped for what is missing.
        assert main([command, f"{flag}={text}"]) == 2
        line = capfd.readouterr().err.strip()
        assert "\n" not in line
        try:
            works = action.type.kind(text) in action.type.allowed
        except ValueError:
            works = False
        assert (f"argument {flag}: " in line) == (not works), line


def test_the_commands_have_numbers() -> None:
    assert len(ARGUMENTS) > 8
