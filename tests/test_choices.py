"""What has a fixed set of values is a `Literal`, and any other value is refused by its name.

Nothing here is listed by hand but the texts that are open, with what they are: a new one fails
until it is a `Literal` or among them.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from r1omni import commands
from r1omni.options import choices_of
from r1omni.rewards import COLUMNS, RewardSpec
from r1omni.rewards.registry import reward_names
from r1omni.rewards.spec import bind
from r1omni.text.emotions import LABEL_SETS, LabelSetName
from r1omni.types import UsageError
from test_options import (
    ROOTS,
    actions_of,
    argument_types,
    dataset_options,
    made,
    needed_options,
    reached,
)

# Of texts that no closed set holds, what they are. Any other text is a `Literal`.
A_PATH, A_NAME = "a path", "a name of the user's own"
OPEN_TEXTS = {
    "SFTModule.init_from": "a path, or a repository of the hub",
    "GRPOModule.init_from": "a path, or a repository of the hub",
    "EmotionDataModule.root": A_PATH,
    "LoaderConfig.cache_dir": A_PATH,
    "DatasetSpec.name": "a registered name, or `package.module:function` of the user's",
    "DatasetSpec.root": A_PATH,
    "DatasetSpec.split": "for `own` any word of the column `split`; loaders refuse what they lack",
    "DatasetSpec.instruction": "a question in words",
    "DatasetSpec.sampling": "a strategy with its number",
    "RunConfig.experiment": A_NAME,
    "RunConfig.name": A_NAME,
    "RunConfig.tracking_uri": "an address of MLflow",
    "KeepBest.metric": "a figure, named after the sets of the run",
    "RewardSpec.name": "a registered name, or `package.module:function` of the user's",
    "RewardGate.reward": "a reward of the run; check_rewards refuses any other",
    "JudgeConfig.template": "a question in words",
    "JudgeConfig.model": "a path, or a name that the endpoint knows",
    "JudgeConfig.endpoint": "an address",
    "JudgeConfig.key_variable": "a variable of the environment",
    "JudgeConfig.cache": A_PATH,
    "JudgeConfig.device": "a device of torch",
    "ShardingConfig.compile_backend": "backends register with torch.compile",
    "dfew.clips_dir": A_PATH,
    "dfew.labels_csv": A_PATH,
    "mafw.clips_dir": A_PATH,
    "mafw.labels_txt": A_PATH,
    **{
        f"{name}.{option}": A_PATH
        for name in ("meld", "mer2023", "mer2024")
        for option in ("clips_dir", "labels_csv")
    },
    "mer2025.clips_dir": A_PATH,
    "merr.video_root": A_PATH,
    "emer.video_root": A_PATH,
    "emer.labels_csv": A_PATH,
    "emer.open_labels_csv": A_PATH,
    "humanomni.file": A_PATH,
    "humanomni.video_root": A_PATH,
    "own.file": A_PATH,
    "own.video_root": A_PATH,
    "describe-voices --dataset": "a registered name, or `package.module:function` of the user's",
    "describe-voices --root": A_PATH,
    "describe-voices --split": "for `own` any word of the column `split`",
    "describe-voices --option": "a name with its value; loaders refuse what they lack",
    "balanced_accuracy.class_counts": "labels of the user's data",
    "analyze --model": "a path, or a repository of the hub",
    "analyze --device": "a device of torch",
    "analyze --tier": "a name in the user's file",
    "analyze --instruction": "any question",
    "analyze --format": "names of `FORMATS` with commas between them; others are refused",
    **dict.fromkeys(
        [
            f"create --{part}"
            for part in ("language-model", "vision-tower", "audio-tower", "text-encoder")
        ],
        "a path, or a repository of the hub",
    ),
    "folds --whole": "registered names; others than the configuration has are refused",
    "export --model": "a path, or a repository of the hub",
    "report --runs": "names of the user's own, with their paths",
    "report --tracking-uri": "an address of MLflow",
    "doctor --model": "a path, or a repository of the hub",
    "doctor --vision-tower": "a path, or a repository of the hub",
    "doctor --audio-tower": "a path, or a repository of the hub",
    "doctor --text-encoder": "a path, or a repository of the hub",
    "doctor --device": "a device of torch",
    **{
        f"{command} {option}": what
        for command in ("serve", "demo")
        for option, what in (
            ("--model", "a path, or a repository of the hub"),
            ("--device", "a device of torch"),
            ("--host", "an address"),
        )
    },
}


def hints_of_options() -> Iterator[tuple[str, Any]]:
    """`Class.option` with its type, of everything that a file of ours configures."""
    for kind in reached(*ROOTS):
        for name, hint in argument_types(kind).items():
            yield f"{kind.__name__}.{name}", hint
    for parameter in dataset_options():
        dataset, option, hint = parameter.values
        yield f"{dataset}.{option}", hint
    for reward in reward_names():
        function = bind(RewardSpec(reward, options=needed_options(reward)), COLUMNS)
        hints = typing.get_type_hints(inspect.unwrap(getattr(function, "func", function)))
        for name in hints.keys() - {*COLUMNS, "completions", "labels", "columns", "return"}:
            yield f"{reward}.{name}", hints[name]


def holds_a_text(hint: Any) -> bool:
    return hint is str or any(
        holds_a_text(member)
        for member in typing.get_args(hint)
        if typing.get_origin(hint) is not typing.Literal
    )


def is_option_of_any_name(hint: Any) -> bool:
    """`options` of a data set or a reward: arguments of a function, checked against it."""
    return typing.get_origin(hint) is dict and typing.get_args(hint) == (str, Any)


def test_a_text_is_a_literal_or_said_to_be_open() -> None:
    options = {k: h for k, h in hints_of_options() if not is_option_of_any_name(h)}
    texts = {name for name, hint in options.items() if holds_a_text(hint)}
    for name, command in commands.COMMANDS.items():
        for action in actions_of(command):
            if action.option_strings and action.nargs != 0 and action.type in (None, str):
                texts |= set() if action.choices else {f"{name} {action.option_strings[0]}"}
    assert texts == OPEN_TEXTS.keys()


# Nothing beside adapters, and the clips as they are.
MAY_BE_EMPTY = {"trainable", "conditions"}
CHOICES = [
    pytest.param(kind, name, hint, id=f"{kind.__name__}.{name}")
    for kind in reached(*ROOTS)
    for name, hint in argument_types(kind).items()
    if choices_of(hint)[0]
]


@pytest.mark.parametrize(("kind", "name", "hint"), CHOICES)
def test_a_choice_is_refused_by_name_or_works(kind: type, name: str, hint: Any) -> None:
    choices, is_list, _ = choices_of(hint)
    for bad in ("nonsense", 3, ["nonsense"], "", *([[]] if is_list else [])):
        if bad == [] and name in MAY_BE_EMPTY:
            continue
        refusal = made(kind, **{name: bad})
        assert isinstance(refusal, UsageError), f"{kind.__name__}({name}={bad!r}) is accepted"
        assert name in str(refusal) and ", ".join(choices) in str(refusal)
    for choice in choices:
        refusal = made(kind, **{name: [choice] if is_list else choice})
        assert "is unknown" not in str(refusal)


def test_the_walk_finds_choices() -> None:
    assert len(CHOICES) > 18
    assert get_args(LabelSetName) == tuple(LABEL_SETS)
