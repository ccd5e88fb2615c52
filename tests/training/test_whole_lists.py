"""A list of settings that is given again is the whole list, by whatever way it is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from option_values import nested

from r1omni.training.lightning_cli import read_settings
from r1omni.training.whole_lists import with_whole_lists

CONFIG = Path(__file__).parents[2] / "configs" / "mini" / "r1omni.yaml"
# Lists of as many entries, each of which has something that the other's entry of its place lacks.
FORMER: dict[str, list[Any]] = {
    "data.train": [
        {"name": "mafw", "root": "M", "options": {"fold": 1}, "sampling": "first:9"},
        {"name": "own", "root": "O", "instruction": "Which?"},
    ],
    "data.test": [{"name": "mafw", "root": "M", "options": {"fold": 2}}],
    "model.init_args.grpo.rewards": [
        {"name": "accuracy", "weight": 0.25},
        {"name": "overlong", "weight": 0.5, "options": {"buffer": 8}, "timeout_s": 9.0},
    ],
    "trainer.callbacks": [
        {"class_path": "lightning.pytorch.callbacks.ModelSummary", "init_args": {"max_depth": 7}}
    ],
}
LATTER: dict[str, list[Any]] = {
    "data.train": [{"name": "dfew", "root": "D"}, {"name": "dfew", "root": "E"}],
    "data.test": [{"name": "dfew", "root": "D"}],
    "model.init_args.grpo.rewards": [{"name": "format"}, {"name": "accuracy"}],
    "trainer.callbacks": [{"class_path": "lightning.pytorch.callbacks.ModelSummary"}],
}


def overlay(lists: dict[str, list[Any]], file: Path) -> str:
    file.write_text(yaml.safe_dump(nested(lists)))
    return str(file)


def words_of(way: str, lists: dict[str, list[Any]], folder: Path) -> list[str]:
    flow = {name: yaml.safe_dump(v, default_flow_style=True).strip() for name, v in lists.items()}
    if way == "file":
        return ["--config", overlay(lists, folder / "latter.yaml")]
    if way == "words":
        return [word for name, v in flow.items() for word in (f"--{name}", v)]
    return [f"--{name.replace('init_args.', '')}={v}" for name, v in flow.items()]


def found_in(settings: dict[str, Any], name: str) -> Any:
    for key in name.split("."):
        settings = settings[key]
    return settings


@pytest.mark.parametrize("way", ["file", "words", "short words"])
def test_the_latter_list_is_whole(way: str, tmp_path: Path) -> None:
    start = ["fit", "--config", str(CONFIG)]
    former = ["--config", overlay(FORMER, tmp_path / "former.yaml")]
    latter = words_of(way, LATTER, tmp_path)
    alone, both = read_settings([*start, *latter]), read_settings([*start, *former, *latter])
    for name, entries in LATTER.items():
        got = found_in(both, name)
        assert got == found_in(alone, name) and len(got) == len(entries)
    train, rewards = both["data"]["train"], both["model"]["init_args"]["grpo"]["rewards"]
    assert [(e["options"], e["sampling"], e["instruction"]) for e in train] == [
        ({}, "all", None)
    ] * 2
    assert [(e["weight"], e["options"], e["timeout_s"]) for e in rewards] == [(1.0, {}, None)] * 2
    assert both["trainer"]["callbacks"][0]["init_args"]["max_depth"] == 1


def test_what_is_given_once_appended_or_no_list_of_sections_stays(tmp_path: Path) -> None:
    file = overlay(FORMER, tmp_path / "former.yaml")
    for words in (
        ["fit", "--config", file],
        ["fit", "--config", file, "--data.train+", "[{name: dfew, root: D}]"],
        ["fit", "--config", file, "--data.train.root", "X", "--data.conditions", "[full]"],
        ["fit", "--data.conditions", "[full]", "--data.conditions", "[muted]", "--ckpt_path"],
        ["fit", "--config", file, "--data.train", "[{name: 'unclosed"],
    ):
        assert with_whole_lists(words) == words


def test_a_list_that_stands_elsewhere_in_its_file(tmp_path: Path) -> None:
    former = overlay(FORMER, tmp_path / "former.yaml")
    file = tmp_path / "latter.yaml"
    file.write_text("data: {test: [{name: dfew, root: D}], val: '${data.test}'}")
    words = with_whole_lists(["fit", "--config", former, f"-c={file}", "--config", str(file)])
    assert words[3:] == [
        "--data.test", "[]", f"-c={file}",
        "--data.test", "[]", "--data.val", "[]", "--config", str(file),
    ]  # fmt: skip
