"""Predictions are scored again: the same figures to the last digit, and what is refused."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import PLAYERS, invented_samples, write_run

from r1omni.analysis.report import write_report
from r1omni.analysis.scores import write_scores
from r1omni.analysis.scores_text import scores_text
from r1omni.cli import main
from r1omni.metrics.answer_modes import score_fields
from r1omni.metrics.breakdown import BINS
from r1omni.metrics.prediction_rows import ROW_FIELDS
from r1omni.types import UsageError

ROOT = Path(__file__).parents[1]
COMPUTED = ("prediction", "format_ok", "reasoning", "verdict", "described_media", "named_cues")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `test` wrote of an invented model."""
    folder = tmp_path_factory.mktemp("scored")
    return write_run(folder / "run", PLAYERS["R1-Omni"], invented_samples([folder / "clip.mp4"]))


def content(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_equal_to_the_last_digit(run: Path, tmp_path: Path) -> None:
    """From the predictions alone, without what was computed of them."""
    bare = tmp_path / "predictions"
    bare.mkdir()
    for file in (run / "test" / "predictions").iterdir():
        stripped = [
            {key: value for key, value in record.items() if key not in (*COMPUTED, "cue_truth")}
            for record in lines(file)
        ]
        (bare / file.name).write_text("\n".join(map(json.dumps, stripped)), encoding="utf-8")
    assert main(["score", str(bare), "--out", str(tmp_path / "out")]) == 0
    tested, scored = content(run / "test/results.json"), content(tmp_path / "out/results.json")
    assert scored["sets"].keys() == {"dfew", "mafw", "ravdess"}
    for key in ("sets", "explanations", "label_sets", "breakdown", "smallest_part"):
        assert scored[key] == tested[key]
    # Nothing is known of the people of the other sets.
    assert scored["breakdown"].keys() == {"ravdess"}
    for file in (run / "test" / "predictions").iterdir():
        assert lines(tmp_path / "out" / "predictions" / file.name) == lines(file)


def test_the_table(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(run)]) == 0
    printed = capsys.readouterr().out
    assert printed == scores_text(write_scores([run])) + "\n"
    assert [line.split("  ")[0] for line in printed.splitlines()[1:4]] == [
        "dfew", "dfew, blanked", "dfew, muted"
    ]  # fmt: skip
    told = content(run / "test/results.json")["explanations"]["dfew"]["full"]
    assert f"{told['right_and_supported']:.1%}" in printed


def test_predictions_of_an_earlier_version(tmp_path: Path) -> None:
    """They name no label set; `results.json` beside them does, and --label-set goes before it."""
    old = ROOT / "fixtures" / "v0_1_0" / "sft" / "test"
    found = write_scores([old])
    recorded = content(old / "results.json")["sets"]["own"]
    for condition, figures in recorded.items():  # this version adds some
        again = found["sets"]["own"][condition]
        assert {key: again[key] for key in figures} == figures
    full = found["explanations"]["own"]["full"]
    assert (full["silent"], full["cues"]) == (1.0, {})
    assert write_scores([old], label_set="all")["label_sets"] == {"own": "all"}
    alone = shutil.copytree(old / "predictions", tmp_path / "alone")
    with pytest.raises(UsageError, match=r"which label set\? \(none is recorded\).*--label-set"):
        write_scores([alone])
    assert write_scores([alone], label_set="dfew")["sets"] == found["sets"]
    file = alone / "own.blanked.jsonl"
    records = [{**record, "label": "fear"} for record in lines(file)]
    file.write_text("\n".join(map(json.dumps, records)))
    with pytest.raises(UsageError, match=r"own\.blanked\.jsonl: reference 'fear' is no class"):
        write_scores([file], label_set="mer")


ANSWER = json.dumps(
    {"sample_id": "a", "label": "fear", "text": "fear", "ended": True, "group": None}
)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("own.full.jsonl", "{", "line 1: is no JSON"),
        ("own.full.jsonl", "{}", "line 1: is no prediction, it has no sample_id, label"),
        ("own.full.jsonl", "3", "line 1: is no prediction"),
        ("own.full.jsonl", "\n", "own.full.jsonl: holds no answer"),
        ("own.full.jsonl", f"{ANSWER}\n{ANSWER}", "line 2: a second answer to a; keep one"),
        (
            "own.full.jsonl",
            json.dumps(json.loads(ANSWER) | {"text": None}),
            "line 1: answer is None, and there is no text; it has to be",
        ),
        ("own.jsonl", "", "is not named <set>.<condition>.jsonl"),
        ("own.full.json", "", "no predictions there"),
    ],
)
def test_refusals(name: str, text: str, complaint: str, tmp_path: Path) -> None:
    folder = tmp_path / "predictions"
    folder.mkdir()
    (folder / name).write_text(text)
    with pytest.raises(UsageError, match=complaint):
        write_scores([folder])


SHARES = {"fear": 0.75, "happy": 0.25}
# Field of a row -> values of a wrong type or out of range.
WRONG: dict[str, list[Any]] = {
    "sample_id": [1, None],
    "path": [3, ["a.mp4"]],
    "label": [[], "bored", 3],
    "text": [3],
    "ended": ["yes", 1, None],
    "group": [3],
    "sex": ["woman", 1],
    "intensity": [["strong"], 2],
    "language": [["English"], ""],
    "duration_s": [-1, "2", True, math.nan],
    "loudness_db": ["loud", math.inf],
    "face_px": [-1, []],
    "modality": ["smell", 3],
    "open_labels": ["happy", [1]],
    "reference": [3],
    "warnings": ["dark", [1], None],
    "unreadable": [1, None, True],
    "label_set": [["dfew"], None],
    "known_cues": [
        [1],
        {"audio": {"pitch": "high"}},
        {"audio": 5},
        {"smell": []},
        {"audio": [["pitch"]]},
        {"video": [["brow", "raised"]]},
        {"audio": [["brows", "raised"]]},
        {"video": [["brows", "purple"]]},
        {"video": [["brows", "raised"], ["brows", "lowered"]]},
    ],
    "answer_mode": ["slow", None, ["both"]],
    "confidence": [7, -0.1, "0.5", None, True, math.nan],
    "direct_confidence": [1.01, math.inf, [0.5]],
    "direct_prediction": ["bored", None, 2],
    "scores": [
        1, {}, None, {"fear": math.nan}, {"fear": "1"}, {"bored": 1.0}, {"fear": 7}, {"fear": True},
        {"fear": -0.5, "happy": 1.5}, {"fear": 0.5, "happy": 0.2}, {"fear": 1.0, "happy": 1.0},
    ],
    "direct_scores": [{"fear": "1"}, {"fear": 7}],
    "votes": [[], None, "fear", ["bored"], [1], [["fear"]], {"fear": 1}],
    "num_tokens": [-1, 1.5, "1", None, True],
    "votes_num_tokens": [-1, 1.5, "1", None, True],
}  # fmt: skip


def test_every_field_of_a_row_is_held_to_its_type_and_range(run: Path, tmp_path: Path) -> None:
    read_anew = {"prediction", "format_ok", "reasoning", "verdict", "described_media"}
    read_anew |= {"named_cues", "cue_truth"}
    fields = {*score_fields("fear", SHARES, SHARES), "answer_mode"}
    fields |= lines(run / "test/predictions/ravdess.full.jsonl")[0].keys()
    # What only some sets and clips have, and what only a table of references tells.
    fields |= {"open_labels", "reference", "unreadable", *BINS}
    fields |= {"votes", "num_tokens", "votes_num_tokens"}  # where some were sampled
    assert WRONG.keys() == ROW_FIELDS.keys() == fields - read_anew
    row = json.loads(ANSWER) | {"answer_mode": "both", **score_fields("fear", SHARES, SHARES)}
    file = tmp_path / "own.full.jsonl"
    for key, values in WRONG.items():
        for value in values:
            broken = row | {"sample_id": "b", key: value}
            file.write_text(f"{json.dumps(row)}\n\n{json.dumps(broken)}\n")
            with pytest.raises(UsageError, match=rf"full\.jsonl, line 3: {key} is .* has to be"):
                write_scores([file], label_set="dfew")
    # What is read in the text anew may say anything.
    file.write_text(json.dumps(row | dict.fromkeys(read_anew, 7)))
    assert write_scores([file], label_set="dfew")["sets"]["own"]["full"]["n"] == 1


@pytest.mark.parametrize("rounded", [{"fear": 1}, {"fear": 0.33, "sad": 0.33, "happy": 0.33}])
def test_shares_may_be_rounded(rounded: dict[str, float], tmp_path: Path) -> None:
    row = json.loads(ANSWER) | {"scores": rounded}
    (tmp_path / "own.full.jsonl").write_text(json.dumps(row))
    assert write_scores([tmp_path], label_set="dfew")["sets"]["own"]["full"]["n"] == 1


def test_a_file_is_of_one_answer_mode(tmp_path: Path) -> None:
    """One direct answer among those of both modes would drop the figures of all."""
    answer = json.loads(ANSWER)
    reasoned = {"scores": SHARES}
    at_once = {"direct_prediction": "fear", "direct_scores": SHARES}
    modes = {"think": {}, "direct": at_once, "both": at_once | reasoned}
    file = tmp_path / "own.full.jsonl"

    def told(*rows: dict[str, Any]) -> str:
        named = (answer | {"sample_id": str(index)} | row for index, row in enumerate(rows))
        file.write_text("".join(f"{json.dumps(row)}\n" for row in named))
        try:
            results = write_scores([file], label_set="dfew")
        except UsageError as error:
            (line,) = str(error).splitlines()
            return line.removeprefix(f"{file}, ")
        return ", ".join(results.get("answer_modes", {"none": {}}))

    rows = {mode: fields | {"answer_mode": mode} for mode, fields in modes.items()}
    assert [told(row, row) for row in rows.values()] == ["none", "own", "own"]
    # A row by hand names no mode.
    assert [told(rows[m], fields) for m, fields in modes.items()] == ["none", "own", "own"]
    assert told(reasoned) == "none"
    found = told(rows["both"], rows["both"], rows["direct"])
    assert found.startswith("line 3: is an answer of mode 'direct', line 1 one of 'both'; score ")
    for one, other in ((rows["think"], rows["both"]), ({}, reasoned), (at_once, rows["both"])):
        assert told(one, other).startswith("line 2: is an answer of mode ")
    lacking = rows["both"] | {"answer_mode": "direct"}
    assert told(lacking).startswith(
        "line 1: answer_mode is 'direct', of scores there is scores and"
    )
    for lone in at_once:
        assert told({lone: at_once[lone]}).startswith(
            "line 1: answer_mode is None, of scores there"
        )
    assert "'angry', which is not among its direct_scores" in told(
        rows["direct"] | {"direct_prediction": "angry"}
    )


def test_conditions_of_a_set_have_one_label_set(tmp_path: Path) -> None:
    for condition, labels in (("full", "dfew"), ("muted", "mafw")):
        row = json.loads(ANSWER) | {"label_set": labels}
        (tmp_path / f"own.{condition}.jsonl").write_text(json.dumps(row))
    with pytest.raises(UsageError, match=r"has the label set mafw, another .* has dfew; give --la"):
        write_scores([tmp_path])
    assert write_scores([tmp_path], label_set="mafw")["label_sets"] == {"own": "mafw"}


def test_more_refusals(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no predictions there"):
        write_scores([tmp_path / "nowhere"])
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    with pytest.raises(UsageError, match="exists"):
        write_scores([run], tmp_path / "full")
    copy = shutil.copytree(run, tmp_path / "copy")
    with pytest.raises(UsageError, match="of the same set"):
        write_scores([run, copy])
    file = copy / "test/predictions/dfew.full.jsonl"
    unlabelled = [json.dumps({**record, "label": None}) for record in lines(file)]
    file.write_text("\n".join(unlabelled))
    with pytest.raises(UsageError, match="no answer has a label"):
        write_scores([file])


def test_predictions_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare name in the working directory is a file; no recording has to be named."""
    text = "<think>It is joy.</think><answer>happy</answer>"
    row = {"sample_id": "a", "label": "happy", "text": text, "ended": True, "group": None,
           "label_set": "dfew"}  # fmt: skip
    (tmp_path / "own.full.jsonl").write_text(json.dumps(row) + "\n")
    monkeypatch.chdir(tmp_path)
    written = write_scores([Path("own.full.jsonl")], tmp_path / "scored")
    assert written["sets"]["own"]["full"]["war"] == 1.0
    del row["label_set"]
    Path("own.full.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(UsageError, match="which label set"):
        write_scores([Path("own.full.jsonl")])
    write_report({"own": tmp_path / "scored"}, tmp_path / "report")
    assert "does not say where its recording is" in (tmp_path / "report/report.html").read_text()
    # A report takes the place of a report, and of nothing else.
    write_report({"own": tmp_path / "scored"}, tmp_path / "report")
    before = (tmp_path / "scored/results.json").read_bytes()
    with pytest.raises(UsageError, match=r"holds other results\.json; choose another folder"):
        write_report({"own": tmp_path / "scored"}, tmp_path / "scored")
    assert (tmp_path / "scored/results.json").read_bytes() == before
    assert not (tmp_path / "scored/report.html").exists()


def test_conditions_of_other_samples_are_not_compared(tmp_path: Path) -> None:
    answer = json.loads(ANSWER)
    rows = [answer, answer | {"sample_id": "b"}]
    (tmp_path / "own.full.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "own.muted.jsonl").write_text(json.dumps(answer) + "\n")
    with pytest.raises(UsageError, match=r"full and muted of a set .*\(2 and 1\).* one by one"):
        write_scores([tmp_path], label_set="dfew")
