"""Checkpoints, the exported folder, the configuration in the tracking store, the progress bar."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint, TQDMProgressBar
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only

from r1omni.metrics.paired import MODE_FIGURES
from r1omni.models.saving import save_model
from r1omni.training.checkpoints import (
    CHECKPOINTS,
    MODEL,
    RUN,
    newest_checkpoint,
    saved_checkpoints,
)
from r1omni.training.evaluation import EXPLANATION_FIGURES, FIGURES
from r1omni.training.export import export_checkpoint
from r1omni.training.grpo import GRPOModule
from r1omni.training.logger import KeepBest, TrackingLogger
from r1omni.training.module import EmotionModule
from r1omni.training.sharded import FSDP2Strategy
from r1omni.training.stages import with_data_sets
from r1omni.types import R1OmniError, RunStopped, Terminated

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
    """Writes `<run>/checkpoints/step_NNNNNN.ckpt` every few steps, at the end, and when stopped.

    A checkpoint is written under another name, brought to the disk, and renamed when it is whole;
    older ones go only then.

    Args:
        every: optimizer steps between checkpoints.
        keep: how many of the newest stay.
        keep_best: the figure of validation whose best step has a checkpoint that stays too.
        settings: the run's configuration (`resume.flat_settings`), recorded in each checkpoint.
    """

    def __init__(
        self,
        every: int,
        keep: int,
        keep_best: KeepBest | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.every = every
        self.keep = keep
        self._keep_best = keep_best
        self._settings = dict(settings or {})
        self._last_step = self._last_seen = 0
        self._best: dict[str, Any] | None = None
        # Lightning would leave out a validation that was due when a run was stopped.
        self._lacks_validation = False

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._keep_best is not None:
            assert isinstance(pl_module, EmotionModule)
            data = pl_module.datamodule
            sets = data.evaluation_sets("val") if trainer.limit_val_batches else ()
            figures = (*FIGURES, *EXPLANATION_FIGURES, *MODE_FIGURES[data.answer_mode])
            known = [f"val/{entry.name}/{figure}" for entry in sets for figure in figures]
            # Figures of other names may be logged by callbacks.
            metric = self._keep_best.metric
            if metric not in known and (metric.startswith("val/") or not known):
                raise self._keep_best.unknown(known)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_step = self._last_seen = trainer.global_step
        if self._lacks_validation:
            validation = trainer.fit_loop.epoch_loop.val_loop
            validation.restarting = False
            trainer.validating = True
            validation.run()
            trainer.training = True

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.global_step == self._last_seen:
            return
        self._last_seen = trainer.global_step
        self._lacks_validation = validation_follows(trainer)
        # The last step is validated first: a run that has no steps left does no more.
        is_last = self._lacks_validation and trainer.global_step >= trainer.max_steps
        if trainer.global_step >= self._last_step + self.every and not is_last:
            self._save(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self._lacks_validation = False
        # Weights of step 0 are those of the start, which is there already.
        if self._keep_best is not None and trainer.global_step and self._improves(trainer):
            self._save(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.save_newer(trainer)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        if isinstance(exception, Terminated | RunStopped) and (
            trainer.state.fn == TrainerFn.FITTING
        ):
            self.save_newer(trainer)

    def save_newer(self, trainer: L.Trainer) -> None:
        """Save unless the last checkpoint is of this step."""
        if trainer.global_step > self._last_step:
            self._save(trainer)

    def _improves(self, trainer: L.Trainer) -> bool:
        """Look at the figure, and note it with its step where it is the best so far."""
        wanted = self._keep_best
        assert wanted is not None
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        # Rank 0 alone is sure to have it.
        value = trainer.strategy.broadcast(figures.get(wanted.metric))
        if value is None:
            self.save_newer(trainer)
            raise wanted.unknown([name for name in figures if name.startswith("val/")])
        best = None if self._best is None else self._best["value"]
        if math.isnan(value) or (best is not None and not wanted.is_better(value, best)):
            return False
        self._best = {
            "metric": wanted.metric, "mode": wanted.mode, "value": value,
            "step": trainer.global_step,
        }  # fmt: skip
        return True

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[RUN] = {
            "settings": self._settings,
            "best": self._best,
            "lacks_validation": self._lacks_validation,
        }

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._last_step = checkpoint["global_step"]
        recorded = checkpoint.get(RUN, {})
        self._lacks_validation = recorded.get("lacks_validation", False)
        best = recorded.get("best")
        wanted = self._keep_best
        # Values of another figure cannot be compared.
        if best and wanted and (best["metric"], best["mode"]) == (wanted.metric, wanted.mode):
            self._best = best

    def _save(self, trainer: L.Trainer) -> None:
        run_dir = Path(trainer.default_root_dir)
        folder = run_dir / CHECKPOINTS
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
            raise R1OmniError(_unwritten(path, run_dir, error)) from error
        self._last_step = trainer.global_step
        if trainer.is_global_zero:
            best = None if self._best is None else self._best["step"]
            saved = saved_checkpoints(run_dir)
            for step, old in list(saved.items())[: -self.keep]:
                if step != best:
                    remove(old)


def validation_follows(trainer: L.Trainer) -> bool:
    """Whether Lightning validates after the training batch that has just been done."""
    loop = trainer.fit_loop
    samples = trainer.datamodule.samples  # type: ignore[attr-defined]
    assert loop._data_fetcher is not None
    return any(samples.get("val", ())) and loop.epoch_loop._should_check_val_fx(loop._data_fetcher)


def _unwritten(path: Path, run_dir: Path, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    if shutil.disk_usage(run_dir).free < _LITTLE_SPACE:
        reason = "the disk is full"
    kept = newest_checkpoint(run_dir)
    left = f"{kept.name} is whole" if kept else "there is no earlier one"
    remedy = (
        "Free space" if isinstance(error, OSError) or reason == "the disk is full" else "Mend it"
    )
    return f"{path} cannot be written ({reason}); {left}. {remedy} and use --ckpt_path last"


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
            model = pl_module.model
            model.config = with_data_sets(model.config, run_dir)
            save_model(model, pl_module.omni.folder, run_dir / MODEL)


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
    for spec in [*data.specs["train"], *data.specs["expert"]]:
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
            "rewards": ", ".join(
                f"{spec.weight:g} {spec.name}{' on a schedule' if spec.schedule else ''}"
                for spec in grpo.rewards
            ),
            "group_size": grpo.group_size,
            "loss_type": grpo.loss.loss_type,
            "beta": grpo.loss.beta,
            "temperature": grpo.temperature,
            "max_new_tokens": grpo.max_new_tokens,
            "sampling_seed": grpo.seed,
        }
    return parameters


class StepProgressBar(TQDMProgressBar):
    """Counts training in optimizer steps up to `max_steps`.

    Lightning counts batches of an epoch; sixty explained clips are an epoch of four batches, and a
    bar that starts over every two seconds does not say how long the run takes.
    """

    def on_train_start(self, *arguments: Any) -> None:
        super().on_train_start(*arguments)
        bar, trainer = self.train_progress_bar, self.trainer
        bar.reset(total=trainer.max_steps)
        bar.initial = bar.n = trainer.global_step  # a resumed run starts where it stopped
        bar.set_description("training")

    def on_train_epoch_start(self, trainer: L.Trainer, *arguments: Any) -> None:
        """Go on with the same bar."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *arguments: Any
    ) -> None:
        bar = self.train_progress_bar
        bar.n = trainer.global_step
        bar.set_postfix(self.get_metrics(trainer, pl_module))

    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)  # the tail of MLflow's run id
        return metrics
