"""scripts/script_options.py: outputs that cannot be written, and what scripts write by default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from predict_memory import LEAST, RELEASED
from predict_memory import main as predict_memory
from script_options import ScriptParser, file_to_write

SCRIPTS = Path(__file__).parents[1] / "scripts"


def options_out() -> dict[str, str]:
    """How the scripts that have an `--out` declare it, by file."""
    option = re.compile(r'add_argument\(\s*"--out".+?\)\n', re.DOTALL)
    read = ((file.name, file.read_text(encoding="utf-8")) for file in SCRIPTS.glob("*.py"))
    return {name: match[0] for name, text in read if (match := option.search(text))}


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    parser = ScriptParser(prog="measure")
    parser.add_argument("--out", type=Path)
    with pytest.raises(SystemExit) as end:
        parser.parse_args(words)
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.count("\n") == 1
    return said


@pytest.mark.parametrize(
    "out", ["/proc/x.json", "/proc/x/y.json", "/proc/x", "file/y.json", "file/y"]
)
def test_an_output_that_cannot_be_written(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert f"--out: cannot write in {Path(out).parent}" in refused(["--out", out], capsys)


def test_a_folder_in_place_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = ScriptParser(prog="measure")
    parser.add_argument("--out", type=file_to_write)
    with pytest.raises(SystemExit) as end:
        parser.parse_args(["--out", str(tmp_path)])
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.count("\n") == 1
    assert f"{tmp_path} is a folder; name a file in it" in said
    files = [text for text in options_out().values() if re.search("JSON|json|png", text)]
    assert len(files) > 10 and all("type=file_to_write" in text for text in files)


def test_the_folder_of_an_output_is_made(tmp_path: Path) -> None:
    parser = ScriptParser()
    parser.add_argument("--out", type=Path)
    out = tmp_path / "a" / "b" / "x.json"
    assert parser.parse_args(["--out", str(out)]).out == out
    assert out.parent.is_dir() and not any(out.parent.iterdir())


def test_a_try_does_not_replace_the_figures_of_the_docs() -> None:
    """mutation_score.py adds to its file, and a module's entry is the same wherever it is made."""
    found = options_out()
    assert len(found) > 20
    in_docs = {name for name, text in found.items() if "benchmarks" in text and "docs" in text}
    assert in_docs == {"mutation_score.py", "gpu_check.py"}


@pytest.mark.parametrize("name", LEAST)
def test_a_step_that_there_is_not(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    flag = f"--{name.replace('_', '-')}"
    with pytest.raises(SystemExit) as end:
        predict_memory([flag, str(LEAST[name] - 1)])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert f"{flag} is {LEAST[name] - 1}; it must be {LEAST[name]} or more" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--micro-batch", "8", "--prompts", "4"], "--micro-batch 8 is more than --prompts 4"),
        (["--sizes", "no-such.yaml"], "no-such.yaml"),
        (["--sizes", str(RELEASED.parent / "r1omni.yaml")], "must have exactly the sections"),
    ],
)
def test_a_prediction_that_is_refused(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        predict_memory(words)
    said = capsys.readouterr().err
    assert end.value.code == 2 and told in said and said.count("\n") == 1
