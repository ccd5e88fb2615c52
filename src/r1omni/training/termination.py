"""SIGTERM: save what was learned and leave with status 143, also in the middle of a rollout.

Weights and optimizer change in optimizer steps alone. Whatever was begun since the last one can be
thrown away: a checkpoint of the present weights, with the place in the data of the last boundary,
goes on as if the run had been stopped there. So a signal stops a training step at once, unless its
optimizer step has begun; then the step is finished first.

Several ranks must agree where to stop: after sampling and scoring, which a rank that has seen the
signal gives up, and before the next batch.
"""

from __future__ import annotations

import copy
import signal
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import lightning as L

from r1omni.training.callbacks import RunCheckpoint
from r1omni.training.module import EmotionModule
from r1omni.types import Terminated


class Termination(L.Callback):
    """Ends a training on SIGTERM by `Terminated`, its last state saved.

    Args:
        checkpoint: writes the state.
    """

    def __init__(self, checkpoint: RunCheckpoint) -> None:
        self._checkpoint = checkpoint
        self._requested = False
        self._may_stop = False
        self._boundary_step = 0
        self._boundary: dict[str, Any] | None = None

    # The signal -----------------------------------------------------------------------------

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._boundary_step = trainer.global_step
        launcher = trainer.strategy.launcher
        if trainer.world_size > 1:
            assert isinstance(pl_module, EmotionModule)
            pl_module.stoppable = partial(self._give_up_together, trainer)

        def terminate(signum: int, frame: FrameType | None) -> None:
            # Processes that this one has started do not see its signal.
            if launcher is not None and not self._requested:
                launcher.kill(signum)
            self._requested = True
            if self._may_stop:
                self._may_stop = False
                raise self._reason(trainer)

        # Over Lightning's, which stops at the end of an epoch only, and takes itself away at the
        # end.
        signal.signal(signal.SIGTERM, terminate)

    def _reason(self, trainer: L.Trainer) -> Terminated:
        return Terminated(
            f"terminated at step {trainer.global_step}; go on with --ckpt_path last"
            if trainer.global_step
            else "terminated before the first step"
        )

    # Where a step may be thrown away --------------------------------------------------------

    def on_train_batch_start(self, trainer: L.Trainer, *arguments: Any) -> None:
        self._stop_if_requested(trainer)
        self._may_stop = trainer.world_size == 1

    def on_before_optimizer_step(self, *arguments: Any) -> None:
        self._may_stop = False

    def on_train_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        self._may_stop = False
        if trainer.global_step != self._boundary_step:
            self._boundary_step = trainer.global_step
            self._boundary = copy.deepcopy(trainer.fit_loop.state_dict())

    def on_validation_batch_start(self, trainer: L.Trainer, *arguments: Any) -> None:
        self._stop_if_requested(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop_if_requested(trainer)

    def _stop_if_requested(self, trainer: L.Trainer) -> None:
        # One rank may have seen the signal before another.
        if trainer.strategy.reduce_boolean_decision(self._requested, all=False):
            raise self._reason(trainer)

    def _give_up_together(self, trainer: L.Trainer, work: Callable[[], Any]) -> Any:
        """Work that needs no other rank, unless one of them is told to stop before all are done."""
        result = None
        try:
            self._may_stop = True
            if self._requested:
                raise self._reason(trainer)
            result = work()
            self._may_stop = False
        except Terminated:
            self._may_stop = False
        self._stop_if_requested(trainer)
        return result

    # Saving ---------------------------------------------------------------------------------

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        if isinstance(exception, Terminated) and self._boundary is not None:
            self._checkpoint.save_newer(trainer)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._requested and self._boundary is not None:
            checkpoint["loops"]["fit_loop"] = self._boundary
