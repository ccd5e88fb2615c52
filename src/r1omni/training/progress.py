"""A progress bar in optimizer steps."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar


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
