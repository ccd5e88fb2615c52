"""`folds` by real commands on a small world: stopped, gone on with, refused, and its figures."""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from r1omni.analysis.runs import read_run
from r1omni.analysis.scores import write_scores
from r1omni.cli import main
from r1omni.metrics.protocol import protocol_items
from r1omni.studies.fold_results import finished_folds, write_folds
from r1omni.studies.fold_sets import Folding, words_of_fold
from r1omni.types import UsageError

TESTS = Path(__file__).parents[1]
CONFIG = TESTS.parent / "configs" / "mini" / "r1omni.yaml"


@pytest.fixture(scope="module")
def world(mini_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world of DFEW alone with two of its five folds: what trains in one is tested in the other.

    `init_K` is the model that a fold starts from.
    """
    root = tmp_path_factory.mktemp("folds")
    shutil.copytree(mini_world / "world" / "DFEW", root / "DFEW")
    for split, other in (("train", "test"), ("test", "train")):
        folder = root / "DFEW" / "EmoLabel_DataSplit"
        first = folder / f"{other}(single-labeled)" / "set_1.csv"
        shutil.copy(first, folder / f"{split}(single-labeled)" / "set_2.csv")
    for fold in (1, 2):
        shutil.copytree(mini_world / "init", root / f"init_{fold}")
    return root


def words(mini_world: Path, world: Path, *more: object) -> list[str]:
    entry = "name: dfew, root: DFEW"
    whole = f"{{name: ravdess, root: '{mini_world / 'world' / 'RAVDESS'}', split: test"
    given = [
        "--config", CONFIG, "--trainer.max_steps", 2, "--trainer.enable_progress_bar", "false",
        "--model.init_args.init_from", f"{world}/init_{{fold}}",
        "--model.init_args.grpo.max_new_tokens", 8, "--model.init_args.grpo.group_size", 4,
        "--model.init_args.grpo.rewards", "[{name: 'rewards_of_tests:held'}]",
        "--run.tracking_uri", f"sqlite:///{world / 'mlflow.db'}",
        "--data.root", world, "--data.loader.cache_dir", mini_world / "cache",
        "--data.train", f"[{{{entry}, sampling: 'first:8'}}]",
        "--data.test", f"[{{{entry}, split: test, sampling: 'first:6'}}, "
        f"{whole}, sampling: 'first:4'}}]",
        "--data.conditions", "[full]",
        "--data.loader.batch_size", 2, "--data.loader.decode_workers", 0,
        "--folds", 5, "--whole", "ravdess", *more,
    ]  # fmt: skip
    return ["folds", *map(str, given)]


@pytest.fixture(scope="module")
def done(mini_world: Path, world: Path, forked_python: Path) -> tuple[Path, str, str]:
    """Both folds, told to stop in the first one's training and begun again.

    Returns:
        the folder, what was said when it was told to stop, and what was printed then.
    """
    out, mark = world / "out", world / "mark"
    path = os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    given = words(mini_world, world, "--only", 1, 2, "--out", out)
    held = {"HOLD_AT": "2", "HOLD_MARK": str(mark)}
    command = [str(forked_python), "-m", "r1omni", *given]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=world, env={**env, **held}, **pipes) as stopped:
        while not mark.exists():
            assert stopped.poll() is None, stopped.communicate()
            time.sleep(0.05)
        os.kill(stopped.pid, signal.SIGTERM)
        told = stopped.communicate(timeout=300)[1]
    assert stopped.returncode == 143, told
    assert not (out / "fold_1" / "model").exists() and not (out / "fold_2").exists()
    again = subprocess.run(command, cwd=world, env=env, **pipes, timeout=900, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    return out, told, again.stdout


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def test_a_stopped_study_goes_on(done: tuple[Path, str, str]) -> None:
    out, told, printed = done
    assert "the same command goes on" in told
    began = Counter(
        line.split(" begins;")[0] for line in printed.splitlines() if " begins;" in line
    )
    assert began == dict.fromkeys(
        [f"fold {fold}: {kind}" for fold in (1, 2) for kind in ("fit", "test")], 1
    )
    for fold in (1, 2):
        made = read(out / f"fold_{fold}" / "test" / "results.json")["provenance"]
        assert made["sets"]["dfew"]["options"]["fold"] == fold
        assert made["training"][0]["data"][0]["options"]["fold"] == fold
        assert made["start"]["init_from"].endswith(f"init_{fold}")
        assert made["checkpoint"]["step"] == 2
        assert made["run"] == f"R1-Omni, fold {fold}"


def test_figures_of_folds_are_those_of_their_tests(done: tuple[Path, str, str]) -> None:
    out = done[0]
    results = read(out / "results.json")
    assert results["tested_folds"] == [1, 2] and results["num_folds"] == 5
    tests = [read(out / f"fold_{k}" / "test" / "results.json")["sets"] for k in (1, 2)]
    for name in ("dfew", "ravdess"):
        for figure in ("war", "uar", "format_ok"):
            own = [test[name]["full"][figure] for test in tests]
            found = results["fold_sets"][name]["full"]["figures"][figure]
            assert list(found["folds"].values()) == own
            assert found["mean"] == pytest.approx(statistics.mean(own))
            assert found["deviation"] == pytest.approx(abs(own[0] - own[1]) / 2**0.5)
    dfew, ravdess = (results["fold_sets"][name]["full"] for name in ("dfew", "ravdess"))
    assert dfew["num_pooled"] == 12 == sum(dfew["n"].values())
    right = sum(test["dfew"]["full"]["war"] * test["dfew"]["full"]["n"] for test in tests)
    assert dfew["pooled"]["war"] == pytest.approx(right / 12)
    assert not ravdess["pooled"] and "more than one fold" in ravdess["not_pooled"]
    assert [p["fold"] for p in results["protocols"]["dfew"].values()] == [1, 2]
    text = (out / "folds.md").read_text()
    assert "| clips | 6 | 6 |  | 12 |" in text and "sample standard deviation" in text
    rows = (out / "folds.csv").read_text().splitlines()
    assert rows[0] == "set,condition,figure,fold_1,fold_2,mean,deviation,all_clips"
    assert any(row.startswith("dfew,full,war,") for row in rows)


def test_what_is_done_is_not_repeated_and_other_settings_are_refused(
    done: tuple[Path, str, str], mini_world: Path, world: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = done[0]
    given = words(mini_world, world, "--only", 1, 2, "--out", out)
    assert main(given) == 0
    assert " begins;" not in capsys.readouterr().out
    assert main([*given, "--trainer.max_steps", "3"]) == 2
    error = capsys.readouterr().err
    assert "fold_1" in error and "trainer.max_steps: 2 -> 3" in error
    # The table has fold 2 as well, which is not asked for: no mean of different settings.
    part = shutil.copytree(out, world / "part")
    shutil.rmtree(part / "fold_1")
    other = words(mini_world, world, "--only", 1, "--out", part, "--trainer.max_steps", 3)
    assert main(other) == 2
    assert "part/fold_2 was made with other settings" in capsys.readouterr().err
    with (world / "init_2" / "model.safetensors").open("ab") as weights:
        weights.write(b" ")
    assert main(given) == 2
    assert "fold_2" in (error := capsys.readouterr().err) and "weights of" in error


def test_a_fold_that_fails_loses_nothing(
    mini_world: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)]))
    given = words(mini_world, world, "--only", 2, "--out", tmp_path / "out")
    missing = ["--model.init_args.init_from", str(tmp_path / "no_{fold}")]
    assert main([*given, *missing]) == 2  # before anything is trained
    assert f"fold 2: model.init_args.init_from {tmp_path}/no_2 is no" in capsys.readouterr().err
    shutil.copytree(mini_world / "init", tmp_path / "no_2")
    (tmp_path / "no_2" / "model.safetensors").write_bytes(b"cut off")
    assert main([*given, *missing]) == 1
    error = capsys.readouterr().err
    log = tmp_path / "out" / "fold_2" / "fit.log"
    assert "fold 2: fit ended with status" in error and f"see {log}" in error
    assert "no_2" in log.read_text()


def write_tested(out: Path, answers: dict[int, tuple[str, str]]) -> None:
    """Folds as `test` leaves them, of labels and answers, h for happy and s for sad."""
    words = {"h": "happy", "s": "sad"}
    for fold, (labels, said) in answers.items():
        file = out / "given" / f"fold_{fold}" / "predictions" / "dfew.full.jsonl"
        file.parent.mkdir(parents=True)
        rows = [
            {"sample_id": f"dfew/{fold}_{k}", "label": words[label], "group": f"{fold}{label}",
             "text": f"<think>So.</think>\n<answer>{words[word]}</answer>", "label_set": "dfew",
             "ended": True, "votes": [words[word]] * 3}
            for k, (label, word) in enumerate(zip(labels, said, strict=True))
        ]  # fmt: skip
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        provenance = {
            "start": {"init_from": "init", "hub": None, "sha256": "ab" * 32},
            "checkpoint": {"sha256": f"{fold}" * 64, "step": 10 * fold},
            "sets": {"dfew": {
                "dataset": "dfew", "split": "test", "sampling": "all", "num_samples": len(rows),
                "options": {"fold": fold, "labels_csv": None}, "modalities": ["video_audio"],
                "instructions": ["Which emotion?"], "num_instructions": 1,
            }},
            "answers": {"temperature": 0.0, "max_new_tokens": 77, "precision": "32-true",
                        "frame_fit": "pad", "voting": {"samples": 3, "temperature": 0.7}},
            "versions": {"r1omni": "9.8.7"}, "source_sha256": "ef" * 32,
            "date": f"2031-12-0{fold}T01:02:03+00:00",
        }  # fmt: skip
        beside = {"provenance": provenance, "label_sets": {"dfew": "dfew"}}
        (file.parents[1] / "results.json").write_text(json.dumps(beside))
        write_scores([file], out / f"fold_{fold}" / "test")


def test_pooled_folds_have_the_protocol_of_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tested(tmp_path, {1: ("hhss", "hshh"), 2: ("ss", "hh")})
    write_folds(tmp_path, finished_folds(tmp_path, [1, 2]), 5)
    pooled = read(tmp_path / "pooled" / "results.json")
    protocol = pooled["protocols"]["dfew"]
    assert (protocol["fold"], protocol["num_folds"], protocol["num_clips"]) == ([1, 2], 5, 6)
    assert protocol["classes"][0] == "happy" and len(protocol["classes"]) == 7
    assert protocol["speakers"] == ["1h", "1s", "2s"]
    assert protocol["prompts"] == ["Which emotion?"] and protocol["answer_mode"] == "think"
    assert protocol["checkpoint"] is None and protocol["date"].startswith("2031-12-02")
    hashes = [protocol["folds"][fold]["checkpoint"]["sha256"] for fold in ("1", "2")]
    assert hashes == ["1" * 64, "2" * 64]
    assert pooled["voting"]["dfew"]["full"]["temperature"] == 0.7
    said = protocol_items(protocol)
    assert said == {
        "data set": "dfew, test, 6 clips",
        "fold": "1, 2 of 5, pooled",
        "classes": "7 (dfew): happy, sad, neutral, angry, surprise, disgust, fear",
        "speakers": "3: 1h, 1s, 2s",
        "prompt": "Which emotion?",
        "media": "video_audio",
        "answer mode": "think",
        "decoding": "the most probable token, at most 77 tokens, 32-true",
        "voting": "3 samples at temperature 0.7",
        "frame fit": "pad",
        "weights": "fold 1 checkpoint 111111111111, step 10; fold 2 checkpoint 222222222222, "
        "step 20",
        "code version": "r1omni 9.8.7, source efefefefefef",
        "date": "2031-12-02",
    }
    # What reads the pooled folder has it, too.
    write_scores([tmp_path / "pooled"], tmp_path / "scored")
    scored = read(tmp_path / "scored" / "results.json")
    assert scored["protocols"]["dfew"] == protocol
    assert scored["sets"] == pooled["sets"] and scored["voting"] == pooled["voting"]
    first, second = f"A={tmp_path / 'pooled'}", f"B={tmp_path / 'scored'}"
    for command, given, page in (
        ("compare", (first, second), "compare.html"), ("report", ("--runs", first), "report.html"),
    ):  # fmt: skip
        out = tmp_path / command
        assert main([command, *given, "--out", str(out)]) == 0, capsys.readouterr().err
        assert "fold 2 checkpoint 222222222222" in (out / page).read_text()


def test_sets_that_are_pooled_no_longer_leave_no_file(tmp_path: Path) -> None:
    write_tested(tmp_path, {1: ("hhss", "hshh"), 2: ("ss", "hh")})
    pooled = tmp_path / "pooled"
    write_folds(tmp_path, finished_folds(tmp_path, [1, 2]), 2)
    assert (pooled / "predictions" / "dfew.full.jsonl").is_file()
    write_folds(tmp_path, finished_folds(tmp_path, [1]), 2)
    assert not [file for file in pooled.rglob("*") if file.is_file()]
    with pytest.raises(UsageError, match=r"name one of its folders fold_K$"):
        read_run("A", tmp_path)
    write_folds(tmp_path, finished_folds(tmp_path, [1, 2]), 2)
    with pytest.raises(UsageError, match=r"fold_K, or \S+/pooled, which has all folds$"):
        read_run("A", tmp_path)
    assert read_run("A", pooled).sets["dfew"].protocol["fold"] == [1, 2]


def test_mean_deviation_and_all_clips_by_hand(tmp_path: Path) -> None:
    """Of 4 clips 1 is right, of 2 none: 25 and 0, mean 12.5, deviation 25 / sqrt(2)."""
    write_tested(tmp_path, {1: ("hhss", "hshh"), 2: ("ss", "hh")})
    (tmp_path / "fold_3" / "test").mkdir(parents=True)
    (tmp_path / "fold_3" / "test" / "results.json").write_text('{"sets": {"dfew"')  # cut off
    tested = finished_folds(tmp_path, [1, 2, 3])
    assert list(tested) == [1, 2]
    text = write_folds(tmp_path, tested, 3)
    found = read(tmp_path / "results.json")["fold_sets"]["dfew"]["full"]
    war = found["figures"]["war"]
    assert war["folds"] == {"1": 0.25, "2": 0.0} and war["mean"] == 0.125
    assert war["deviation"] == pytest.approx(0.25 / 2**0.5)
    assert found["pooled"]["war"] == 1 / 6 and found["num_pooled"] == 6
    assert found["pooled"]["war_interval"][0] <= 1 / 6 <= found["pooled"]["war_interval"][1]
    assert "| WAR | 25.0 | 0.0 | 12.5 ± 17.7 | 16.7 (" in text
    pooled = write_scores([tmp_path / "pooled"])  # what other commands read
    assert pooled["sets"]["dfew"]["full"]["war"] == 1 / 6


def refusal(capsys: pytest.CaptureFixture[str], given: list[str]) -> str:
    assert main(given) == 2
    return capsys.readouterr().err


def test_refusals(
    mini_world: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out")]
    given = [*words(mini_world, world), *out]
    assert "fold 3: " in (error := refusal(capsys, given)) and "set_3" in error
    six = [w.replace("5", "6") if w == "5" else w for w in given]
    assert "dfew has 5 folds of its publisher; give --folds 5" in refusal(capsys, six)
    without = [w for w in given if w not in ("--whole", "ravdess")]
    emer = ["--data.train", "[{name: emer, root: EMER}]"]
    assert "without folds: emer; add `--whole emer`" in refusal(capsys, [*without, *emer])
    assert "--only 7: there are folds 1 to 5" in refusal(capsys, [*given, "--only", "7"])
    own = [*given, "--trainer.default_root_dir", "x"]
    assert "--trainer.default_root_dir is set for each fold" in refusal(capsys, own)
    listed = "[{name: dfew, root: DFEW, split: test, options: {labels_csv: %s}}]"
    one = listed % "'EmoLabel_DataSplit/test(single-labeled)/set_1.csv'"
    same = [*without, "--only", "1", "2", "--data.test", one]
    assert "folds 1 and 2 test the same clips of dfew" in refusal(capsys, same)
    unknown = [*given, "--trainer.max_stepz", "3"]
    assert "max_steps" in refusal(capsys, unknown)
    assert "folds needs --config" in refusal(capsys, ["folds", "--folds", "5", *out])
    assert not (tmp_path / "out").exists()


def sets(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"root": ".", "test": [{"root": ".", "split": "test", **entry} for entry in entries]}


@pytest.mark.parametrize(
    ("entry", "number", "options"),
    [
        ({"name": "dfew"}, 5, {"fold": 3}),
        ({"name": "mafw", "options": {"fold": 1}}, 5, {"fold": 3}),
        ({"name": "iemocap"}, 5, {"fold": 3}),
        ({"name": "ravdess", "options": {"fold": 1}}, 6, {"fold": 3}),
        ({"name": "ravdess"}, 4, {"fold": 3, "folds": 4}),
        ({"name": "cremad", "options": {"hold_out_val": True}}, 4,
         {"fold": 3, "folds": 4, "hold_out_val": True}),
        ({"name": "dfew", "options": {"labels_csv": "set_{fold}.csv"}}, 5,
         {"fold": 3, "labels_csv": "set_3.csv"}),
    ],
)  # fmt: skip
def test_options_of_a_fold(entry: dict[str, Any], number: int, options: dict[str, Any]) -> None:
    folding, data = Folding(number), sets(entry)
    folding.check(data)
    assert folding.of_fold(data, 3)["test"][0]["options"] == options


@pytest.mark.parametrize(
    ("entry", "number", "line"),
    [
        ({"name": "ravdess", "split": "all"}, 5, "without folds: ravdess"),
        ({"name": "humanomni"}, 5, "without folds: humanomni"),
        ({"name": "iemocap"}, 4, "iemocap has 5 folds"),
        ({"name": "cremad", "options": {"folds": 3, "fold": 1}}, 5, "cremad into folds 3"),
    ],
)
def test_sets_that_cannot_be_divided_so(entry: dict[str, Any], number: int, line: str) -> None:
    with pytest.raises(UsageError, match=line):
        Folding(number).check(sets(entry))
    Folding(number, frozenset([entry["name"]]))
    with pytest.raises(UsageError, match="no data set is divided"):
        Folding(number, frozenset([entry["name"]])).check(sets(entry))
    with pytest.raises(UsageError, match="--whole tess"):
        Folding(number, frozenset(["tess"])).check(sets(entry))


def test_settings_of_files_that_name_the_fold_are_told() -> None:
    settings = {
        "data": sets({"name": "dfew"}),
        "model": {"init_args": {"init_from": "sft/fold_{fold}/model", "names": ["a", "b{fold}"]}},
        "run": {"name": "R1-Omni"},
    }
    told = words_of_fold(["--config", "x.yaml", "--run.name", "f{fold}"], settings, Folding(5), 4)
    assert told[:4] == ["--config", "x.yaml", "--run.name", "f4"]
    by_name = dict(zip(told[4::2], told[5::2], strict=True))
    assert by_name["--model.init_args.init_from"] == "sft/fold_4/model"
    assert by_name["--model.init_args.names"] == '["a", "b4"]'
    assert json.loads(by_name["--data.test"])[0]["options"] == {"fold": 4}
    assert by_name.keys() == {
        "--model.init_args.init_from", "--model.init_args.names", "--data.test",
    }  # fmt: skip
