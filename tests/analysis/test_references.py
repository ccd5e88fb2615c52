"""Answers of other systems, joined with a table of labels."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import PLAYERS, invented_samples, write_run

from r1omni.analysis.report import table_text, write_report
from r1omni.analysis.scores import write_scores
from r1omni.cli import main
from r1omni.types import UsageError

TABLE = """sample_id,label,speaker,sex,intensity,language,duration_s,loudness_db,notes
a,happiness,s1,f,strong,de,1.5,-20,x
b,sad,s1,female,normal,de,3,-35,
c,angry,s2,male,strong,en,,,
d,sad,s2,m,,,12,-50.5,
"""
ANSWERS: list[dict[str, Any]] = [
    {"sample_id": "a", "prediction": "joy"},
    {"sample_id": "b", "prediction": "anger"},
    {"sample_id": "c", "prediction": None},
    {"sample_id": "d", "prediction": "calm"},  # an emotion, and no class of dfew
]


def write_answers(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    (tmp_path / "own.csv").write_text(TABLE)
    return tmp_path / "own.csv"


def test_an_answer_and_an_id_are_enough(labels: Path, tmp_path: Path) -> None:
    file = write_answers(tmp_path / "other.jsonl", ANSWERS)
    out = tmp_path / "scored"
    line = ["score", str(file), "--references", str(labels), "--label-set", "dfew", "--out"]
    assert main([*line, str(out)]) == 0
    results = json.loads((out / "results.json").read_text())
    full = results["sets"]["own"]["full"]
    assert (full["n"], full["war"], full["uar"]) == (4, 0.25, 1 / 3)
    assert (full["parse_rate"], full["out_of_set_rate"], full["format_ok"]) == (0.75, 0.25, None)
    assert results["explanations"] == {}  # nobody wrote one
    parts = results["breakdown"]["own"]["full"]
    assert parts["sex"]["female"]["n"] == 2 and parts["sex"]["female"]["war"] == 0.5
    assert parts["speaker"].keys() == {"s1", "s2"} and parts["language"].keys() == {"de", "en"}
    assert parts["duration_s"].keys() == {"under 2 s", "2 to 5 s", "10 s or more"}
    assert results["scored"]["references"] == str(labels)
    protocol = results["protocols"]["own"]
    assert protocol["speakers"] == ["s1", "s2"] and protocol["num_clips"] == 4
    assert protocol["label_set"] == "dfew" and protocol["checkpoint"] is None
    # What was written is scored again, and reported, without the table.
    assert write_scores([out])["sets"] == results["sets"]
    table = table_text(write_report({"other": out}, tmp_path / "report"))
    assert re.search(r"other +25\.0% / 33\.3% +- +-$", table.splitlines()[2])


def test_reasonings_are_judged(labels: Path, tmp_path: Path) -> None:
    told = "The brows are lowered and the voice is loud. This suggests anger."
    rows = [{**row, "reasoning": told} for row in ANSWERS]
    found = write_scores([write_answers(tmp_path / "x.jsonl", rows)], None, "dfew", labels)
    explained = found["explanations"]["own"]["full"]
    # It concludes with anger: supported where that is the answer, contradicted elsewhere.
    assert explained["supported"] == 0.25 and explained["contradicted"] == 0.75
    assert found["sets"]["own"]["full"]["format_ok"] is None


def test_our_own_predictions_are_such_files(tmp_path: Path) -> None:
    """As answers and as labels, and the figures stay."""
    run = write_run(tmp_path / "run", PLAYERS["R1-Omni"], invented_samples([tmp_path / "x.mp4"]))
    files = [run / f"test/predictions/ravdess.{c}.jsonl" for c in ("full", "muted")]
    found = json.loads(json.dumps(write_scores(files, references=files[0])))
    tested = json.loads((run / "test/results.json").read_text())
    own = found["sets"]["ravdess"]
    assert own == {c: tested["sets"]["ravdess"][c] for c in ("full", "muted")}
    assert found["breakdown"]["ravdess"]["full"] == tested["breakdown"]["ravdess"]["full"]
    told = found["explanations"]["ravdess"]
    assert told == {c: tested["explanations"]["ravdess"][c] for c in ("full", "muted")}


def test_a_missing_answer_is_wrong_by_choice_alone(labels: Path, tmp_path: Path) -> None:
    for rows in (ANSWERS[:2], [{"sample_id": "a", "text": "happy"}, *ANSWERS[1:2]]):
        file = write_answers(tmp_path / "x.jsonl", rows)
        with pytest.raises(
            UsageError, match=r"x\.jsonl: no answer to 2 of 4 .*\(c, d\).*--missing wrong"
        ):
            write_scores([file], None, "dfew", labels)
        found = write_scores([file], None, "dfew", labels, "wrong")
        assert found["sets"]["own"]["full"]["war"] == 0.25
        assert found["scored"]["num_missing"] == 2
    # What is kept is read again, where answers have scores and a missing one has none.
    shares = SHARES | {"fear": 0.4}
    file = write_answers(tmp_path / "x.jsonl", [row | {"scores": shares} for row in ANSWERS[:2]])
    whole = write_scores([file], tmp_path / "kept", "dfew", labels, "wrong")
    assert write_scores([tmp_path / "kept"])["sets"] == whole["sets"]


ROW = {"sample_id": "a", "prediction": "joy"}
SHARES = dict.fromkeys(("happy", "sad", "neutral", "angry", "surprise", "disgust"), 0.1)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([*ANSWERS, ROW], r"line 5: a second answer for a, after line 1; keep one"),
        ([*ANSWERS, ROW | {"sample_id": "z"}], r"line 5: z has no label in .*own\.csv"),
        ([ROW | {"prediction": "bored"}], "line 1: prediction 'bored' names no emotion"),
        ([ROW | {"prediction": 3}], "line 1: prediction is 3, expected a text or null"),
        ([{"sample_id": "a", "label": "joy"}], "neither `prediction`.*; `label` is what is right"),
        ([{"sample_id": "a"}], "line 1: has neither `prediction`, an emotion or null, nor `text`$"),
        ([{"prediction": "joy"}], "line 1: the column 'sample_id' is empty"),
        ([ROW | {"text": "sad"}], "line 1: prediction is 'joy', and the text answers sad"),
        ([ROW | {"reasoning": 1}], "line 1: reasoning is 1, expected a text"),
        ([{"sample_id": "a", "text": "sad", "ended": 1}], "line 1: ended is 1"),
        ([ROW | {"scores": SHARES}], "line 1: scores have to give each of"),
        ([ROW | {"scores": SHARES | {"fear": 0.6}}], "line 1: scores have to give each of"),
        ([ROW | {"scores": SHARES | {"fear": 40}}], "line 1: scores have to give each of"),
        ([ROW | {"scores": SHARES | {"calm": 0.4}}], "line 1: scores: label 'calm' is none of"),
    ],
)
def test_answers_that_are_refused(
    rows: list[dict[str, Any]], complaint: str, labels: Path, tmp_path: Path
) -> None:
    file = write_answers(tmp_path / "x.jsonl", rows)
    with pytest.raises(UsageError, match=complaint) as caught:
        write_scores([file], None, "dfew", labels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        (TABLE + "a,sad,,,,,,,\n", r"own\.csv, line 6: a second label for a, after line 2"),
        (TABLE.replace("angry", "bored"), r"own\.csv, line 4: label 'bored' is none of"),
        (TABLE.replace("angry", ""), r"line 4: the column 'label' is empty"),
        (TABLE.replace(",f,", ",woman,"), r"line 2: the column 'sex' holds 'woman'"),
        (TABLE.replace("strong", "weak"), r"line 2: the column 'intensity' holds 'weak'"),
        (TABLE.replace("1.5", "long"), r"line 2: the column 'duration_s' holds 'long'"),
        (TABLE.replace("1.5", "-1"), r"line 2: duration_s is -1\.0"),
        (TABLE.splitlines()[0], r"own\.csv: holds no label"),
        ("id,label\n", r"own\.csv, line 1: no column sample_id"),
    ],
)
def test_tables_that_are_refused(table: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(table)
    file = write_answers(tmp_path / "x.jsonl", ANSWERS)
    with pytest.raises(UsageError, match=complaint):
        write_scores([file], None, "dfew", tmp_path / "own.csv")


def test_more_refusals(labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_answers(tmp_path / "x.jsonl", ANSWERS)
    with pytest.raises(UsageError, match=r"own\.csv: which label set\? \(none is named\)"):
        write_scores([file], references=labels)
    with pytest.raises(UsageError, match="give the file of answers itself"):
        write_scores([tmp_path], None, "dfew", labels)
    other = write_answers(tmp_path / "y.full.jsonl", ANSWERS)
    with pytest.raises(UsageError, match="both are answers to the full input"):
        write_scores([file, other], None, "dfew", labels)
    assert main(["score", str(file), "--missing", "wrong"]) == 2
    assert "--missing is about --references" in capsys.readouterr().err
    # Without a table it is no file of ours, and the line says what to do.
    assert main(["score", str(other)]) == 2
    assert "labels of another system's clips to `score` by --references" in capsys.readouterr().err
