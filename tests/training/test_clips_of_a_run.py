"""What a run makes of its clips: features in every stage, their key, warnings in its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from compared import position
from lightning.pytorch.trainer.states import TrainerFn
from small_training import fit
from torch import nn

from r1omni.data import DatasetSpec, EmotionDataModule
from r1omni.data.batch import Batch
from r1omni.data.loader_config import LoaderConfig
from r1omni.training import OptimizerConfig, SFTModule
from r1omni.types import ClipFeatures, ClipMedia, Modality, UsageError


class Watched(SFTModule):
    """Notes what batches carry, and how many clips go through each tower."""

    def __init__(self, init_from: str, **options: Any) -> None:
        super().__init__(
            init_from,
            optimizer=OptimizerConfig(schedule="constant", warmup_ratio=0.0),
            max_new_tokens=2,
            **options,
        )
        self.carried: set[type] = set()
        self.seen = {"vision_tower": 0, "audio_tower": 0}
        for name in self.seen:
            getattr(self.model, name).register_forward_pre_hook(self._noting(name))

    def _noting(self, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def note(tower: nn.Module, inputs: tuple[Any, ...]) -> None:
            self.seen[name] += 1

        return note

    def _evaluate(self, batch: Batch, dataloader_idx: int) -> list[str]:
        self.carried |= {type(media) for media in batch.media}
        return super()._evaluate(batch, dataloader_idx)

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.carried |= {type(media) for media in batch.media}
        return super().training_step(batch, batch_idx)


def mafw(modality: Modality = "video_audio") -> DatasetSpec:
    return DatasetSpec("mafw", "MAFW", sampling="first:4", modality=modality, options={"fold": 1})


def run(
    mini_world: Path,
    run_dir: Path,
    stage: str,
    spec: DatasetSpec | None = None,
    conditions: list[str] | None = None,
    **options: Any,
) -> Watched:
    """One stage over four clips; a fit validates before and after its step."""
    module = Watched(str(mini_world / "init"), **options)
    sets = [spec or mafw()]
    splits = {stage: sets}
    if stage == "fit":
        splits = {"train": sets, "val": [replace(sets[0], sampling="end:4")]}
    elif stage == "validate":
        splits = {"val": sets}
    cache = str(mini_world / "cache")
    data = EmotionDataModule(
        root=str(mini_world / "world"),
        conditions=conditions,
        loader=LoaderConfig(batch_size=2, decode_workers=0, cache_dir=cache),
        **splits,  # type: ignore[arg-type]
    )
    trainer = L.Trainer(
        max_steps=1, limit_train_batches=1, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=run_dir, use_distributed_sampler=False,
    )  # fmt: skip
    getattr(trainer, stage)(module, data)
    return module


@pytest.mark.parametrize("stage", [fn.value for fn in TrainerFn])
def test_every_stage_runs_each_tower_once_a_clip(
    mini_world: Path, tmp_path: Path, stage: str
) -> None:
    assert run(mini_world, tmp_path, stage, mafw("audio")).seen["vision_tower"] == 0
    first = run(mini_world, tmp_path, stage)
    again = run(mini_world, tmp_path, stage)
    for module in (first, again):
        assert module.carried == {ClipFeatures}
    # What stands for a medium that a condition takes away is encoded by every run.
    assert again.seen == {"vision_tower": 1, "audio_tower": 1}


def test_towers_that_are_trained_see_the_clips(mini_world: Path, tmp_path: Path) -> None:
    module = run(mini_world, tmp_path, "fit", trainable=["vision_tower", "projectors"])
    assert module.carried == {ClipMedia}


@pytest.mark.parametrize("stage", ["test", "predict"])
def test_warnings_are_kept_beside_the_answers(mini_world: Path, tmp_path: Path, stage: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "media"))
        from clips import write_clip
    folder = tmp_path / "own"
    write_clip(folder / "whole.mp4")
    write_clip(folder / "still.mp4", sound=False)
    write_clip(folder / "short.mp4", num_frames=3)
    rows = "".join(f"{name}.mp4,happy\n" for name in ("whole", "still", "short"))
    (folder / "labels.csv").write_text("path,label\n" + rows, encoding="utf-8")
    conditions = ["full", "muted"] if stage == "test" else None
    spec = DatasetSpec("own", str(folder), split="all")
    run(mini_world, tmp_path / "run", stage, spec, conditions)
    silent, black = "no audio track: silence is used", "black frames fill up"

    def told(condition: str) -> dict[str, list[str]]:
        file = tmp_path / "run" / stage / "predictions" / f"own.{condition}.jsonl"
        records = map(json.loads, file.read_text(encoding="utf-8").splitlines())
        return {Path(record["path"]).stem: record["warnings"] for record in records}

    found = told("full")
    assert found["whole"] == [] and found["still"] == [silent]
    [warning] = found["short"]
    assert warning.endswith(black) and "the clip has 3 of" in warning
    results = json.loads((tmp_path / "run" / stage / "results.json").read_text("utf-8"))
    kind = f"the clip has N of N frames: {black}"
    assert results["warnings"]["own"]["full"] == {silent: 1, kind: 1}
    if stage == "test":
        assert told("muted") == {**found, "still": []}
        assert results["warnings"]["own"]["muted"] == {kind: 1}


def test_a_place_in_other_data_is_no_place_to_resume(mini_world: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "step.ckpt"
    fit(mini_world, tmp_path, None, batch_size=2).trainer.save_checkpoint(checkpoint)
    with pytest.raises(UsageError, match=r"batch_size is 4 .* with 2 samples in a batch of all"):
        fit(mini_world, tmp_path, None, steps=2, batch_size=4, ckpt_path=checkpoint)
    saved = torch.load(checkpoint, weights_only=True)
    assert position(saved) == {"epoch": 0, "offset": 1, "seed": 0}
    goes_on = fit(mini_world, tmp_path, None, steps=2, batch_size=2, ckpt_path=checkpoint)
    assert goes_on.global_step == 2
