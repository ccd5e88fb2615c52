"""How the files in `tests/fixtures/v*/` were made, and what is computed from them again.

`scripts/record_artefacts.py` records them once for a version; `tests/test_artefacts.py` reads them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from golden_runs import CONFIGS, TESTS, one_thread, own, table
from processes import ranks
from r1omni.cli import main
from r1omni.models import R1Omni

_SFT = ("--config", CONFIGS / "mini" / "emer_sft.yaml", "--data.loader.batch_size", 2)
_GRPO = ("--config", CONFIGS / "mini" / "r1omni.yaml", "--data.loader.batch_size", 2,
         "--model.init_args.grpo.group_size", 4, "--model.init_args.grpo.max_new_tokens", 32,
         "--model.init_args.grpo.log_completions_every", 0)  # fmt: skip
# What is trained is kept small, but for the first: a checkpoint is three times that.
_FEW = ("--model.init_args.trainable", "[language_model]")
RUNS: dict[str, tuple[object, ...]] = {
    "sft": _SFT,
    "grpo": (*_GRPO, *_FEW, "--model.init_args.grpo.ref_sync_steps", 1),
    "grpo_lora": (*_GRPO, "--config", CONFIGS / "overlay" / "lora.yaml",
                  "--model.init_args.lora.rank", 2),
    "sharded": (*_SFT, "--config", CONFIGS / "overlay" / "fsdp.yaml", *_FEW,
                "--trainer.strategy.init_args.sharding.param_dtype", "float32",
                "--trainer.accelerator", "cpu", "--trainer.devices", 2,
                "--data.loader.batch_size", 1),
}  # fmt: skip
# Steps that a recorded run had made, and that it makes in all when it goes on.
CUT, END = 2, 4


def command(name: str, run: str, folder: Path, start: Path, *words: object) -> None:
    """Run a command of the trainer in `folder`, whose run folder is `run`.

    Args:
        name: fit, test or predict.
        run: one of RUNS, which says how many ranks there are.
        folder: where everything is written.
        start: model folder.
        words: the configuration, and more.

    Raises:
        RuntimeError: it failed.
        AssertionError: a rank of it failed.
    """
    train = own("train") if name == "fit" else "[]"
    line = [
        name, *words,
        "--trainer.default_root_dir", folder / run, "--model.init_args.init_from", start,
        "--trainer.enable_progress_bar", "false", "--trainer.log_every_n_steps", 1,
        "--data.root", table(folder / "data"), "--data.train", train,
        "--data.loader.decode_workers", 0, "--data.loader.cache_dir", folder / "cache",
        "--run.tracking_uri", f"sqlite:///{folder / 'mlflow.db'}",
    ]  # fmt: skip
    words = tuple(map(str, line))
    if run != "sharded":
        with one_thread(folder):
            if main(list(words)) != 0:
                raise RuntimeError(f"{name} in {run} failed")
        return
    ranks(2, main, list(words), cwd=folder)


def go_on(version: Path, run: str, folder: Path) -> list[dict[str, float]]:
    """Go on from a recorded checkpoint, in a copy, with the configuration recorded beside it.

    Returns:
        loss and norm of the gradient of each step up to END, the recorded ones included.
    """
    shutil.copytree(version / run, folder / run)
    config = folder / run / "config_fit.yaml"
    more = ("--trainer.max_steps", END, "--ckpt_path", "last")
    command("fit", run, folder, version / "model", "--config", config, *more)
    lines = (folder / run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    return [
        {key: entry["metrics"][key] for key in ("loss", "grad_norm")}
        for entry in entries
        if "loss" in entry["metrics"]
    ]


def answers(model: Path) -> dict[str, Any]:
    """What a model folder says of the clip: greedy tokens, and logits at the prompt's end."""
    omni = R1Omni.from_pretrained(model)
    clip = TESTS / "fixtures" / "humanomni_tiny" / "clip.mp4"
    inputs = omni.prepare(clip)
    return {
        "token_ids": omni.generate(inputs, max_new_tokens=32)[0].tolist(),
        "logits": omni.logits(inputs)[0, -1].tolist(),
    }
