"""SIGTERM and Ctrl-C: save what was learned and leave, also in the middle of a rollout.

Weights and optimizer change in optimizer steps alone. Whatever was begun since the last one can be
thrown away: a checkpoint of the present weights, with the place in the data of the last boundary,
goes on as if the run had been stopped there. So a signal stops a training step at once, unless its
optimizer step has begun; then the step is finished first. Before a training, and in an evaluation,
nothing has to be saved.

Several ranks must agree where to stop: after sampling and scoring, which a rank that has seen the
signal gives up, and before the next batch.

SFTModule and GRPOModule bring this to any Trainer. Any checkpoint is then written with the place in
the data of the last boundary, whenever it is written and by whatever callback.
"""

from __future__ import annotations

import copy
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn

from r1omni.types import RunStopped, Terminated

T = TypeVar("T")
SIGNALS = (signal.SIGTERM, signal.SIGINT)
_FINISHING = b"r1omni: stopping after this optimizer step; Ctrl-C again ends at once, unsaved\n"
_AT_ONCE = b"\nr1omni: error: interrupted twice; nothing was saved\n"


class Termination(L.Callback):
    """Ends a fit, validate, test or predict on SIGTERM or Ctrl-C by `Terminated`.

    A callback that writes checkpoints may save the run in its `on_exception`. Signals are answered
    as before when the Trainer is done, and nothing is changed in threads other than the main one.

    Args:
        of_command: the process is a command. A second Ctrl-C ends it at once, and messages say how
            to resume. Otherwise a second one is Python's KeyboardInterrupt.
    """

    def __init__(self, of_command: bool = False) -> None:
        self._of_command = of_command
        # What was there before, and the Trainer at work; None between its commands.
        self._previous: dict[int, Any] = {}
        self._trainer: L.Trainer | None = None
        self._begin()

    def _begin(self) -> None:
        self._signum: int | None = None
        self._num_interrupts = 0
        self._may_stop = True
        self._boundary_step = 0
        self._boundary: dict[str, Any] | None = None

    # The signal -----------------------------------------------------------------------------

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        boundary = self._boundary_step, self._boundary
        self._begin()
        if trainer.state.fn != TrainerFn.FITTING:  # a checkpoint may still be written of the fit
            self._boundary_step, self._boundary = boundary
        for signum in SIGNALS:
            handler = signal.getsignal(signum)
            if handler != self._answer:
                self._previous[signum] = handler
        self._trainer = trainer
        self._listen()

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._listen()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._listen()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._listen()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._listen()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._may_stop = False
        self._boundary_step = trainer.global_step
        self._listen()

    def _listen(self) -> None:
        # Over Lightning's, which stops at the end of an epoch only, and takes itself away at the
        # end; it comes back at several places.
        if threading.current_thread() is threading.main_thread():  # no other may
            for signum in SIGNALS:
                signal.signal(signum, self._answer)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._leave()

    def _leave(self) -> None:
        """Give the signals back."""
        self._trainer = None
        if threading.current_thread() is threading.main_thread():
            for signum, previous in self._previous.items():
                signal.signal(signum, signal.SIG_DFL if previous is None else previous)

    def _answer(self, signum: int, frame: FrameType | None) -> None:
        trainer = self._trainer
        if trainer is None or trainer.state.stage is None:
            # Done: Lightning calls no hook after an exception, or puts this back.
            self._pass_on(signum, frame)
            return
        self._num_interrupts += signum == signal.SIGINT
        if self._num_interrupts > 1:
            if self._of_command:
                os.write(2, _AT_ONCE)
                os._exit(128 + signum)
            self._trainer = None
            self._pass_on(signum, frame)
            return
        is_first = self._signum is None
        if is_first:
            self._signum = signum
            # Processes that this one has started do not see its SIGTERM. A terminal's Ctrl-C
            # they do see, and a second one would end them unsaved.
            launcher = trainer.strategy.launcher
            if launcher is not None:
                launcher.kill(signal.SIGTERM)
        if self._may_stop:
            self._may_stop = False
            raise self._reason(trainer)
        if is_first and trainer.is_global_zero:
            os.write(2, _FINISHING)

    def _pass_on(self, signum: int, frame: FrameType | None) -> None:
        """Do what was done on the signal before."""
        previous = self._previous[signum]
        if callable(previous):
            previous(signum, frame)
        elif previous != signal.SIG_IGN:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)

    def _reason(self, trainer: L.Trainer) -> Terminated:
        # Ranks may stop for a signal that another one has seen.
        signum = self._signum or signal.SIGTERM
        word = "interrupted" if signum == signal.SIGINT else "terminated"
        if trainer.state.fn != TrainerFn.FITTING or trainer.checkpoint_callback is None:
            place = ""
        elif trainer.global_step:
            place = f" at step {trainer.global_step}"
            if self._of_command:
                place += "; resume with --ckpt_path last"
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

    def give_up_together(self, work: Callable[[], T]) -> T:
        """Work that needs no other rank, unless one of them is told to stop before all are done.

        A rank whose work cannot go on (`RunStopped`) stops all of them, too. All ranks call this
        together; one process alone is stopped by the signal itself.
        """
        trainer = self._trainer
        if trainer is None or trainer.world_size == 1:
            try:
                return work()
            except RunStopped as error:
                raise RunStopped(f"{error}{self._how_to_resume(trainer)}") from error
        result: Any = None
        stopped: RunStopped | None = None
        try:
            self._may_stop = True
            if self._signum is not None:
                raise self._reason(trainer)
            result = work()
            self._may_stop = False
        except Terminated:
            self._may_stop = False
        except RunStopped as error:
            self._may_stop = False
            stopped = error
        self._stop_if_requested(trainer)
        if trainer.strategy.reduce_boolean_decision(stopped is not None, all=False):
            line = stopped or "another rank cannot go on, and says why"
            raise RunStopped(f"{line}{self._how_to_resume(trainer)}") from stopped
        own: T = result  # there is one, or a line above has raised
        return own

    def _how_to_resume(self, trainer: L.Trainer | None) -> str:
        if trainer is None or not self._of_command or trainer.checkpoint_callback is None:
            return ""
        if not trainer.global_step:
            return " (before the first step)"
        return f" (at step {trainer.global_step}; resume with --ckpt_path last)"

    # Saving ---------------------------------------------------------------------------------

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        if isinstance(exception, KeyboardInterrupt):
            self._trainer = None  # Lightning ends by it, and leaves its state as it is

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # Another callback may save a step before this one has seen its end.
        if self._boundary is not None and trainer.global_step == self._boundary_step:
            checkpoint["loops"]["fit_loop"] = self._boundary

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.training:
            self._boundary = copy.deepcopy(checkpoint["loops"]["fit_loop"])
