"""Long evaluations: killed and gone on with, on one rank and on two, and clips nobody can read."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from answer_log_job import counted, evaluate, evaluate_on_two_ranks, held
from small_training import short_sft

from processes import REPOSITORY, Running, ranks
from r1omni.analysis.scores import write_scores
from r1omni.data import DatasetSpec
from r1omni.training.answer_log import FOLDER, AnswerLog, GivenAnswer
from r1omni.types import Clip, R1OmniError, Sample

DFEW = DatasetSpec("dfew", "DFEW", split="test", sampling="first:7")


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def answers(run_dir: Path) -> dict[str, str]:
    """The files of predictions of a run, by name."""
    files = sorted((run_dir / "test" / "predictions").iterdir())
    return {file.name: file.read_text(encoding="utf-8") for file in files}


def words(mini_world: Path, run_dir: Path, *more: object) -> list[str]:
    return [
        "test",
        *short_sft(
            mini_world, run_dir, "--data.loader.eval_batch_size", 2, "--data.conditions", "[full]",
            "--data.test", "[{name: dfew, root: DFEW, split: test, sampling: 'first:7'}]", *more,
        ),
    ]  # fmt: skip


def test_a_killed_test_goes_on(mini_world: Path, tmp_path: Path) -> None:
    """The third of four batches is not answered when the process is killed."""
    cut, mark, asked = tmp_path / "cut", tmp_path / "mark", tmp_path / "asked"
    process = Running(held, words(mini_world, cut), 3, mark, cwd=REPOSITORY, env=os.environ)
    while not mark.exists():
        assert process.poll() is None, process.stderr
        time.sleep(0.05)
    os.kill(process.pid, 9)
    assert process.wait() == -9
    assert not (cut / "test" / "results.json").exists()
    [kept] = (cut / "test" / FOLDER).iterdir()
    assert len(kept.read_text().splitlines()) == 1 + 2
    # As if it had been killed within a line.
    kept.write_text(kept.read_text() + '{"set": 0, "answ')
    again = Running(counted, words(mini_world, cut), asked, cwd=REPOSITORY, env=os.environ)
    assert again.wait() == 0, again.stderr
    assert "goes on after 4 answers" in again.stderr
    whole = tmp_path / "whole"
    other = Running(counted, words(mini_world, whole), asked, cwd=REPOSITORY, env=os.environ)
    assert other.wait() == 0, other.stderr
    lines = asked.read_text().splitlines()
    assert len(lines) == 3 + 7 and lines[:3] == lines[-3:]
    assert answers(cut) == answers(whole)
    assert (
        read(cut / "test" / "results.json")["sets"] == read(whole / "test" / "results.json")["sets"]
    )
    assert not list(tmp_path.rglob(FOLDER)) and not list(tmp_path.rglob("*.partial"))


def test_two_ranks_answer_like_one_and_go_on_from_each_other(
    mini_world: Path, tmp_path: Path
) -> None:
    """Seven clips do not go round: one of the ranks answers to one of them in vain."""
    one = tmp_path / "one"
    evaluate(mini_world, one, DFEW, 4)
    ranks(2, evaluate_on_two_ranks, mini_world, tmp_path / "two", DFEW)
    assert answers(one).keys() == {"dfew.full.jsonl", "dfew.muted.jsonl"}
    assert answers(tmp_path / "two") == answers(one)
    wanted, found = (read(tmp_path / name / "test" / "results.json") for name in ("one", "two"))
    for part in ("sets", "explanations", "dependence"):
        assert found[part] == wanted[part]
    assert found["provenance"]["answers"]["num_ranks"] == 2


def sample(name: str) -> Sample:
    return Sample(name, Clip(Path(f"{name}.mp4")), "what?", "video", label="happy")


def test_answers_are_found_again_whatever_ranks_wrote_them(tmp_path: Path) -> None:
    a, b, c = map(sample, "abc")
    yes, no = GivenAnswer("<answer>", True, {"happy": 1.0}, None), GivenAnswer("\n", False)
    first, second = AnswerLog(tmp_path, "key", 0), AnswerLog(tmp_path, "key", 1)
    assert first.known(0, [a]) is None
    first.add(0, [a, b], [yes, no])
    second.add(1, [a], [no])
    later = AnswerLog(tmp_path, "key", 0)
    assert later.known(0, [b, a]) == [no, yes] and later.known(1, [a]) == [no]
    assert later.known(0, [a, c]) is None and later.known(1, [b]) is None
    later.remove()
    assert not list(tmp_path.iterdir())


def test_what_was_begun_with_something_else_begins_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    AnswerLog(tmp_path, "key", 0).add(0, [sample("a")], [GivenAnswer("x", True)])
    other = AnswerLog(tmp_path, "another", 0)
    assert other.known(0, [sample("a")]) is None
    assert "begins anew" in caplog.text
    assert len(list((tmp_path / FOLDER).iterdir())) == 1


@pytest.mark.parametrize("line", ["{", "[]", '{"set": 0}', '{"set": 0, "answers": {"a": {}}}'])
def test_a_damaged_line_is_named(line: str, tmp_path: Path) -> None:
    AnswerLog(tmp_path, "key", 0).add(0, [sample("a")], [GivenAnswer("x", True)])
    [file] = (tmp_path / FOLDER).iterdir()
    file.write_text(f"{file.read_text()}{line}\n")
    with pytest.raises(R1OmniError, match=rf"{file.name}: a line of it is damaged .* remove the"):
        AnswerLog(tmp_path, "key", 0)


def test_another_model_is_asked_again(
    mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key names the weights, the clips, the conditions and how answers are drawn."""
    keys: list[str] = []
    made = AnswerLog.__init__

    def noted(self: AnswerLog, folder: Path, key: str, rank: int) -> None:
        keys.append(key)
        made(self, folder, key, rank)

    monkeypatch.setattr(AnswerLog, "__init__", noted)
    few = DatasetSpec("dfew", "DFEW", split="test", sampling="first:2")
    evaluate(mini_world, tmp_path / "a", few, 2)
    evaluate(mini_world, tmp_path / "b", few, 1)
    other = tmp_path / "mini"
    shutil.copytree(mini_world / "init", other / "init")
    (other / "world").symlink_to(mini_world / "world")
    (other / "cache").symlink_to(mini_world / "cache")
    evaluate(other, tmp_path / "c", few, 2, answer_mode="direct")
    evaluate(
        mini_world, tmp_path / "d", DatasetSpec("dfew", "DFEW", split="test", sampling="end:2"), 2
    )
    assert keys[0] == keys[1] and len(set(keys)) == 3


@pytest.mark.parametrize("mode", ["think", "both"])
def test_a_clip_that_cannot_be_read_is_wrong_and_listed(
    mini_world: Path, tmp_path: Path, mode: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "media"))
        from clips import write_clip
    folder = tmp_path / "own"
    for name in ("a", "b", "c"):
        write_clip(folder / f"{name}.mp4")
    (folder / "broken.mp4").write_bytes(b"no film")
    rows = "".join(f"{name}.mp4,happy\n" for name in ("a", "broken", "b", "c"))
    (folder / "labels.csv").write_text("path,label\n" + rows, encoding="utf-8")
    spec = DatasetSpec("own", str(folder), split="all")
    evaluate(mini_world, tmp_path / "run", spec, 2, answer_mode=mode, max_broken_ratio=0.5)
    results = read(tmp_path / "run" / "test" / "results.json")
    lines = answers(tmp_path / "run")["own.full.jsonl"].splitlines()
    records = {Path(r["path"]).stem: r for r in map(json.loads, lines)}
    assert records.keys() == {"a", "b", "c", "broken"}
    broken = records["broken"]
    assert broken["prediction"] is None and not broken["format_ok"] and broken["text"] == ""
    [(path, reason)] = results["broken_clips"].items()
    assert path.endswith("broken.mp4") and reason == broken["unreadable"]
    full = results["sets"]["own"]["full"]
    assert full["n"] == 4 and results["provenance"]["sets"]["own"]["num_samples"] == 4
    right = sum(r["prediction"] == "happy" for r in records.values())
    assert full["war"] == right / 4
    if mode == "both":
        direct = sum(r.get("direct_prediction") == "happy" for r in records.values())
        assert results["answer_modes"]["own"]["full"]["direct"]["war"] == direct / 4
    again = json.loads(json.dumps(write_scores([tmp_path / "run" / "test" / "predictions"])))
    for part in ("sets", "explanations", "answer_modes", "dependence"):
        assert again.get(part) == results.get(part), part
