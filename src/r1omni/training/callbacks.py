"""Checkpoints, the exported model folder, and the configuration in the tracking store."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only

from r1omni.models.saving import save_model
from r1omni.training.checkpoints import CHECKPOINTS, MODEL, export_checkpoint
from r1omni.training.grpo import GRPOModule
from r1omni.training.logger import TrackingLogger
from r1omni.training.module import EmotionModule
from r1omni.training.sharded import FSDP2Strategy
from r1omni.types import R1OmniError

# Bytes; with less, a failed write needs no other explanation.
_LITTLE_SPACE = 2**20


class DirectIO(TorchCheckpointIO):
    """Writes a checkpoint where it shall be.

    Lightning's own first makes a copy of it in memory and another among the system's temporary
    files, which a process that is killed leaves behind.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint, path)


class RunCheckpoint(Checkpoint):
    """Writes `<run>/checkpoints/step_NNNNNN.ckpt` every few steps and at the end.

    A checkpoint is written under another name, brought to the disk, and renamed when it is whole;
    older ones go only then.

    Args:
        every: optimizer steps between checkpoints.
        keep: how many of the newest stay.
    """

    def __init__(self, every: int, keep: int) -> None:
        self.every = every
        self.keep = keep
        self._last_step = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.global_step >= self._last_step + self.every:
            self._save(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.save_newer(trainer)

    def save_newer(self, trainer: L.Trainer) -> None:
        """Save unless the last checkpoint is of this step."""
        if trainer.global_step > self._last_step:
            self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        folder = Path(trainer.default_root_dir) / CHECKPOINTS
        path = folder / f"step_{trainer.global_step:06d}.ckpt"
        partial = path.with_suffix(".partial")
        if trainer.is_global_zero:
            remove(partial)  # of a run that was killed
        try:
            trainer.save_checkpoint(partial, weights_only=False)  # with the optimizer
            if trainer.is_global_zero:
                for written in (*partial.glob("*"), partial):  # a folder, where it is in shares
                    sync_to_disk(written)
                if path.is_dir():  # a file would be replaced; a folder has to make room
                    remove(path)
                os.replace(partial, path)
                sync_to_disk(folder)
        except (OSError, RuntimeError) as error:  # torch has no type of its own for a full disk
            remove(partial)
            raise R1OmniError(_unwritten(path, folder, error)) from error
        self._last_step = trainer.global_step
        if trainer.is_global_zero:
            for old in sorted(folder.glob("step_*.ckpt"))[: -self.keep]:
                remove(old)


def _unwritten(path: Path, folder: Path, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    if shutil.disk_usage(folder if folder.exists() else folder.parent).free < _LITTLE_SPACE:
        reason = "the disk is full"
    kept = max(folder.glob("step_*.ckpt"), default=None)
    left = f"{kept.name} is whole" if kept else "there is no earlier one"
    return f"{path} cannot be written ({reason}); {left}. Free space and use --ckpt_path last"


def remove(checkpoint: Path) -> None:
    """Delete a checkpoint, a file or a folder, if it is there."""
    if checkpoint.is_dir():
        shutil.rmtree(checkpoint)
    else:
        checkpoint.unlink(missing_ok=True)


def sync_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, would outlast a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class ExportModel(L.Callback):
    """Writes the trained model as the folder `<run>/model`, where the next stage starts."""

    # Not at the end of training: a run that was killed between its last checkpoint and this has no
    # step left to train when it is resumed.
    @rank_zero_only
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EmotionModule)
        run_dir = Path(trainer.default_root_dir)
        if isinstance(trainer.strategy, FSDP2Strategy):  # no rank has the model
            export_checkpoint(run_dir, run_dir / MODEL, pl_module.init_from)
        else:
            save_model(pl_module.model, pl_module.omni.folder, run_dir / MODEL)


class LogConfig(SaveConfigCallback):
    """Logs the whole configuration as text and keeps a copy in the run's folder."""

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        text = self.parser.dump(self.config, skip_none=False)
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"config_{getattr(stage, 'value', stage)}.yaml"  # Lightning hands in an enumeration
        (folder / name).write_text(text, encoding="utf-8")
        for logger in trainer.loggers:
            if isinstance(logger, TrackingLogger):
                logger.start(training=name == "config_fit.yaml")
                logger.log_text(text, name)
                if name == "config_fit.yaml":
                    assert isinstance(pl_module, EmotionModule)
                    logger.log_parameters(compared_parameters(trainer, pl_module))


def compared_parameters(trainer: L.Trainer, module: EmotionModule) -> dict[str, object]:
    """The few settings that a person compares runs by, flat; the whole configuration is a text."""
    data, rates = module.datamodule, module.optimizer_config
    sets = []
    for spec in data.specs["train"]:
        options = [f"{name}={value}" for name, value in spec.options.items()]
        part = [] if spec.sampling == "all" else [spec.sampling]
        sets.append(" ".join([spec.name, spec.split, *options, *part]))
    parameters: dict[str, object] = {
        "model": module.init_from,
        "stage": type(module).__name__.removesuffix("Module"),
        "train": ", ".join(sets),
        "trained": module.chosen_parts,
        "learning_rate": rates.learning_rate,
        "schedule": rates.schedule,
        "batch_size": data.loader.batch_size * trainer.world_size * trainer.accumulate_grad_batches,
        "max_steps": trainer.max_steps,
        "precision": trainer.precision,
        "seed": data.loader.seed,
    }
    if isinstance(module, GRPOModule):
        grpo = module.grpo
        parameters |= {
            "rewards": ", ".join(f"{spec.weight:g} {spec.name}" for spec in grpo.rewards),
            "group_size": grpo.group_size,
            "loss_type": grpo.loss.loss_type,
            "beta": grpo.loss.beta,
            "temperature": grpo.temperature,
            "max_new_tokens": grpo.max_new_tokens,
            "sampling_seed": grpo.seed,
        }
    return parameters
