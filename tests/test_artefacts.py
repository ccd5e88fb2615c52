"""What earlier versions wrote is read from now on: every file in `tests/fixtures/v*/`.

`scripts/record_artefacts.py` records a version. What is promised of each kind of file:

- a checkpoint goes on with the configuration beside it, and makes the steps that it made then;
- a model folder says what it said then;
- figures, answers and results are read by the commands that read today's.
"""

from __future__ import annotations

import json
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from artefact_runs import CUT, END, RUNS, answers, command, go_on
from golden_runs import TESTS, TOLERANCE
from r1omni.analysis.runs import read_run
from r1omni.cli import main
from r1omni.metrics import compare
from r1omni.training.checkpoints import resolve_checkpoint
from r1omni.training.logger import read_figures

VERSIONS = sorted((TESTS / "fixtures").glob("v*_*"))
EACH = pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
# Each file of a version -> the test that reads it.
READ_BY = {
    "expected.json": "test_a_model_folder_says_what_it_said",  # and what runs that go on make
    "model/*": "test_a_model_folder_says_what_it_said",
    "analyses.jsonl": "test_analyses_have_the_same_form",
    "report/results.json": "test_a_tested_run_is_reported",
    "*/test/results.json": "test_a_tested_run_is_reported",
    "*/test/predictions/*.jsonl": "test_predictions_are_compared",
    "*/predict/results.json": "test_a_configuration_gives_its_answers",
    "*/predict/predictions/*.jsonl": "test_a_configuration_gives_its_answers",
    "*/config_fit.yaml": "test_a_run_goes_on",
    "*/config_test.yaml": "test_a_configuration_gives_its_answers",
    "*/config_predict.yaml": "test_a_configuration_gives_its_answers",
    "*/metrics.jsonl": "test_a_run_goes_on",
    "*/checkpoints/*": "test_a_run_goes_on",
    "*/mlflow_run_id.txt": "test_a_run_goes_on",
    "*/run.lock": "test_a_run_goes_on",
    "*/broken_clips_train.jsonl": "test_a_run_goes_on",
    "*/broken_clips_*.jsonl": "test_a_tested_run_is_reported",
}


@EACH
def test_every_file_is_read_by_a_test(version: Path) -> None:
    files = [f.relative_to(version).as_posix() for f in version.rglob("*") if f.is_file()]
    assert [f for f in files if not any(fnmatch(f, pattern) for pattern in READ_BY)] == []
    lacking = [p for p in READ_BY if not any(fnmatch(f, p) for f in files)]
    assert not lacking, f"{version.name} has none of {lacking}"
    assert set(READ_BY.values()) <= globals().keys()
    runs = {path.parent.name for path in version.glob("*/checkpoints")}
    assert runs == RUNS.keys()


def test_there_is_a_version() -> None:
    assert TESTS / "fixtures" / "v0_1_0" in VERSIONS


def expected(version: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((version / "expected.json").read_text(encoding="utf-8"))
    return values


def records(file: Path) -> list[dict[str, Any]]:
    """The lines of a file of answers."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@EACH
def test_a_model_folder_says_what_it_said(version: Path) -> None:
    recorded, found = expected(version)["answers"], answers(version / "model")
    assert found["token_ids"] == recorded["token_ids"]
    assert found["logits"] == pytest.approx(recorded["logits"], rel=TOLERANCE, abs=TOLERANCE)


@EACH
@pytest.mark.parametrize("run", RUNS)
def test_a_run_goes_on(run: str, version: Path, tmp_path: Path) -> None:
    """The sharded one on two ranks. Without the optimizer's state, steps would differ."""
    recorded = expected(version)["steps"][run]
    assert len(recorded) == END
    before = read_figures(version / run / "metrics.jsonl")
    found = go_on(version, run, tmp_path)
    after = read_figures(tmp_path / run / "metrics.jsonl")
    assert after[: len(before)] == before  # the curve goes on in the same file
    for figure in ("loss", "grad_norm"):
        assert [step[figure] for step in found[:CUT]] == [step[figure] for step in recorded[:CUT]]
        assert [step[figure] for step in found] == pytest.approx(
            [step[figure] for step in recorded], rel=TOLERANCE, abs=TOLERANCE
        )
    newest = resolve_checkpoint("last", tmp_path / run)
    assert newest.name == f"step_{END:06d}.ckpt"
    # A checkpoint of that version becomes a model folder too.
    old, out = version / run / "checkpoints" / f"step_{CUT:06d}.ckpt", tmp_path / "exported"
    words = ["export", "--ckpt_path", old, "--model", version / "model", "--out", out]
    assert main([str(word) for word in words]) == 0
    assert len(answers(out)["token_ids"]) > 0


@EACH
@pytest.mark.parametrize("name", ["test", "predict"])
def test_a_configuration_gives_its_answers(name: str, version: Path, tmp_path: Path) -> None:
    """That of `fit` is the one that a run goes on with."""
    run = shutil.copytree(version / "sft", tmp_path / "sft")
    shutil.rmtree(run / name)
    config = ("--config", run / f"config_{name}.yaml", "--ckpt_path", "last")
    command(name, "sft", tmp_path, version / "model", *config)
    kept, now = (
        json.loads((folder / name / "results.json").read_text(encoding="utf-8"))
        for folder in (version / "sft", run)
    )
    for test_set, conditions in kept["sets"].items():  # later versions add figures
        for condition, figures in conditions.items():
            found = now["sets"][test_set][condition]
            assert {figure: found[figure] for figure in figures} == figures
    recorded = sorted((version / "sft" / name / "predictions").iterdir())
    assert recorded
    for file in recorded:
        old, new = records(file), records(run / name / "predictions" / file.name)
        for one, other in zip(old, new, strict=True):
            assert other.keys() >= one.keys()
            for key in one.keys() - {"path"}:
                assert other[key] == one[key], key


@EACH
def test_a_tested_run_is_reported(version: Path, tmp_path: Path) -> None:
    run = shutil.copytree(version / "sft", tmp_path / "sft")
    report = ["report", "--runs", f"SFT={run}", "--out", str(tmp_path / "report"),
              "--tracking-uri", f"sqlite:///{tmp_path / 'mlflow.db'}"]  # fmt: skip
    assert main(report) == 0
    recorded, found = (
        json.loads((folder / "report" / "results.json").read_text(encoding="utf-8"))
        for folder in (version, tmp_path)
    )
    assert found["rows"][0].items() >= recorded["rows"][0].items()
    assert found["runs"] == recorded["runs"]
    assert "own/clip.mp4" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")


@EACH
def test_predictions_are_compared(version: Path) -> None:
    """What the model hears and sees against what it sees alone, as `report` compares runs."""
    run = read_run("SFT", version / "sft")
    ours, theirs = run.predictions("own"), run.predictions("own", "blanked")
    assert ours is not None and theirs is not None and ours.keys() == theirs.keys()
    labels, one, other = (
        [of[i][key] for i in ours]
        for of, key in ((ours, "label"), (ours, "prediction"), (theirs, "prediction"))
    )
    war = [run.sets["own"].conditions[name]["war"] for name in ("full", "blanked")]
    assert war[0] != war[1]
    assert compare(one, other, labels).war_difference == pytest.approx(war[1] - war[0])


@EACH
def test_analyses_have_the_same_form(version: Path, tmp_path: Path) -> None:
    clip, out = TESTS / "fixtures" / "humanomni_tiny" / "clip.mp4", tmp_path / "analyses.jsonl"
    words = ["analyze", clip, "--model", version / "model", "--max-new-tokens", 32, "--out", out]
    assert main([str(word) for word in words]) == 0
    [recorded], [found] = records(version / "analyses.jsonl"), records(out)
    assert found.keys() >= recorded.keys()
    for key in recorded.keys() - {"path", "scores"}:
        assert found[key] == recorded[key], key
    assert found["scores"] == pytest.approx(recorded["scores"], rel=1e-3, abs=TOLERANCE)
