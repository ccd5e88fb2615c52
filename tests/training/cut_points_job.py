"""What `test_cut_points.py` starts once: trainings that are cut at chosen points and resumed.

Each kind of training has a process and a working directory of its own, which gets `whole`, `cut`,
`mlflow.db` and `cuts.json`. Every start and every resume is one `r1omni fit ...` in a fork of that
process, which pays for the imports once. No tensor is touched before the forks, so there are no
threads to lose.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L

# Imported before the forks, each of which would otherwise do it for itself.
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
import peft  # noqa: F401

from r1omni.cli import main as r1omni_main
from r1omni.training import GRPOModule, SFTModule, lightning_cli  # noqa: F401

CONFIGS = Path(__file__).parents[2] / "configs"


class Cut(L.Callback):
    """Sends the process a signal at one place of the training.

    Args:
        hook: the place, a hook of Lightning's callbacks. These run before r1omni's own callbacks:
            at `on_train_batch_end` the checkpoint of that step is not yet written.
        step: optimizer steps done at the place.
        nth: which call of the hook at that step.
        by: name of the signal.
    """

    def __init__(self, hook: str, step: int, nth: int, by: str) -> None:
        self._step, self._calls_left, self._by = step, nth, by
        setattr(self, hook, self._pass)

    def _pass(self, trainer: L.Trainer, *arguments: Any, **named: Any) -> None:
        if trainer.global_step == self._step:
            self._calls_left -= 1
            if self._calls_left == 0:
                os.kill(os.getpid(), getattr(signal, self._by))


@dataclass(frozen=True)
class CutRun:
    """A training, and where it is cut, one cut a process.

    Attributes:
        arguments: of `fit`, beside those that all trainings share.
        steps: optimizer steps of the whole run.
        checkpoint_every: of the run that is cut.
        cuts: hook, step, nth and signal of each cut, as `Cut` has them, with the step from which
            the run goes on afterwards.
    """

    arguments: tuple[object, ...]
    steps: int
    checkpoint_every: int
    cuts: tuple[tuple[str, int, int, str, int], ...]


_START, _END, _TRAINED = "on_train_batch_start", "on_train_batch_end", "on_train_end"
_BACKWARD, _UPDATE, _SAVE = "on_before_backward", "on_before_optimizer_step", "on_save_checkpoint"
_KILL, _TERM, _CTRL_C = "SIGKILL", "SIGTERM", "SIGINT"

_REUSE = (
    "--config", CONFIGS / "mini" / "r1omni.yaml",
    "--data.train", "[{name: mafw, root: MAFW, sampling: 'first:4', options: {fold: 1}}]",
    "--model.init_args.grpo.max_new_tokens", 8,
    "--model.init_args.grpo.group_size", 4,
    # Fresh weights never answer in tags; this reward differs in some groups and not in others.
    "--model.init_args.grpo.rewards", "[{name: rewards_of_tests:coarse}]",
    "--model.init_args.grpo.num_iterations", 2,
    "--model.init_args.grpo.steps_per_generation", 2,
    # Enough rounds to find two groups that differ: a rollout of one would have fewer steps.
    "--model.init_args.grpo.max_refills", 8,
    "--model.init_args.grpo.log_completions_every", 1,
)  # fmt: skip
# Four samples in batches of two, each learned from in four optimizer steps: the windows of reuse
# end at steps 4, 8, 12 ... and epochs at 8 and 16. `max_steps` cuts the last window short.
RUNS = {
    # Ten samples: five batches an epoch, accumulated by two, so the steps 3, 6, 9, 12 have one.
    "sft": CutRun(
        arguments=(
            "--config", CONFIGS / "mini" / "emer_sft.yaml",
            "--data.train", "[{name: mafw, root: MAFW, sampling: 'first:10', options: {fold: 1}}]",
            "--trainer.accumulate_grad_batches", 2,
        ),
        steps=12,
        checkpoint_every=2,
        cuts=(
            (_START, 2, 1, _KILL, 2),
            (_UPDATE, 2, 1, _KILL, 2),
            (_BACKWARD, 3, 1, _TERM, 3),  # in the first batch of the second epoch
            (_BACKWARD, 4, 2, _KILL, 3),  # between two batches that make one step
            (_END, 5, 1, _KILL, 3),
            (_SAVE, 5, 1, _KILL, 3),
            (_BACKWARD, 6, 1, _TERM, 6),
            (_UPDATE, 8, 1, _KILL, 8),
            (_BACKWARD, 9, 2, _CTRL_C, 9),  # between two batches, in the last epoch
            (_UPDATE, 11, 1, _KILL, 11),
        ),
    ),
    "grpo": CutRun(
        arguments=(*_REUSE, "--model.init_args.grpo.ref_sync_steps", 3),
        steps=18,
        checkpoint_every=5,
        cuts=(
            (_BACKWARD, 4, 1, _TERM, 4),  # the rollout is thrown away
            (_UPDATE, 5, 1, _KILL, 4),  # second, fourth and third step of a window
            (_BACKWARD, 7, 1, _KILL, 4),
            (_UPDATE, 6, 1, _KILL, 4),
            (_END, 8, 1, _KILL, 4),
            (_UPDATE, 6, 1, _CTRL_C, 8),  # the window is finished first
            (_UPDATE, 10, 1, _KILL, 8),
            (_BACKWARD, 12, 1, _CTRL_C, 12),
            (_UPDATE, 15, 1, _KILL, 12),
            (_START, 16, 1, _TERM, 16),
            (_UPDATE, 17, 1, _KILL, 16),  # in the window that `max_steps` cuts short
            (_SAVE, 18, 1, _KILL, 16),
        ),
    ),
    "lora": CutRun(
        arguments=(
            *_REUSE, "--config", CONFIGS / "overlay" / "lora.yaml",
            "--model.init_args.grpo.overlap_sampling", "true",
        ),
        steps=10,
        checkpoint_every=1,
        cuts=(
            (_BACKWARD, 4, 1, _TERM, 4),
            (_UPDATE, 5, 1, _KILL, 4),
            (_SAVE, 8, 1, _KILL, 4),
            (_UPDATE, 9, 1, _KILL, 8),
            (_TRAINED, 10, 1, _KILL, 10),  # before the model folder is written
        ),
    ),
}  # fmt: skip


def fit(world: Path, name: str, run: CutRun, every: int, *more: object) -> int:
    """Start or resume a training in a fork; returns its exit status, that of a signal negative."""
    words = [
        "fit", *run.arguments,
        "--trainer.default_root_dir", Path(name).resolve(),
        "--trainer.max_steps", run.steps,
        "--trainer.enable_progress_bar", "false",
        "--trainer.log_every_n_steps", 1,
        "--model.init_args.init_from", world / "init",
        "--data.root", world / "world", "--data.loader.cache_dir", world / "cache",
        "--data.loader.batch_size", 2, "--data.loader.decode_workers", 0,
        "--run.tracking_uri", f"sqlite:///{Path('mlflow.db').resolve()}",
        "--run.checkpoint_every", every, "--run.keep_checkpoints", 99, *more,
    ]  # fmt: skip
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    status = 1
    try:
        status = r1omni_main([str(word) for word in words])
    finally:
        os._exit(status)


def run_and_cut(world: Path, kind: str) -> None:
    """The unbroken run, then the one that is cut; `cuts.json` tells what became of each process."""
    run = RUNS[kind]
    whole = fit(world, "whole", run, 1)
    seen = []
    resume: tuple[object, ...] = ()
    for hook, step, nth, by, _ in run.cuts:
        options = json.dumps({"hook": hook, "step": step, "nth": nth, "by": by})
        callback = f"[{{class_path: cut_points_job.Cut, init_args: {options}}}]"
        status = fit(
            world, "cut", run, run.checkpoint_every, "--trainer.callbacks", callback, *resume
        )
        newest = max(Path("cut/checkpoints").glob("step_*.ckpt")).stem
        seen.append({"status": status, "goes_on_from": int(newest.removeprefix("step_"))})
        resume = ("--ckpt_path", "last")
    last = fit(world, "cut", run, run.checkpoint_every, *resume)
    found = {"whole": whole, "cuts": seen, "last": last}
    Path("cuts.json").write_text(json.dumps(found), encoding="utf-8")
