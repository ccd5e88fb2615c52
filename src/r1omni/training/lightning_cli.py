"""LightningCLI set up for r1omni: one complete YAML file a run, overlays with plain values."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers.logger import DummyLogger, Logger
from lightning.pytorch.utilities import rank_zero_only

from r1omni.data import EmotionDataModule
from r1omni.training.callbacks import DirectIO, ExportModel, LogConfig, RunCheckpoint
from r1omni.training.checkpoints import (
    CHECKPOINTS,
    is_sharded,
    newest_checkpoint,
    read_values,
    resolve_checkpoint,
)
from r1omni.training.logger import RunConfig, TrackingLogger
from r1omni.training.module import EmotionModule, weights_read_in_place
from r1omni.training.optimization import check_precision
from r1omni.training.progress import StepProgressBar
from r1omni.training.sharded import FSDP2Strategy
from r1omni.training.termination import Termination
from r1omni.types import UsageError

# What Lightning warns of and we mean: reading a cache needs no workers, the words of the command
# line are in `args` too, a run may have no validation set, the model stays in evaluation mode so
# that sampling and log-probabilities agree, the model moves a batch by itself, logging counts
# optimizer steps over all epochs, however short, and figures are of all ranks when they are logged.
_EXPECTED_WARNINGS = (
    ".*does not have many workers.*",
    ".*args parameter is intended.*",
    ".*across ranks is zero.*",
    ".*in eval mode at the start of training.*",
    ".*You have overridden `transfer_batch_to_device`.*",
    ".*LeafSpec.* is deprecated.*",
    ".*smaller than the logging interval.*",
    ".*recommended to use .*sync_dist=True.*",
)


class R1OmniCLI(LightningCLI):
    """`python -m r1omni fit|validate|test|predict --config FILE [--ckpt_path last]`.

    Args:
        args: the command line, subcommand first.
        run: False only parses and builds, for tests of shipped configs.
    """

    def __init__(self, args: list[str], run: bool = True) -> None:
        for message in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        super().__init__(
            model_class=EmotionModule,
            datamodule_class=EmotionDataModule,
            subclass_mode_model=True,
            save_config_callback=LogConfig,
            save_config_kwargs={"save_to_log_dir": False},
            parser_kwargs={"parser_mode": "omegaconf", "exit_on_error": False},
            # Our sampler deals batches to the ranks itself.
            trainer_defaults={"use_distributed_sampler": False},
            auto_configure_optimizers=False,
            seed_everything_default=0,
            args=args,
            run=run,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_class_arguments(RunConfig, "run")

    def _parse_ckpt_path(self) -> None:
        """Do nothing: Lightning would put a checkpoint's settings over the command line's."""

    def before_instantiate_classes(self) -> None:
        if self.subcommand is None:
            return
        config = self.config[self.subcommand]
        _run_config(config)  # what it refuses, before the model is loaded
        run_dir = config.trainer.default_root_dir
        if run_dir is None:
            raise UsageError("trainer.default_root_dir is not set; it names the run's folder")
        check_precision(config.trainer.precision)
        if self.subcommand == "fit" and config.trainer.max_epochs not in (None, -1):
            # Lightning counts epochs wrong after several resumes at the end of one.
            raise UsageError(
                f"trainer.max_epochs is {config.trainer.max_epochs}, but a run ends by "
                "trainer.max_steps, where its schedule does; leave max_epochs out"
            )
        if config.ckpt_path is not None:
            checkpoint = resolve_checkpoint(config.ckpt_path, Path(run_dir))
            read_values(checkpoint)  # what cannot be used is refused before clips are decoded
            if is_sharded(checkpoint) and FSDP2Strategy.__name__ not in str(
                config.trainer.strategy
            ):
                raise UsageError(
                    f"{checkpoint} is in shares; add --config configs/overlay/fsdp.yaml to go on "
                    "with it, or make a model folder of it by `export`"
                )
            config.ckpt_path = str(checkpoint)
        elif self.subcommand == "fit" and newest_checkpoint(Path(run_dir)) is not None:
            raise UsageError(
                f"{Path(run_dir) / CHECKPOINTS} holds checkpoints of an earlier run; add "
                "--ckpt_path last to go on with it, or give another --trainer.default_root_dir"
            )
        if "weights_only" in config:
            config.weights_only = True

    def instantiate_classes(self) -> None:
        with weights_read_in_place():
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        config = self.config if self.subcommand is None else self.config[self.subcommand]
        run = _run_config(config)
        resumes = config.get("ckpt_path") is not None or self.subcommand != "fit"
        run_dir = Path(config.trainer.default_root_dir or ".")
        # One rank alone opens the store: two that create it at once would break it.
        logger: Logger = DummyLogger()
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            logger = TrackingLogger(run, run_dir, continue_run=resumes)
        # Off: Lightning would add a ModelCheckpoint of its own beside ours.
        trainer = super().instantiate_trainer(logger=logger, enable_checkpointing=False, **kwargs)
        trainer.strategy.checkpoint_io = DirectIO()
        spacing = -(-trainer.max_steps // run.max_logged_steps)
        trainer.log_every_n_steps = max(trainer.log_every_n_steps, spacing)  # type: ignore[attr-defined]
        bar = trainer.progress_bar_callback
        if bar is not None:
            trainer.callbacks[trainer.callbacks.index(bar)] = StepProgressBar()  # type: ignore[attr-defined]
        if self.subcommand == "fit":
            checkpoint = RunCheckpoint(run.checkpoint_every, run.keep_checkpoints)
            trainer.callbacks += [  # type: ignore[attr-defined]
                LearningRateMonitor(logging_interval="step"),
                Termination(checkpoint),
                checkpoint,
                ExportModel(),
            ]
        return trainer


def _run_config(config: Any) -> RunConfig:
    return RunConfig(**config.run.as_dict() if hasattr(config.run, "as_dict") else config.run)
