"""The first minute: the README's commands do what it says, with what is in the repository."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from r1omni.cli import main
from r1omni.commands import COMMANDS
from r1omni.models.card import CARD

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Indented lines, without what is said behind them.
LINES = [line.split(" # ")[0].strip() for line in README.splitlines() if line.startswith("    ")]


def test_it_is_short_and_says_first_what_it_is() -> None:
    assert len(README.split()) <= 700
    first = README.split("\n## ")[0]
    for part in ("docs/page.png", "docs/responsible_use.md", "scripts/setup.sh", "quickstart.sh"):
        assert part in first
    notice = [line for line in first.splitlines() if line.startswith(">")]
    assert len(notice) == 4


def test_its_commands_are_there() -> None:
    commands = [part.strip() for line in LINES for part in line.split("&&")]
    run = [words for words in map(shlex.split, commands) if words[0].startswith("scripts/")]
    assert [words[0] for words in run] == ["scripts/setup.sh", "scripts/quickstart.sh"]
    assert all((ROOT / words[0]).is_file() for words in run)
    own = [words for words in map(shlex.split, commands) if words[0] == "r1omni"]
    assert own and all(words[1] in COMMANDS for words in own)


def test_the_example_answers_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    [line] = [line for line in LINES if line.startswith("r1omni analyze")]
    words = shlex.split(line)[1:]
    place = words.index("--out") + 1
    assert words[place] == "out"
    words[place] = str(tmp_path / "out")
    monkeypatch.chdir(ROOT)
    clips = sorted(map(str, Path("examples/clips").glob("*.mp4")))
    pattern = words.index("examples/clips/*.mp4")
    assert main([*words[:pattern], *clips, *words[pattern + 1 :]]) == 0
    records = [
        json.loads(row) for row in (tmp_path / "out/analyses.jsonl").read_text().splitlines()
    ]
    assert [record["path"] for record in records] == clips and len(clips) == 2
    shown = [json.loads(row) for row in LINES if row.startswith("{")]
    assert shown and shown[0] == {key: records[0][key] for key in shown[0]}
    assert (tmp_path / "out" / "index.html").stat().st_size > 50_000


def test_the_model_of_the_example_is_small_and_has_its_card() -> None:
    folder = ROOT / "examples" / "mini-model"
    assert sum(file.stat().st_size for file in folder.rglob("*")) < 5_000_000
    assert "| drawn world |" in (folder / CARD).read_text(encoding="utf-8")
    assert re.search(r"unmeasured", (folder / CARD).read_text(encoding="utf-8"))


def test_its_figures_are_those_that_were_measured() -> None:
    """On drawn people those of docs/results.md, on real voices those of their results.json."""
    drawn, voices = (_rows(part) for part in README.split("## Where to go")[0].split("\n\n")
                     if part.startswith("| | right"))  # fmt: skip
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").split("\n\n")
    war = _rows(next(part for part in results if part.startswith("| | DFEW")))
    concluded = _rows(results[_place(results, "Right for the right reason") + 1])
    away = _rows(results[_place(results, "## One medium taken away") + 1])
    for name, (right, told, gain) in drawn.items():
        model = name.split(", the")[0].split(", labels")[0]
        _same(right, [cell.split(" ±")[0] for cell in war[model]])
        if told != "-":
            _same(told, [cell.split(" ±")[0] for cell in concluded[model]])
        alone = [float(part.split(" ±")[0]) for part in away[model][0].split(" / ")]
        _same(gain, [float(war[model][0].split(" ±")[0]) - max(alone)], roundings=2.2)
    file = ROOT / "docs" / "benchmarks" / "real_voices" / "results.json"
    models = json.loads(file.read_text(encoding="utf-8"))["models"]
    for model, (right, contradicted) in voices.items():
        figures = models[model]["sets"]["ravdess"]
        assert len(models[model]["folds"]) == 5
        _same(right, [100 * figures["war"]])
        if contradicted != "-":
            _same(contradicted, [100 * figures["explanations"]["contradicted_among_right"][0]])


def _rows(part: str) -> dict[str, list[str]]:
    """Name of each row of a table -> its other cells."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines()]
    return {first: rest for first, *rest in cells[2:]}


def _place(parts: list[str], beginning: str) -> int:
    return next(i for i, part in enumerate(parts) if part.startswith(beginning))


def _same(told: str, measured: list[Any], roundings: float = 1.1) -> None:
    """Whole numbers with slashes between them, rounded from those with a digit."""
    found = [float(number) for number in told.split("/")]
    assert found == pytest.approx([float(number) for number in measured], abs=roundings / 2)
