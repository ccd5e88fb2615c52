"""What the parser refuses is one line: the key in full, the value, what will do."""

from __future__ import annotations

from argparse import ArgumentError
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1omni.cli import _one_line, main
from r1omni.data import EmotionDataModule
from r1omni.parser_lines import _OF_ONE_MODULE, parser_line
from r1omni.training import GRPOModule, SFTModule
from r1omni.training.lightning_cli import R1OmniCLI
from r1omni.training.logger import RunConfig
from r1omni.training.option_names import below
from test_options import argument_types

CONFIG = Path(__file__).parents[1] / "configs" / "mini" / "r1omni.yaml"
PLACES = {"model.init_args": GRPOModule, "data": EmotionDataModule, "run": RunConfig}


# One option of each type: the parser treats all of a type alike.
OPTIONS = {hint: key for place, kind in PLACES.items() for key, hint in below(place, kind)}


@pytest.fixture(scope="module")
def parser() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(R1OmniCLI, "instantiate_classes", lambda self: None)
        return R1OmniCLI(["--config", str(CONFIG)], run=False).parser


def line_of(parser: Any, *words: str) -> str | None:
    """What is told of words that the parser refuses."""
    try:
        parser.parse_args(["--config", str(CONFIG), *words])
    except ArgumentError as error:
        return parser_line(_one_line(str(error)))
    return None


def test_a_value_of_another_type_is_one_line(parser: Any) -> None:
    refused = 0
    for key in OPTIONS.values():
        for value in ("nonsense", "[nonsense]", "{a: 1}"):
            told = line_of(parser, f"--{key}", value)
            if told is None:
                continue  # a text, or what its class refuses itself
            refused += 1
            assert told.startswith(key) and len(told) < 250 and "\n" not in told, told
            for word in ("Union", "class '", "NestedArg", "Parser key", "Namespace", "typing."):
                assert word not in told, told
    assert refused > 2 * len(OPTIONS)


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("model.init_args.grpo.group_size", "2.5", "is 2.5; it must be: whole number"),
        ("model.init_args.optimizer.learning_rate", "fast", "is fast; it must be: number or null"),
        ("model.init_args.optimizer.adam_betas", "[0.9, .nan]", "is nan; it must be: finite num"),
        ("model.init_args.grpo.log_kl", "maybe", "is maybe; it must be: true or false"),
        ("model.init_args.grpo.rewards", "accuracy", "is accuracy; it must be: list"),
        ("model.init_args.trainable", "foo", "is foo; it must be a list of any of vision_tower"),
        ("model.init_args.grpo", "3", "is 3; it must be a section of settings"),
        ("model.class_path", "foo.Bar", "is 'foo.Bar': No module named 'foo'"),
        ("model.class_path", "torch.nn.Linear", "is 'torch.nn.Linear'; it must be the import path"),
        (
            "model.class_path",
            "r1omni.training.Nope",
            "is 'r1omni.training.Nope'; it must be the imp",
        ),
        ("trainer.precision", "foo", ": 'foo' is unknown; use one of 64, 32, 16, transformer-en"),
        ("run.keep_best", "{mode: max}", ".metric is missing; give it"),
        ("model.init_args.grpo.rewards", "[{name: accuracy}, {nam: format}]", "[1].nam is no opt"),
        (
            "model.init_args.grpo.rewards",
            "[{name: format, weight: 1}, {name: accuracy, weight: x}]",
            "[1].weight is x; it must be: number",
        ),
        ("model.init_args.grpo.rewards", "[{name: accuracy}, format]", "[1]: 'format' is given;"),
        ("data.test", "[{name: dfew, root: a, seed: x}]", "[0].seed is x; it must be: whole"),
        ("model.init_args.max_target_tokens", "9", "is no option of this model.class_path, b"),
    ],
)
def test_the_line_says_what_will_do(parser: Any, option: str, value: str, told: str) -> None:
    assert (line_of(parser, f"--{option}", value) or "").startswith(
        f"{option} {told}".replace(" .", ".").replace(" :", ":").replace(" [", "[")
    )


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("model.init_args.grpo.rewards", [{"name": "accuracy"}, {"weight": 1}], "[1].name is miss"),
        ("data.train", [{"name": "dfew", "root": "a"}, {"name": "dfew"}], "[1].root is missing; "),
    ],
)
def test_what_is_missing_in_a_file(
    option: str, value: list, told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    *sections, last = option.split(".")
    holder = content
    for section in sections:
        holder = holder[section]
    holder[last] = value
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert main(["fit", "--config", str(file), "--trainer.default_root_dir", str(tmp_path)]) == 2
    assert f"error: {option}{told}" in capfd.readouterr().err


def test_an_option_of_the_other_module_is_told_as_its(parser: Any) -> None:
    sft = CONFIG.with_name("emer_sft.yaml")
    told = line_of(parser, "--config", str(sft), "--model.init_args.grpo.seed", "1")
    assert told == (
        "model.init_args.grpo.seed is no option of this model.class_path, but of "
        "r1omni.training.GRPOModule; leave it out"
    )
    for name, owner in _OF_ONE_MODULE.items():
        has = {kind for kind in (SFTModule, GRPOModule) if name in argument_types(kind)}
        assert [kind.__name__ for kind in has] == [owner]
    both = argument_types(SFTModule).keys() ^ argument_types(GRPOModule).keys()
    assert both == _OF_ONE_MODULE.keys()
