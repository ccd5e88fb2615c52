"""`score --judge`: grades beside the figures of predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_server import FakeServer, serving

from r1omni.cli import main

FORM = "<think>{}</think>\n<answer>happy</answer>"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def record(name: str, text: str, **more: Any) -> dict[str, Any]:
    return {
        "sample_id": name, "label": "happy", "text": text, "ended": True, "group": None,
        "label_set": "mer", "modality": "audio", **more,
    }  # fmt: skip


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """Three that can be judged, one that is malformed, one without a reference."""
    file = tmp_path / "emer.full.jsonl"
    rows = [
        *(record(f"{n}", FORM.format("x" * n), reference="A smile.") for n in (1, 2, 3)),
        record("bad", "happy", reference="A smile."),
        record("bare", FORM.format("x")),
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def judge_file(folder: Path, server: FakeServer, **options: Any) -> Path:
    settings = {
        "template": "{reference} {modality} {reasoning}", "model": "m", "at_once": 1,
        "endpoint": server.endpoint, "cache": str(folder / "judge.sqlite"), **options,
    }  # fmt: skip
    file = folder / "judge.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


def test_grades_are_figures(
    predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with serving() as server:
        words = ["score", str(predictions), "--judge", str(judge_file(tmp_path, server))]
        assert main([*words, "--out", str(out)]) == 0
        assert sorted(server.questions()) == [f"A smile. audio {'x' * n}" for n in (1, 2, 3)]
        expected = [len(question) % 11 / 10 for question in sorted(server.questions())]
        assert main([*words, "--out", str(tmp_path / "again")]) == 0
        assert len(server.seen) == 3  # from the cache
    results = json.loads((out / "results.json").read_text())
    found = results["judge"]["emer"]["full"]
    counts = {"n": 5, "judged": 3, "malformed": 1, "failed": 0, "not_applicable": 1}
    assert {key: found[key] for key in counts} == counts
    assert found["mean"] == pytest.approx(sum(expected) / 4)
    assert found["interval"][0] <= found["mean"] <= found["interval"][1]
    assert results["judge_settings"]["template"].startswith("{reference}")
    lines = (out / "predictions" / "emer.full.jsonl").read_text().splitlines()
    assert [json.loads(line)["judge_score"] for line in lines] == [*expected, 0.0, None]
    again = json.loads((tmp_path / "again" / "results.json").read_text())
    for one in (results, again):
        del one["scored"]["date"]
    assert again == results
    assert f"{found['mean']:.3f}" in capsys.readouterr().out


def test_a_spent_budget_is_one_line_and_goes_on(
    predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with serving() as server:
        words = ["score", str(predictions), "--out", str(out), "--judge"]
        assert main([*words, str(judge_file(tmp_path, server, max_requests=2))]) == 1
        line = capsys.readouterr().err.strip()
        assert line.startswith("r1omni: error: judge: the budget max_requests 2 is spent")
        assert "\n" not in line and not out.exists()
        assert main([*words, str(judge_file(tmp_path, server, max_requests=3))]) == 0
        assert len(server.seen) == 3


def test_failures_are_told_apart_from_grades(predictions: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving() as server:
        server.behave = lambda handler, body: handler.reply("ten")
        file = judge_file(tmp_path, server, max_retries=0, max_failed_ratio=1.0)
        assert main(["score", str(predictions), "--judge", str(file), "--out", str(out)]) == 0
    found = json.loads((out / "results.json").read_text())["judge"]["emer"]["full"]
    assert (found["judged"], found["failed"], found["mean"]) == (0, 3, 0.0)
    lines = (out / "predictions" / "emer.full.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["judge_failed"] == "the reply is no JSON object"
    assert json.loads(lines[0])["judge_score"] is None


def test_the_shipped_file_is_a_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    from r1omni.judging import read_judge_file

    file = Path(__file__).parents[2] / "configs" / "judge.yaml"
    config = read_judge_file(file)
    assert config.max_requests and config.key_variable == "JUDGE_API_KEY"
    assert len(file.read_text().splitlines()) <= 35
