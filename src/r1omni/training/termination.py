"""SIGTERM and Ctrl-C: save what was learned and leave, also in the middle of a rollout.

Weights and optimizer change in optimizer steps alone. Whatever was begun since the last one can be
thrown away: a checkpoint of the present weights, with the place in the data of the last boundary,
goes on as if the run had been stopped there. So a signal stops a training step at once, unless its
optimizer step has begun; then the step is finished first. Before a training, and in an evaluation,
nothing has to be saved.

Several ranks must agree where to stop: after sampling and scoring, which a rank that has seen the
signal gives up, and before the next batch.
"""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import lightning as L

from r1omni.training.callbacks import RunCheckpoint
from r1omni.training.module import EmotionModule
from r1omni.types import Terminated

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_FINISHING = b"r1omni: stopping after this optimizer step; Ctrl-C again ends at once, unsaved\n"
_AT_ONCE = b"\nr1omni: error: interrupted twice; nothing was saved\n"


class Termination(L.Callback):
    """Ends a command on SIGTERM or Ctrl-C by `Terminated`, the last state of a training saved.

    A second Ctrl-C ends the process at once.

    Args:
        checkpoint: writes the state; None where there is nothing to save.
    """

    def __init__(self, checkpoint: RunCheckpoint | None) -> None:
        self._checkpoint = checkpoint
        self._signum: int | None = None
        self._num_interrupts = 0
        self._may_stop = True
        self._boundary_step = 0
        self._boundary: dict[str, Any] | None = None

    # The signal -----------------------------------------------------------------------------

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._listen(trainer)

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._listen(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._listen(trainer)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._listen(trainer)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._listen(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._may_stop = False
        self._boundary_step = trainer.global_step
        if trainer.world_size > 1:
            assert isinstance(pl_module, EmotionModule)
            pl_module.stoppable = partial(self._give_up_together, trainer)
        self._listen(trainer)

    def _listen(self, trainer: L.Trainer) -> None:
        launcher = trainer.strategy.launcher

        def stop(signum: int, frame: FrameType | None) -> None:
            self._num_interrupts += signum == signal.SIGINT
            if self._num_interrupts > 1:
                os.write(2, _AT_ONCE)
                os._exit(128 + signum)
            is_first = self._signum is None
            if is_first:
                self._signum = signum
                # Processes that this one has started do not see its SIGTERM. A terminal's Ctrl-C
                # they do see, and a second one would end them unsaved.
                if launcher is not None:
                    launcher.kill(signal.SIGTERM)
            if self._may_stop:
                self._may_stop = False
                raise self._reason(trainer)
            if is_first and trainer.is_global_zero:
                os.write(2, _FINISHING)

        # Over Lightning's, which stops at the end of an epoch only, and takes itself away at the
        # end; it comes back at several places.
        for signum in SIGNALS:
            signal.signal(signum, stop)

    def _reason(self, trainer: L.Trainer) -> Terminated:
        # Ranks may stop for a signal that another one has seen.
        signum = self._signum or signal.SIGTERM
        word = "interrupted" if signum == signal.SIGINT else "terminated"
        if self._checkpoint is None:
            place = ""
        elif trainer.global_step:
            place = f" at step {trainer.global_step}; resume with --ckpt_path last"
        else:
            place = " before the first step"
        return Terminated(word + place, signum)

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
        if trainer.strategy.reduce_boolean_decision(self._signum is not None, all=False):
            raise self._reason(trainer)

    def _give_up_together(self, trainer: L.Trainer, work: Callable[[], Any]) -> Any:
        """Work that needs no other rank, unless one of them is told to stop before all are done."""
        result = None
        try:
            self._may_stop = True
            if self._signum is not None:
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
        if isinstance(exception, Terminated) and self._checkpoint and self._boundary is not None:
            self._checkpoint.save_newer(trainer)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._boundary is not None:
            checkpoint["loops"]["fit_loop"] = self._boundary

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.training:
            self._boundary = copy.deepcopy(checkpoint["loops"]["fit_loop"])
