"""The first minute: the README's commands do what it says, with what is in the repository."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

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
    tables = README.split("## Where to go")[0].split("\n\n")
    drawn, voices = (_rows(part) for part in tables if part.startswith("| | right"))
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").split("\n\n")
    war = _rows(next(part for part in results if part.startswith("| | DFEW")))
    place = next(i for i, part in enumerate(results) if part.startswith("Right for the right"))
    concluded = _rows(results[place + 1])
    found = {name.split(", the")[0].split(", labels")[0]: row for name, row in drawn.items()}
    assert found.keys() == war.keys() > concluded.keys()
    for model, (right, told, _) in found.items():
        _same(right, map(_mean, war[model]))
        _same(told, map(_mean, concluded[model]) if model in concluded else None)
    file = ROOT / "docs" / "benchmarks" / "real_voices" / "results.json"
    models = json.loads(file.read_text(encoding="utf-8"))["models"]
    assert "R1-Omni" in voices
    for model, (right, contradicted) in voices.items():
        figures = models[model]["sets"]["ravdess"]
        assert len(models[model]["folds"]) == 5
        _same(right, [100 * figures["war"]])
        reasons = figures["explanations"]["supported"][0]
        share = figures["explanations"]["contradicted_among_right"][0]
        _same(contradicted, [100 * share] if reasons else None)


def _rows(part: str) -> dict[str, list[str]]:
    """Name of each row of a table -> its other cells."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines()]
    return {first: rest for first, *rest in cells[2:]}


def _mean(cell: str) -> float:
    """The first figure of `mean ± deviation / mean ± deviation`."""
    return float(cell.split(" ±")[0])


def _same(told: str, measured: Iterable[float] | None) -> None:
    """Figures with slashes between them are rounded from others, which may have one digit."""
    if measured is None:
        assert told == "-"
        return
    for one, other in zip(told.split("/"), measured, strict=True):
        half = 0.5 / 10 ** len(one.partition(".")[2])
        assert abs(float(one) - other) <= half + 0.051
