"""GRPO with a judge as a reward: real commands against a server that counts what it is asked."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_server import Handler, grade_by_length, hang, serving
from safetensors.torch import load_file

from processes import Running
from r1omni.cli import main

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "NO_PROXY": "127.0.0.1"}
NUM_STEPS, NUM_CLIPS, GROUP_SIZE = 4, 2, 3
# Of the first rollout, at most; the budget lasts for it, and not for all.
BUDGET = NUM_CLIPS * GROUP_SIZE
TEMPLATE = "The clip is {label}. Grade: {reasoning} / {answer}"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two example clips, as two people's own."""
    folder = tmp_path_factory.mktemp("clips")
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(REPOSITORY / "examples" / "clips" / name, folder)
    (folder / "labels.csv").write_text("path,label\na.mp4,happy\nb.mp4,sad\n")
    return folder


def command(clips: Path, run_dir: Path, endpoint: str, *more: object, **judge: Any) -> list[str]:
    """A few optimizer steps of a model that answers in tags."""
    settings = {
        "template": TEMPLATE, "model": "m", "endpoint": endpoint, "at_once": 1, "backoff_s": 0.01,
        "cache": f"{run_dir}.sqlite", **judge,
    }  # fmt: skip
    rewards = [{"name": "format"}, {"name": "judge", "weight": 0.5, "options": {"judge": settings}}]
    words = [
        "fit", "--config", "configs/mini/r1omni.yaml",
        "--trainer.default_root_dir", run_dir, "--trainer.enable_progress_bar", "false",
        "--trainer.max_steps", NUM_STEPS, "--trainer.log_every_n_steps", 1,
        "--model.init_args.init_from", "examples/mini-model",
        "--model.init_args.grpo.max_new_tokens", 96,
        "--model.init_args.grpo.group_size", GROUP_SIZE,
        "--model.init_args.grpo.rewards", json.dumps(rewards),
        "--data.root", clips, "--data.loader.cache_dir", clips / "cache",
        "--data.train", "[{name: own, root: ., split: all}]",
        "--data.val", "[]", "--data.test", "[]",
        "--data.loader.batch_size", NUM_CLIPS, "--data.loader.decode_workers", 0,
        "--run.tracking_uri", f"sqlite:///{run_dir.parent / 'mlflow.db'}",
        "--run.checkpoint_every", 100, *more,
    ]  # fmt: skip
    return [str(word) for word in words]


def run(words: list[str]) -> tuple[int, str]:
    process = Running(main, words, cwd=REPOSITORY, env=ENVIRONMENT)
    status = process.wait()
    return status, process.stderr


def judged(run_dir: Path) -> list[float]:
    lines = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    return [found["rewards/judge/mean"] for line in lines if (
        "rewards/judge/mean" in (found := line["metrics"])
    )]  # fmt: skip


@pytest.fixture(scope="module")
def whole(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run that nothing stops, and what its judge was asked."""
    run_dir = tmp_path_factory.mktemp("judged") / "whole"
    with serving() as server:
        status, told = run(command(clips, run_dir, server.endpoint))
        assert status == 0, told
        return run_dir, server.questions()


def test_a_judge_grades_what_a_policy_says(whole: tuple[Path, list[str]]) -> None:
    run_dir, questions = whole
    assert BUDGET + 1 < len(questions) <= BUDGET * NUM_STEPS
    # What the template names, and well-formed completions alone.
    assert all(q.startswith(("The clip is happy.", "The clip is sad.")) for q in questions)
    assert not any("<think>" in q for q in questions)
    means = judged(run_dir)
    assert len(means) == NUM_STEPS and all(0 < mean < 1 for mean in means)


def test_a_run_that_is_stopped_twice_equals_itself(
    clips: Path, tmp_path: Path, whole: tuple[Path, list[str]]
) -> None:
    """By a budget in its second rollout or later, and by a signal while the judge hangs."""
    wanted, questions = whole
    broken, inside = tmp_path / "broken", tmp_path / "inside"

    def hanging_after_the_budget(handler: Handler, body: dict[str, Any]) -> None:
        if handler.number == BUDGET + 1:
            inside.touch()
            hang(handler, body)
        else:
            grade_by_length(handler, body)

    with serving() as server:
        status, told = run(command(clips, broken, server.endpoint, max_requests=BUDGET))
        line = told.strip().splitlines()[-1]
        assert (status, len(server.seen)) == (1, BUDGET)
        assert f"reward 'judge': judge: the budget max_requests {BUDGET} is spent" in line
        assert "; resume with --ckpt_path last)" in line
        [kept] = (broken / "checkpoints").iterdir()
        assert kept.name in [f"step_{step:06d}.ckpt" for step in range(1, NUM_STEPS)]

        server.behave = hanging_after_the_budget
        resume = command(clips, broken, server.endpoint, "--ckpt_path", "last", max_requests=999)
        process = Running(main, resume, cwd=REPOSITORY, env=ENVIRONMENT)
        begin = terminated_once(inside, process)
        assert time.monotonic() - begin < 29, "the wait for the judge was not given up"
        assert process.wait() == 128 + signal.SIGTERM, process.stderr
        assert "resume with --ckpt_path last" in process.stderr

        server.behave = grade_by_length
        status, told = run(resume)
        assert status == 0, told
        asked = server.questions()
    # What was judged is not paid again; the one that hung is asked twice.
    assert len(asked) == len(questions) + 1
    assert sorted(set(asked)) == sorted(set(questions))
    files = [f / "model" / "model.safetensors" for f in (wanted, broken)]
    one, other = map(load_file, files)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert judged(broken) == judged(wanted)


def terminated_once(mark: Path, process: Running) -> float:
    """When the signal was sent, which is once the file `mark` is there."""
    while not mark.exists():
        assert process.poll() is None, process.stderr
        time.sleep(0.05)
    begin = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    process.wait()
    return begin


def test_settings_are_checked_before_anything_is_asked(clips: Path, tmp_path: Path) -> None:
    with serving() as server:
        words = command(clips, tmp_path / "run", server.endpoint, template="{answer} {reference}")
        status, told = run(words)
        assert status == 2
        assert "no sample has what {reference} in the template of judge stands for" in told
        status, told = run(command(clips, tmp_path / "run", server.endpoint, at_once=0))
        assert status == 2
        assert "reward 'judge': judge: at_once is 0; it must be a whole number" in told
        assert server.seen == []
