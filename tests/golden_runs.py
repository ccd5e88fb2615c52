"""Trainings whose curves are kept in `tests/golden/`, run through the command line alone.

`scripts/record_golden.py` records them and `tests/test_golden.py` compares. They start from the
model of `tests/fixtures/v0_1_0`, which answers in tags most of the time, so rewards differ.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from r1omni.cli import main

TESTS = Path(__file__).parent
GOLDEN = TESTS / "golden"
START = TESTS / "fixtures" / "v0_1_0" / "model"
CONFIGS = TESTS.parent / "configs"
# On another kind of machine, sums are taken in another order.
TOLERANCE = 1e-5

_GRPO = "--model.init_args.grpo"
_PAPER = (
    "--config", CONFIGS / "mini" / "r1omni.yaml",
    "--data.loader.batch_size", 3,
    f"{_GRPO}.max_new_tokens", 32, f"{_GRPO}.log_completions_every", 0,
)  # fmt: skip
RUNS: dict[str, tuple[object, ...]] = {
    # Two batches a step, the last of an epoch's cut short, and a rate that rises and falls.
    "sft": (
        "--config", CONFIGS / "mini" / "emer_sft.yaml", "--trainer.max_steps", 20,
        "--data.loader.batch_size", 2, "--trainer.accumulate_grad_batches", 2,
    ),
    "grpo": (*_PAPER, "--trainer.max_steps", 20),
    # Four optimizer steps a rollout, so ratios leave 1; groups that are alike are replaced.
    "grpo_reuse": (
        *_PAPER, "--config", CONFIGS / "overlay" / "lora.yaml", "--trainer.max_steps", 40,
        f"{_GRPO}.num_iterations", 2, f"{_GRPO}.steps_per_generation", 2, f"{_GRPO}.max_refills", 4,
        f"{_GRPO}.group_size", 4,
        "--model.init_args.optimizer.learning_rate", 5e-4,
    ),
}  # fmt: skip


def table(folder: Path) -> Path:
    """Make the folder with the clip and its table, where it is not there."""
    if not folder.exists():
        folder.mkdir(parents=True)
        shutil.copy(TESTS / "fixtures" / "humanomni_tiny" / "clip.mp4", folder)
        shutil.copy(GOLDEN / "labels.csv", folder)
    return folder


def own(split: str) -> str:
    """The rows of a split, for the command line."""
    return (
        f"[{{name: own, root: ., split: {split}, options: {{file: labels.csv, label_set: dfew}}}}]"
    )


def fit_words(folder: Path, run: str, start: Path, split: str, *more: object) -> list[str]:
    """The words of a `fit` that writes to `folder` alone; `more` has the configuration."""
    words = [
        "fit", *more,
        "--trainer.default_root_dir", folder / run, "--model.init_args.init_from", start,
        "--trainer.enable_progress_bar", "false", "--trainer.log_every_n_steps", 1,
        "--data.root", table(folder / "data"), "--data.train", own(split), "--data.test", "[]",
        "--data.loader.decode_workers", 0, "--data.loader.cache_dir", folder / "cache",
        "--run.tracking_uri", f"sqlite:///{folder / 'mlflow.db'}",
    ]  # fmt: skip
    return [str(word) for word in words]


def machine() -> dict[str, str | int]:
    """What the bits of a sum depend on: processor, torch, and threads."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    kept = {
        name.strip(): " ".join(sorted(value.split()))
        for name, _, value in (line.partition(":") for line in lines)
        if name.strip() in ("model name", "flags", "Features")
    }
    processor = json.dumps(kept, sort_keys=True) or platform.processor()
    return {
        "architecture": platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "processor": hashlib.sha256(processor.encode()).hexdigest()[:12],
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
    }


@contextlib.contextmanager
def one_thread(folder: Path) -> Iterator[None]:
    """One thread, and `folder` as the working one, where MLflow puts artifacts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        torch.set_num_threads(threads)


def train(name: str, folder: Path) -> dict[str, Any]:
    """Run a training; trainings may share a folder that exists, once each.

    Returns:
        machine: what its bits depend on.
        steps: the figures of each rollout, or of each step of SFT, by name.
        completions: a hash for each time that completions were scored, in that order, over the
            samples' names, the texts with their special tokens, and their lengths in tokens.
        weights: hash and norm of the weights that were trained.
    """
    scored = folder / f"{name}.txt"
    more: list[object] = [*RUNS[name]]
    split = "other" if name == "sft" else "train"
    if split == "train":
        keeps = f"{{name: 'rewards_of_tests:kept', weight: 0, options: {{file: {scored}}}}}"
        more += [f"{_GRPO}.rewards", f"[{{name: accuracy}}, {{name: format}}, {keeps}]"]
    with one_thread(folder):
        status = main(fit_words(folder, name, START, split, *more))
        kind = machine()
    assert status == 0, f"the training {name} ended with status {status}"
    return {
        "machine": kind,
        "steps": _steps(folder / name / "metrics.jsonl"),
        "completions": scored.read_text().split() if scored.exists() else [],
        "weights": _weights(folder / name / "model" / "model.safetensors"),
    }


def _steps(metrics: Path) -> list[dict[str, float]]:
    by_step: dict[int, dict[str, float]] = {}
    for line in metrics.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        figures = by_step.setdefault(entry["step"], {"step": entry["step"]})
        figures |= {
            key: entry["metrics"][key]
            for key in ("loss", "grad_norm", "reward", "kl")
            if key in entry["metrics"]
        }
        rates = [v for key, v in entry["metrics"].items() if key.startswith("lr-")]
        if rates:
            figures["learning_rate"] = max(rates)
    return [by_step[step] for step in sorted(by_step)]


def _weights(file: Path) -> dict[str, Any]:
    before, after = load_file(START / file.name), load_file(file)
    digest, squares = hashlib.sha256(), 0.0
    for name in sorted(after):
        digest.update(name.encode() + after[name].contiguous().numpy().tobytes())
        squares += float((after[name].double() - before[name].double()).square().sum())
    return {"sha256": digest.hexdigest()[:12], "distance_from_start": math.sqrt(squares)}


def differences(recorded: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What a training has otherwise than its recording, one line each; none where they agree.

    On the kind of machine of the recording, every number has to be the same to the bit. Elsewhere
    a number may be apart by TOLERANCE of its size and TOLERANCE, and the bits of the weights are
    not compared. The completions have to be the same everywhere: a draw lies so near to the border
    between two tokens that rounding changes it about once in a million, so one that changes tells
    of something else.
    """
    same = recorded["machine"] == found["machine"]
    allowed = 0.0 if same else TOLERANCE
    said = []
    if len(recorded["steps"]) != len(found["steps"]):
        said.append(f"{len(found['steps'])} lines of figures, not {len(recorded['steps'])}")
    for old, new in zip(recorded["steps"], found["steps"], strict=False):
        if old.keys() != new.keys():
            said.append(f"step {old['step']:g}: figures {sorted(new)}, not {sorted(old)}")
            continue
        for key, value in old.items():
            if not _close(value, new[key], allowed):
                said.append(f"step {old['step']:g}: {key} is {new[key]!r}, not {value!r}")
    if recorded["completions"] != found["completions"]:
        pairs = zip(recorded["completions"], found["completions"], strict=False)
        at = next((i for i, (old, new) in enumerate(pairs) if old != new), "the end")
        said.append(f"other completions from scoring {at} on")
    old, new = recorded["weights"], found["weights"]
    if same and old["sha256"] != new["sha256"]:
        said.append("other bits of the trained weights")
    if not _close(old["distance_from_start"], new["distance_from_start"], allowed):
        said.append(
            f"weights moved by {new['distance_from_start']}, not {old['distance_from_start']}"
        )
    return said


def _close(old: float, new: float, allowed: float) -> bool:
    return abs(old - new) <= allowed * (1 + abs(old))


def environment() -> None:
    """What `conftest.py` sets for tests, for a script."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ["HF_HUB_OFFLINE"] = "1"
