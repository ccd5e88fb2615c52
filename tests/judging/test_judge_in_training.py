"""GRPO with a judge as a reward: real commands against a server that counts what it is asked."""

from __future__ import annotations

import json
import os
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
TEMPLATE = "The clip is {label}. Grade: {reasoning} / {answer}"


def command(
    mini_world: Path, run_dir: Path, endpoint: str, *more: object, **judge: Any
) -> list[str]:
    """Two optimizer steps of a model that answers in tags."""
    settings = {
        "template": TEMPLATE, "model": "m", "endpoint": endpoint, "at_once": 1, "backoff_s": 0.01,
        "cache": f"{run_dir}.sqlite", **judge,
    }  # fmt: skip
    rewards = [{"name": "format"}, {"name": "judge", "weight": 0.5, "options": {"judge": settings}}]
    words = [
        "fit", "--config", "configs/mini/r1omni.yaml",
        "--trainer.default_root_dir", run_dir, "--trainer.enable_progress_bar", "false",
        "--trainer.max_steps", 2, "--trainer.log_every_n_steps", 1,
        "--model.init_args.init_from", "examples/mini-model",
        "--model.init_args.grpo.max_new_tokens", 96, "--model.init_args.grpo.group_size", 3,
        "--model.init_args.grpo.rewards", json.dumps(rewards),
        "--data.root", mini_world / "world", "--data.loader.cache_dir", mini_world / "cache",
        "--data.train", "[{name: mafw, root: MAFW, sampling: 'first:6', options: {fold: 1}}]",
        "--data.loader.batch_size", 2, "--data.loader.decode_workers", 0,
        "--run.tracking_uri", f"sqlite:///{run_dir.parent / 'mlflow.db'}",
        "--run.checkpoint_every", 100, *more,
    ]  # fmt: skip
    return [str(word) for word in words]


def run(words: list[str]) -> tuple[int, str]:
    process = Running(main, words, cwd=REPOSITORY, env={**os.environ, "NO_PROXY": "127.0.0.1"})
    status = process.wait()
    return status, process.stderr


def same_weights(one: Path, other: Path) -> bool:
    wanted, found = (load_file(f / "model" / "model.safetensors") for f in (one, other))
    return wanted.keys() == found.keys() and all(torch.equal(wanted[n], found[n]) for n in wanted)


def judged(run_dir: Path) -> list[float]:
    lines = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    return [found["rewards/judge/mean"] for line in lines if (
        "rewards/judge/mean" in (found := line["metrics"])
    )]  # fmt: skip


@pytest.fixture(scope="module")
def whole(mini_world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run that nothing stops, and what its judge was asked."""
    run_dir = tmp_path_factory.mktemp("judged") / "whole"
    with serving() as server:
        status, told = run(command(mini_world, run_dir, server.endpoint))
        assert status == 0, told
        return run_dir, server.questions()


def test_a_judge_grades_what_a_policy_says(whole: tuple[Path, list[str]]) -> None:
    run_dir, questions = whole
    assert len(questions) > 6  # well-formed completions alone are shown
    assert all(text.startswith("The clip is ") and "<think>" not in text for text in questions)
    means = judged(run_dir)
    assert len(means) == 2 and all(0 < mean < 1 for mean in means)


def test_a_spent_budget_keeps_the_run(
    mini_world: Path, tmp_path: Path, whole: tuple[Path, list[str]]
) -> None:
    wanted, questions = whole
    broken = tmp_path / "broken"
    budget = len(questions) - 2
    with serving() as server:
        status, told = run(command(mini_world, broken, server.endpoint, max_requests=budget))
        line = told.strip().splitlines()[-1]
        assert (status, len(server.seen)) == (1, budget)
        assert f"reward 'judge': judge: the budget max_requests {budget} is spent" in line
        assert line.endswith("(at step 1; resume with --ckpt_path last)")
        assert [f.name for f in (broken / "checkpoints").iterdir()] == ["step_000001.ckpt"]
        status, told = run(
            command(mini_world, broken, server.endpoint, "--ckpt_path", "last", max_requests=999)
        )
        assert status == 0, told
        # What was judged before is not paid again, and nothing else is other than it was.
        assert sorted(server.questions()) == sorted(questions)
    assert same_weights(wanted, broken)
    assert judged(broken) == judged(wanted)


def test_a_killed_run_goes_on_with_what_was_judged(
    mini_world: Path, tmp_path: Path, whole: tuple[Path, list[str]]
) -> None:
    """The second step's judge hangs; SIGTERM ends the wait at once."""
    wanted, questions = whole
    broken, last = tmp_path / "broken", len(questions) - 1

    def hanging_at_last(handler: Handler, body: dict[str, Any]) -> None:
        if handler.number == last:
            (tmp_path / "inside").touch()
            hang(handler, body)
        else:
            grade_by_length(handler, body)

    with serving() as server:
        server.behave = hanging_at_last
        words = command(mini_world, broken, server.endpoint)
        env = {**os.environ, "NO_PROXY": "127.0.0.1"}
        process = Running(main, words, cwd=REPOSITORY, env=env)
        status = _terminated_once(tmp_path / "inside", process)
        assert status == 128 + signal.SIGTERM, process.stderr
        assert "terminated at step 1; resume with --ckpt_path last" in process.stderr
        server.behave = grade_by_length
        status, told = run([*words, "--ckpt_path", "last"])
        assert status == 0, told
        asked = server.questions()
    assert len(asked) == len(questions) + 1  # the one that hung is asked again
    assert set(asked) == set(questions)
    assert same_weights(wanted, broken)
    assert judged(broken) == judged(wanted)


def _terminated_once(mark: Path, process: Running) -> int:
    while not mark.exists():
        assert process.poll() is None, process.stderr
        time.sleep(0.05)
    begin = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    status = process.wait(timeout=30)
    assert time.monotonic() - begin < 25  # the judge would have hung for 60 s
    return status


def test_a_template_that_no_sample_can_fill_is_refused(
    mini_world: Path, tmp_path: Path, whole: tuple[Path, list[str]]
) -> None:
    with serving() as server:
        words = command(
            mini_world, tmp_path / "run", server.endpoint, template="{reasoning} {reference}"
        )
        status, told = run(words)
        assert status == 2
        assert "no sample has what {reference} in the template of judge stands for" in told
        status, told = run(command(mini_world, tmp_path / "run", server.endpoint, at_once=0))
        assert status == 2
        assert "reward 'judge': judge: at_once is 0; it must be a whole number" in told
        assert server.seen == []
