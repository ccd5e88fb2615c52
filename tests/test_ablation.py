"""scripts/ablation.py with a stand-in for `python -m r1omni`: what it runs, resumes and chooses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import ablation  # noqa: E402
import ablation_runs  # noqa: E402

# Writes what the commands write. A training waits while HOLD is there, saves on Ctrl-C, and fails
# where FAIL names its folder; a world waits while HOLD_WORLD is there, and does not answer.
STUB = """
import json, os, signal, sys, time
from pathlib import Path
here, words = Path(__file__).parent, sys.argv[1:]
kind = words[0]
def option(name):
    return words[words.index(name) + 1]
with open(here / "calls.jsonl", "a") as file:
    file.write(json.dumps(words) + "\\n")
folder = Path(option("--trainer.default_root_dir" if kind in ("fit", "test") else "--out"))
folder.mkdir(parents=True, exist_ok=True)
if kind in ("synthesize", "create", "pretrain-towers"):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while (here / "HOLD_WORLD").exists():
        time.sleep(0.01)
    sys.exit()
if kind == "fit":
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    (checkpoints / "step_000001.ckpt").touch()
    def save(signum, frame):
        (folder / "saved").touch()
        sys.exit(128 + signum)
    signal.signal(signal.SIGINT, save)
    if (here / "FAIL").exists() and (here / "FAIL").read_text() == folder.name:
        sys.exit(1)
    (here / "waits").touch()
    while (here / "HOLD").exists():
        time.sleep(0.01)
    (folder / "model").mkdir()
    (folder / "model" / "config.json").touch()
    sys.exit()
model = option("--model.init_args.init_from")
bonus = 0.25 if "gated" in model else 0.0
modes = {"think_minus_direct": {"war_difference": 0.125}, "think": {"ece": 0.25}}
full = {
    "supported": 0.75, "right_and_supported": 0.25 + bonus, "among_right": {"contradicted": None},
    "cues": {"video": {"precision": 0.5, "recall": 1.0}}, "invented": None,
}
taken = {"invented": {"share": 0.5}}
given = json.loads(option("--data.test")) if "--data.test" in words else []
names = [entry["name"] for entry in given] or ["dfew", "mafw", "ravdess"]
report = {
    "sets": {n: {"full": {"war": 0.5 + 0.25 * (n == "mafw"), "uar": 0.5}} for n in names},
    "explanations": {n: {"full": full, "muted": taken, "blanked": taken} for n in names},
    "answer_modes": {n: {"full": modes} for n in names},
}
(folder / "test" / "predictions").mkdir(parents=True)
for n in names:
    lines = [{"reasoning": "one two three"}, {"reasoning": None}]
    text = "\\n".join(map(json.dumps, lines))
    (folder / "test" / "predictions" / f"{n}.full.jsonl").write_text(text)
(folder / "test" / "results.json").write_text(json.dumps(report))
"""


class Ablation:
    """The script on a folder of its own, with the stub for the command."""

    def __init__(self, root: Path) -> None:
        self.root, self.out = root, root / "out"
        (root / "stub.py").write_text(STUB)
        self.program = [sys.executable, "-SE", str(root / "stub.py")]
        self.processes: list[subprocess.Popen[str]] = []
        self.words = ["--out", str(self.out), "--seeds", "1", "2", "--arms", "paper", "gated"]

    def run(self, *more: str) -> int:
        """With these options, in place of the usual ones where they are of the same name."""
        words: list[str] = []
        replaced = False
        for word in self.words:
            replaced = word in more if word.startswith("--") else replaced
            words += [] if replaced else [word]
        return ablation.main([*words, *more], self.program)

    def calls(self) -> list[list[str]]:
        """The commands since this was asked last, without the worlds."""
        file = self.root / "calls.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        file.unlink()
        return [words for words in lines if words[0] in ("fit", "test")]

    def begin(self, made: str) -> subprocess.Popen[str]:
        """A process of its own, its first two commands held up when they have made these files."""
        code = f"import sys, ablation; sys.exit(ablation.main({self.words}, {self.program}))"
        process = subprocess.Popen(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        self.processes.append(process)
        self.wait_for(lambda: len(list(self.out.glob(made))) == 2)
        return process

    @staticmethod
    def wait_for(condition: Any) -> None:
        limit = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < limit
            time.sleep(0.01)


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Ablation]:
    made = Ablation(tmp_path)
    yield made
    for process in made.processes:  # where a test has failed
        process.kill()
    for pid in children_of(tmp_path / "stub.py"):
        os.kill(pid, signal.SIGKILL)


def with_cold_start(study: Ablation) -> None:
    (study.root / "start/emer_sft/model").mkdir(parents=True)
    (study.root / "start/emer_sft/model/config.json").touch()
    study.words += ["--start", str(study.root / "start")]


def value(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def test_every_recipe_and_seed_is_trained_once_and_judged_on_other_people(
    study: Ablation, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study.run() == 0
    calls = study.calls()
    fits = [words for words in calls if words[0] == "fit"]
    out = study.out.resolve()
    trained = [value(words, "--trainer.default_root_dir") for words in fits]
    stages = [str(out / "start" / name) for name in ("base", "emer_sft")]
    arms = ("paper_1", "gated_1", "paper_2", "gated_2")
    assert trained[:2] == stages
    assert set(trained[2:]) == {str(out / "runs" / name) for name in arms}
    start = str(out / "start/emer_sft/model")
    for words, folder in zip(fits[2:], trained[2:], strict=True):
        overlay = ["configs/mini/recipes/gated.yaml"] if "gated" in folder else []
        configs = [words[i + 1] for i, word in enumerate(words) if word == "--config"]
        assert configs == ["configs/mini/r1omni.yaml", *overlay]
        assert value(words, "--seed_everything") == folder[-1]
        assert value(words, "--model.init_args.init_from") == start
        assert value(words, "--data.root") == str(out / "start/world")
    tests = [words for words in calls if words[0] == "test"]
    assert len(tests) == 5  # and the cold start's
    for words in tests:
        sets = json.loads(value(words, "--data.test"))
        assert [entry["name"] for entry in sets] == ["dfew", "mafw"]
        assert all("validation_world_1500" in entry["root"] for entry in sets)
        assert value(words, "--data.answer_mode") == "both"

    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [(line["arm"], line["seed"]) for line in lines] == [
        ("cold_start", None), ("gated", 1), ("paper", 1), ("gated", 2), ("paper", 2)
    ]  # fmt: skip
    assert lines[1]["sets"]["mafw"]["war"] == 0.75 and lines[1]["sets"]["dfew"]["words"] == 1.5
    assert lines[0]["cpu_seconds"] is None and lines[1]["cpu_seconds"] is not None
    printed = capsys.readouterr().out
    assert printed.endswith("\n" + (out / "table.md").read_text())
    assert "no choice yet (the paper's recipe has 2 of at least 4 seeds)" in printed
    assert "left] gated, seed 2: validation done" in printed

    # Once more: nothing is left, and the table is the same.
    before = (out / "results.jsonl").read_bytes()
    assert study.run() == 0
    assert not (study.root / "calls.jsonl").exists()
    assert (out / "results.jsonl").read_bytes() == before

    # The test sets are read when that is asked for, and only of what is named.
    assert study.run("--final", "gated", "cold_start") == 0
    calls = study.calls()
    assert all("--data.test" not in words for words in calls)
    folders = [value(words, "--trainer.default_root_dir") for words in calls]
    assert {Path(folder).parent.name for folder in folders} == {"cold_start", "gated_1", "gated_2"}
    assert "Test set ravdess" in capsys.readouterr().out
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [line["split"] for line in lines] == ["validation"] * 5 + ["final"] * 3


def test_ablations_from_several_cold_starts_make_one_table(
    study: Ablation, capsys: pytest.CaptureFixture[str]
) -> None:
    with_cold_start(study)
    assert study.run() == 0
    first = study.out / "results.jsonl"
    whole = first.read_bytes()
    words = ["--out", str(study.root / "b"), "--seeds", "3", "4", "--beside", str(first)]
    assert study.run(*words) == 0
    assert "By the rule: gated (right for the right reason 50.0%" in capsys.readouterr().out
    table = (study.root / "b/table.md").read_text()
    assert "| cold_start | 2 |" in table and "| gated | 4 |" in table
    assert first.read_bytes() == whole
    own = [json.loads(line)["seed"] for line in (study.root / "b/results.jsonl").open()]
    assert own == [None, 3, 3, 4, 4]


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_stopped_ablation_goes_on_from_its_checkpoints(
    study: Ablation, signum: int, status: int
) -> None:
    with_cold_start(study)
    (study.root / "HOLD").touch()
    process = study.begin("runs/*/checkpoints/*")
    os.kill(process.pid, signum)
    if signum == signal.SIGKILL:  # its trainings do not notice; here they are killed, too
        for pid in children_of(study.root / "stub.py"):
            os.kill(pid, signal.SIGKILL)
        study.wait_for(lambda: not children_of(study.root / "stub.py"))
    output, _ = process.communicate(timeout=30)
    assert process.returncode == status
    if signum == signal.SIGINT:
        assert "the same command goes on from here" in output
        assert len(list(study.out.glob("runs/*/saved"))) == 2
    assert children_of(study.root / "stub.py") == []
    begun = sorted(folder.parent.name for folder in study.out.glob("runs/*/checkpoints"))
    study.calls()

    (study.root / "HOLD").unlink()
    assert study.run() == 0
    calls = study.calls()
    resumed = [
        Path(value(words, "--trainer.default_root_dir")).name
        for words in calls
        if "--ckpt_path" in words
    ]
    assert sorted(resumed) == begun == ["gated_1", "paper_1"]
    assert len(calls) == 8  # four trainings and their judgement; the cold start's was complete


def test_what_cannot_save_is_killed_and_made_anew(study: Ablation) -> None:
    (study.root / "HOLD_WORLD").touch()
    process = study.begin("**/*.partial")
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143 and children_of(study.root / "stub.py") == []
    assert not (study.out / "start/world").exists()
    (study.root / "HOLD_WORLD").unlink()
    (study.out / "start/world.partial/half").touch()
    assert study.run("--arms", "paper", "--seeds", "1") == 0
    assert list((study.out / "start/world").iterdir()) == []


def children_of(stub: Path) -> list[int]:
    """Processes that run the stub."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if str(stub).encode() in words:
            found.append(int(folder.name))
    return found


def test_a_failure_is_named_and_the_others_go_on(
    study: Ablation, capsys: pytest.CaptureFixture[str]
) -> None:
    with_cold_start(study)
    (study.root / "FAIL").write_text("gated_1")
    assert study.run() == 1
    line = f"gated, seed 1: fit ended with status 1; see {study.out}/runs/gated_1/fit.log"
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [line]
    assert "| gated | 1 |" in captured.out and "| paper | 2 |" in captured.out


def test_other_settings_and_wrong_use_are_refused(
    study: Ablation, capsys: pytest.CaptureFixture[str]
) -> None:
    with_cold_start(study)
    assert study.run() == 0
    cut_off = study.out / "runs/gated_2/validation/test/results.json"
    cut_off.write_text(cut_off.read_text()[:-9])
    assert ablation_runs.Run(
        ablation_runs.Settings(study.out, study.root / "start", 250), "gated", 2
    ).left() == ["validation"]
    for more, complaint in (
        (["--steps", "3"], "runs/cold_start was made with another steps"),
        (["--arms", "masked"], "recipe masked is unknown; configs/mini/recipes has paper, cons"),
        (["--start", "/nowhere"], "--start /nowhere holds no cold start"),
        (["--seeds", "1", "1"], "each of --seeds is given once"),
        (["--beside", str(study.out / "none")], "none: there is no such file"),
        (["--beside", str(study.out / "results.jsonl")], "has seed 1, too; give others to --seeds"),
    ):
        with pytest.raises(SystemExit) as stopped:
            study.run(*more)
        assert stopped.value.code == 2
        assert complaint in capsys.readouterr().err


def test_the_page_tells_every_recipe() -> None:
    page = (SCRIPTS.parent / "docs" / "explanations.md").read_text(encoding="utf-8")
    assert [arm for arm in ablation_runs.known_arms() if f"`{arm}`" not in page] == []
    assert len(ablation_runs.known_arms()) > 6


def test_a_dry_run_makes_nothing(study: Ablation, capsys: pytest.CaptureFixture[str]) -> None:
    assert study.run("--dry-run") == 0
    assert not study.out.exists()
    step_s = ablation.recorded_step_s()
    printed = capsys.readouterr().out
    assert f"fit: 4 to run, about {4 * 250 * step_s / 60:.0f} CPU minutes" in printed
