"""The example of GRPO in one file makes the updates of `python -m r1omni fit`."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from r1omni.cli import main

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "grpo_minimal.py"
STEPS = 3
TOLERANCE = 1e-6


def run_example(mini_world: Path, out: Path, *more: str) -> list[dict]:
    spec = importlib.util.spec_from_file_location("grpo_minimal", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    words = [str(mini_world / "init"), str(mini_world / "world"), "--out", str(out), *more]
    steps: list[dict] = module.main(words)
    return steps


def test_it_makes_the_updates_of_a_fit(
    mini_world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "tests"))
    # Fresh weights never answer in tags: a reward of length gives something to learn from.
    rewards = ("rewards_of_tests:length", "format")
    named = ", ".join(f"{{name: '{reward}'}}" for reward in rewards)
    words = [
        "fit", "--config", ROOT / "configs" / "mini" / "r1omni.yaml",
        "--trainer.default_root_dir", tmp_path / "run", "--trainer.enable_progress_bar", "false",
        "--trainer.max_steps", STEPS, "--trainer.log_every_n_steps", 1,
        "--run.tracking_uri", f"sqlite:///{tmp_path / 'mlflow.db'}",
        "--model.init_args.init_from", mini_world / "init",
        "--model.init_args.optimizer.learning_rate", 1e-3,
        "--model.init_args.optimizer.warmup_ratio", 0.5,
        "--model.init_args.optimizer.min_lr_ratio", 0,
        "--model.init_args.grpo.group_size", 4, "--model.init_args.grpo.max_new_tokens", 8,
        "--model.init_args.grpo.temperature", 0.9, "--model.init_args.grpo.max_grad_norm", 0.5,
        "--model.init_args.grpo.loss.beta", 0.1,
        "--model.init_args.grpo.rewards", f"[{named}]",
        "--data.root", mini_world / "world", "--data.loader.cache_dir", mini_world / "cache",
        "--data.train", "[{name: mafw, root: MAFW, sampling: 'first:10', options: {fold: 1}}]",
        "--data.loader.batch_size", 4, "--data.loader.decode_workers", 0,
    ]  # fmt: skip
    assert main([str(word) for word in words]) == 0

    capsys.readouterr()
    settings = (
        "--steps", STEPS, "--prompts", 4, "--group_size", 4, "--max_new_tokens", 8,
        "--temperature", 0.9, "--learning_rate", 1e-3, "--warmup_ratio", 0.5, "--beta", 0.1,
        "--max_grad_norm", 0.5, "--sampling", "first:10", "--rewards", *rewards,
    )  # fmt: skip
    steps = run_example(mini_world, tmp_path / "out", *map(str, settings))
    printed = capsys.readouterr().out.splitlines()

    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    logged = [line["metrics"] for line in lines if "grad_norm" in line["metrics"]]
    assert len(steps) == len(logged) == STEPS
    for own, theirs in zip(steps, logged, strict=True):
        for name in ("reward", "loss", "grad_norm", "kl"):
            assert own[name] == pytest.approx(theirs[name], abs=TOLERANCE, rel=0), name
    # It learns something, of which the clipping and the KL are a part.
    assert steps[0]["grad_norm"] > 0.5 and steps[-1]["kl"] > 1e-4
    assert len({step["reward"] for step in steps}) == STEPS

    start = load_file(mini_world / "init" / "model.safetensors")
    theirs = load_file(tmp_path / "run" / "model" / "model.safetensors")
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert weights.keys() == theirs.keys() == start.keys()
    assert max(float((weights[n] - theirs[n]).abs().max()) for n in weights) <= TOLERANCE
    assert max(float((weights[n] - start[n]).abs().max()) for n in weights) > 1e-4
    frozen = [n for n in start if n.split(".")[1] in ("vision_tower", "audio_tower", "bert_model")]
    assert frozen and all(torch.equal(weights[n], start[n]) for n in frozen)

    # A step is a line of figures and one completion.
    assert len(printed) == 2 * STEPS
    assert printed[0].startswith(f"step 0: reward {steps[0]['reward']:.2f}, loss ")
    assert repr(steps[0]["text"]) in printed[1]


def test_it_is_short() -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 150
