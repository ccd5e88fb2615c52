"""Processes of `test_answer_log.py`: `test` that waits or counts, and one rank of two."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning as L

from r1omni.cli import main
from r1omni.data import DatasetSpec, EmotionDataModule
from r1omni.data.batch import Batch
from r1omni.data.loader_config import LoaderConfig
from r1omni.training import SFTModule
from r1omni.training.evaluated import EvaluatedModule


def held(words: list[str], hold_at: int, mark: Path) -> int:
    """`test` that makes the file `mark` and waits where its batch `hold_at` would be answered."""
    made, calls = EvaluatedModule._answered, 0

    def answered(self: EvaluatedModule, batch: Batch, *of: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == hold_at:
            mark.touch()
            time.sleep(600)
        return made(self, batch, *of)

    EvaluatedModule._answered = answered  # type: ignore[method-assign]
    return main(words)


def counted(words: list[str], file: Path) -> int:
    """`test` that adds the ids of samples that the model is asked about to a file, a line each."""
    made = EvaluatedModule._answered

    def answered(self: EvaluatedModule, batch: Batch, *of: Any) -> Any:
        with file.open("a") as lines:
            lines.writelines(f"{sample.sample_id}\n" for sample in batch.samples)
        return made(self, batch, *of)

    EvaluatedModule._answered = answered  # type: ignore[method-assign]
    return main(words)


def evaluate(
    mini_world: Path, run_dir: Path, spec: DatasetSpec, batch_size: int, num_ranks: int = 1,
    answer_mode: Any = "think", max_broken_ratio: float = 0.01,
) -> SFTModule:  # fmt: skip
    """`test` of the fresh model on two conditions."""
    module = SFTModule(str(mini_world / "init"), max_new_tokens=6)
    data = EmotionDataModule(
        root=str(mini_world / "world"), test=[spec], conditions=["full", "muted"],
        answer_mode=answer_mode,
        loader=LoaderConfig(
            eval_batch_size=batch_size, decode_workers=0, cache_dir=str(mini_world / "cache"),
            max_broken_ratio=max_broken_ratio,
        ),
    )  # fmt: skip
    options: dict[str, Any] = {"strategy": "ddp", "devices": num_ranks} if num_ranks > 1 else {}
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=run_dir, use_distributed_sampler=False,
        **options,
    )  # fmt: skip
    trainer.test(module, data)
    return module


def evaluate_on_two_ranks(mini_world: Path, run_dir: Path, spec: DatasetSpec) -> None:
    evaluate(mini_world, run_dir, spec, 2, 2)
