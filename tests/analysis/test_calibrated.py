"""Temperature and threshold: fitted on validation answers, told of others."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import PLAYERS, invented_samples, write_run

from r1omni.analysis.calibrated import CALIBRATION_FILE
from r1omni.analysis.scores import write_scores
from r1omni.cli import main
from r1omni.metrics.calibration import confidence_of
from r1omni.metrics.temperature import with_temperature
from r1omni.types import UsageError


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Validation and test answers of an invented model, of different clips."""
    root = tmp_path_factory.mktemp("calibrated")
    samples = {"ravdess": invented_samples([root / "x.mp4"], num_per_class=30)["ravdess"]}
    found = []
    for name in ("val", "test"):
        run = write_run(root / name, PLAYERS["R1-Omni"], samples, ("full",), "both")
        file = run / "test" / "predictions" / "ravdess.full.jsonl"
        rows = [{**r, "sample_id": f"{name}/{r['sample_id']}"} for r in lines(file)]
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        found.append(file)
    return found[0], found[1]


def test_what_is_fitted_on_validation_is_told_of_the_test(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    val, test = files
    out = tmp_path / "out"
    line = ["score", str(test), "--calibrate", str(val), "--target-accuracy", "0.85", "--out"]
    assert main([*line, str(out)]) == 0
    printed = capsys.readouterr().out
    fitted = json.loads((out / CALIBRATION_FILE).read_text())
    results = json.loads((out / "results.json").read_text())
    assert fitted["label_set"] == "ravdess" and fitted["fitted_on"]["file"] == str(val)
    assert fitted["modes"].keys() == {"think", "direct"}
    told = results["calibration"]["sets"]["ravdess"]["full"]
    assert results["calibration"]["fit"] == {k: v for k, v in fitted.items() if k != "scored"}
    for mode in ("think", "direct"):
        fit = fitted["modes"][mode]
        # The temperature is the validation answers' best; nothing says so of the test.
        own = fit["validation"]
        assert own["after"]["nll"] < own["before"]["nll"] and not fit["is_at_end"]
        assert f"temperature, {mode}: {fit['temperature']:.3f} from 240 answers" in printed
        curve = told[mode]["risk_coverage"]
        assert curve["coverage"][-1] == 1.0 and len(curve["coverage"]) <= 101
    full = results["sets"]["ravdess"]["full"]
    assert told["think"]["risk_coverage"]["risk"][-1] == pytest.approx(1 - full["war"])
    direct = results["answer_modes"]["ravdess"]["full"]["direct"]
    assert told["direct"]["before"]["ece"] == direct["ece"]
    # The threshold does to the test what a practitioner's own loop does.
    fit, given = fitted["modes"]["think"], told["think"]["abstention"]
    answered = [
        record["prediction"] == record["label"]
        for record in lines(test)
        if record["prediction"] is not None
        and confidence_of(
            with_temperature(record["scores"], fit["temperature"]), record["prediction"]
        ) >= fit["threshold"]
    ]  # fmt: skip
    assert given["num_answered"] == len(answered) > 0
    assert given["accuracy"] == sum(answered) / len(answered)
    assert fit["validation"]["abstention"]["accuracy"] >= 0.85
    assert given["coverage_interval"][0] < given["coverage"] < given["coverage_interval"][1]
    written = lines(out / "predictions" / "ravdess.full.jsonl")[0]
    assert written["calibrated_scores"] == with_temperature(written["scores"], fit["temperature"])
    assert re.search(r"ravdess, think: \d+\.\d% \(.*\) answered, \d+\.\d% right", printed)


def test_nothing_of_the_test_is_looked_at(files: tuple[Path, Path], tmp_path: Path) -> None:
    """Other labels of the test leave temperature and threshold as they are."""
    val, test = files
    other = tmp_path / "ravdess.full.jsonl"
    rows = [{**record, "label": "sad"} for record in lines(test)]
    other.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    fits = []
    for file in (test, other):
        found = write_scores([file], calibrate=val, accuracy=0.85)["calibration"]["fit"]
        fits.append(found)
    assert fits[0] == fits[1]


def test_clips_that_were_fitted_on_are_not_judged(files: tuple[Path, Path], tmp_path: Path) -> None:
    val, test = files
    with pytest.raises(UsageError, match="is the file that is judged"):
        write_scores([test], calibrate=test)
    copy = Path(shutil.copy(test, tmp_path / "other.full.jsonl"))
    with pytest.raises(UsageError, match=r"240 of its clips are judged in .* too \(test/"):
        write_scores([test], calibrate=copy)
    copy.write_text(val.read_text() + test.read_text().splitlines()[3])
    with pytest.raises(UsageError, match=r"1 of its clips are judged"):
        write_scores([test], calibrate=copy)


def test_what_cannot_be_fitted(files: tuple[Path, Path], tmp_path: Path) -> None:
    val, test = files
    rows = lines(val)
    file = tmp_path / "val.full.jsonl"

    def refused(changed: list[dict[str, Any]], complaint: str) -> None:
        file.write_text("".join(f"{json.dumps(row)}\n" for row in changed))
        with pytest.raises(UsageError, match=complaint):
            write_scores([test], calibrate=file)

    kinds = ("scores", "direct_scores", "direct_prediction", "answer_mode")
    bare = [{k: v for k, v in row.items() if k not in kinds} for row in rows]
    refused(bare, r"val\.full\.jsonl: its labelled answers have no scores; .*answer_mode both")
    refused([*rows[1:], bare[0]], "is an answer of mode 'think', line 1 one of 'both'")
    refused([{**row, "label_set": "all"} for row in rows], "are not of the classes of all")
    seven = [row for row in rows if row["label"] != "calm"]
    for row in seven:
        row["label_set"] = "dfew"
        for kind in kinds[:2]:
            shares = {k: v for k, v in row[kind].items() if k != "calm"}
            row[kind] = {k: v / sum(shares.values()) for k, v in shares.items()}
        row["direct_prediction"] = max(row["direct_scores"], key=row["direct_scores"].get)
    refused(seven, "is of the classes dfew, and .* of ravdess")
    with pytest.raises(UsageError, match=r"holds other\.full\.jsonl, ravdess\.full\.jsonl; name"):
        write_scores([test], calibrate=_two(tmp_path / "two", val))


def _two(folder: Path, file: Path) -> Path:
    folder.mkdir()
    for name in ("ravdess.full.jsonl", "other.full.jsonl", "ravdess.muted.jsonl"):
        shutil.copy(file, folder / name)
    return folder


def test_no_threshold_where_none_is_reached(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["score", str(files[1]), "--calibrate", str(files[0]), "--target-accuracy", "1"]
    assert main(line) == 0
    assert "no confidence from which on 100.0% of at least 30 validation" in capsys.readouterr().out
    assert main(["score", str(files[1]), "--target-accuracy", "0.9"]) == 2
    assert "--target-accuracy needs --calibrate" in capsys.readouterr().err


def test_the_loop_of_the_documentation(files: tuple[Path, Path], tmp_path: Path) -> None:
    """It gives the answers that `abstention` counts."""
    val, test = files
    told = write_scores([test], tmp_path / "calibrated", calibrate=val, accuracy=0.85)
    given = told["calibration"]["sets"]["ravdess"]["full"]["think"]["abstention"]
    (tmp_path / "answers").mkdir()
    records = [
        {"path": r["sample_id"], "label": r["prediction"], "scores": r["scores"]}
        for r in lines(test)
    ]
    text = "".join(f"{json.dumps(record)}\n" for record in records)
    (tmp_path / "answers" / "analyses.jsonl").write_text(text)
    page = Path(__file__).parents[2] / "docs" / "compare.md"
    [code] = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = [line.split(" ", 1)[1] for line in done.stdout.splitlines()]
    assert len(said) == 240
    assert sum(word != "not sure" for word in said) == given["num_answered"]
