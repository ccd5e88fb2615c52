"""What is wrong with a configuration file is told by file and line."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1omni.cli import main
from r1omni.training.config_files import SECTIONS, check_config_files
from r1omni.types import UsageError
from test_options import IN_FILES, argument_types, reached

CONFIG = Path(__file__).parents[2] / "configs" / "mini" / "r1omni.yaml"
BROKEN = {
    "a: b: c": "line 1: no YAML: mapping values are not allowed here",
    "model:\n\t- x": "line 2: no YAML: found character",
    "model: {init_args: [\n": "line 2: no YAML: ",
    "": " is no configuration; it must hold sections",
    "words": " is no configuration",
    "- 1": " is no configuration",
    "run: {name: a}\ndata: {root: x}\nrun: {name: b}": ", line 3: run is there a second time",
    "model: {init_args: {grpo: {seed: 1, seed: 2}}}": "model.init_args.grpo.seed is there a second",
}


@pytest.mark.parametrize("text", BROKEN)
@pytest.mark.parametrize("form", ["--config {}", "--config={}", "-c {}"])
def test_a_broken_file_is_told_by_file_and_line(text: str, form: str, tmp_path: Path) -> None:
    file = tmp_path / "overlay.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        check_config_files(["fit", "--config", str(CONFIG), *form.format(file).split()])
    told = str(caught.value)
    assert told.startswith(str(file)) and BROKEN[text] in told and "\n" not in told


def test_a_file_that_is_no_text_or_missing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "overlay.yaml").write_bytes(b"\xff\xfe\x00")
    for word in ("--config={}/overlay.yaml", "--config={}/gone.yaml"):
        assert main(["fit", word.format(tmp_path)]) == 2
        [line] = capfd.readouterr().err.splitlines()
        assert word.partition("/")[2] in line


def sections_of(kinds: tuple[type, ...]) -> Iterator[str]:
    """Names of arguments that are sections: options classes that are never left out."""
    for kind in reached(*kinds):
        for name, hint in argument_types(kind).items():
            if inspect.isclass(hint) and hint in reached(*kinds):
                yield name


def test_a_value_in_place_of_any_section_is_refused(tmp_path: Path) -> None:
    """Even where a later word sets one of its settings: the others would be gone."""
    assert {key.rpartition(".")[2] for key in SECTIONS} > set(sections_of(IN_FILES))
    file = tmp_path / "overlay.yaml"
    for key in SECTIONS:
        for value in (5, None, [], ""):
            content: Any = value
            for name in reversed(key.split(".")):
                content = {name: content}
            file.write_text(yaml.safe_dump(content))
            with pytest.raises(UsageError, match=rf"line \d: {key} is .*; it must be a section"):
                check_config_files(["fit", "--config", str(file)])


def test_the_parser_takes_them_otherwise(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "overlay.yaml"
    file.write_text("model:\n  init_args: {grpo: 5}\n")
    words = ["fit", "--config", str(CONFIG), "--config", str(file)]
    assert main([*words, "--model.init_args.grpo.seed", "3"]) == 2
    line = capfd.readouterr().err.strip()
    assert "overlay.yaml, line 2: model.init_args.grpo is 5" in line and "\n" not in line


def test_a_word_that_empties_a_section_is_refused() -> None:
    for section, setting in SECTIONS.items():
        for words in ([f"--{section}", "null"], [f"--{section}=~"]):
            with pytest.raises(UsageError, match=rf"--{section} is null; .*{setting} \.\.\.$"):
                check_config_files(["fit", *words])
    check_config_files(["fit", "--model", "r1omni.training.SFTModule", "--data.val", "null"])
