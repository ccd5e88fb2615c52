"""LightningCLI set up for r1omni: one complete YAML file a run, overlays with plain values."""

from __future__ import annotations

import logging
import signal
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.callbacks import LearningRateMonitor, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers.logger import DummyLogger, Logger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from r1omni.data import EmotionDataModule
from r1omni.options import SEED, check_number
from r1omni.training.callbacks import (
    DirectIO,
    ExportModel,
    LogConfig,
    RunCheckpoint,
    StepProgressBar,
)
from r1omni.training.checkpoints import RUN, is_sharded, read_values, resolve_checkpoint
from r1omni.training.config_files import check_config_files
from r1omni.training.device import check_precision
from r1omni.training.dropped_settings import PARSER_LOGGER, ChangesOfClass
from r1omni.training.logger import KeepBest, RunConfig, TrackingLogger
from r1omni.training.module import EmotionModule, weights_read_in_place
from r1omni.training.optimization import check_kind
from r1omni.training.renamed import with_new_names
from r1omni.training.resume import changed_settings, check_steps_left, flat_settings
from r1omni.training.run_folder import (
    FolderLock,
    check_beginning,
    check_newest,
    check_start,
    check_writable,
)
from r1omni.training.sharded import FSDP2Strategy
from r1omni.training.termination import SIGNALS, Termination
from r1omni.training.trainer_options import check_trainer_options
from r1omni.training.whole_lists import with_whole_lists
from r1omni.types import UsageError

_logger = logging.getLogger(__name__)

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

# Steps between those that Lightning logs where it is not told.
_LOG_EVERY = 50
# What a run has where its file does not say otherwise. Our sampler splits batches over the ranks
# itself, and answers of a model that has learned nothing yet are long and say nothing.
TRAINER_DEFAULTS = {
    "use_distributed_sampler": False,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
}


# Seeds of streams of their own.
SEEDS = ("data.loader.seed", "model.init_args.grpo.seed")


class R1OmniCLI(LightningCLI):
    """`python -m r1omni fit|validate|test|predict --config FILE [--ckpt_path last]`.

    Args:
        args: the command line, subcommand first.
        run: False only parses and builds, for tests of shipped configs.
    """

    def __init__(self, args: list[str], run: bool = True) -> None:
        for message in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        check_config_files(args)
        self._lock: FolderLock | None = None
        self._changes = ChangesOfClass()
        handlers = {signum: signal.getsignal(signum) for signum in SIGNALS}
        try:
            self._parse_and_run(with_whole_lists(with_new_names(args)), run)
        finally:
            self._changes.close()
            for signum, handler in handlers.items():
                signal.signal(signum, handler)
            if self._lock is not None:
                self._lock.release()

    def _parse_and_run(self, args: list[str], run: bool) -> None:
        super().__init__(
            model_class=EmotionModule,
            datamodule_class=EmotionDataModule,
            subclass_mode_model=True,
            save_config_callback=LogConfig,
            save_config_kwargs={"save_to_log_dir": False},
            parser_kwargs={
                "parser_mode": "omegaconf", "exit_on_error": False, "logger": PARSER_LOGGER,
            },
            trainer_defaults=TRAINER_DEFAULTS,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            args=args,
            run=run,
        )  # fmt: skip

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_class_arguments(RunConfig, "run")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        super().parse_arguments(parser, args)
        self._given = parser.parse_args(args, defaults=False)

    def _follow_seed(self) -> None:
        """One seed makes another run: those that are not given are `seed_everything`."""
        seed = self._get(self.config, "seed_everything")
        given = self._given if self.subcommand is None else self._given[self.subcommand]
        for name in SEEDS:
            has_it = self._config.get(name) is not None and not isinstance(seed, bool)
            if has_it and given.get(name) is None:
                self._config[name] = seed

    def _set_seed(self) -> None:
        self._check_seed()
        super()._set_seed()

    def _check_seed(self) -> None:
        seed = self._get(self.config, "seed_everything")
        if not isinstance(seed, bool):  # true draws one, false leaves the generators alone
            check_number("seed_everything", seed, SEED, int)

    def _parse_ckpt_path(self) -> None:
        """Do nothing: Lightning would put a checkpoint's settings over the command line's."""

    def before_instantiate_classes(self) -> None:
        self._changes.check(self._config)
        self._follow_seed()
        if self.subcommand is None:
            return
        config = self.config[self.subcommand]
        _run_config(config)  # what it refuses, before the model is loaded
        if config.trainer.default_root_dir is None:
            raise UsageError("trainer.default_root_dir is not set; it names the run's folder")
        run_dir = Path(config.trainer.default_root_dir)
        check_precision(config.trainer.precision)
        check_trainer_options(config.trainer, self.subcommand)
        sharded = FSDP2Strategy.__name__ in str(config.trainer.strategy)
        if self.subcommand == "fit":
            check_kind(config.model.init_args.optimizer.kind, sharded)
        check_writable(run_dir)
        if config.ckpt_path is not None:
            self._use_checkpoint(config, run_dir, sharded)
        elif self.subcommand != "fit":
            check_start(run_dir, config.model.init_args.init_from, self.subcommand)
        elif not config.trainer.fast_dev_run:
            check_beginning(run_dir)
        if "weights_only" in config:
            config.weights_only = True

    def _use_checkpoint(self, config: Any, run_dir: Path, sharded: bool) -> None:
        """What cannot be used is refused before clips are decoded."""
        checkpoint = resolve_checkpoint(config.ckpt_path, run_dir)
        values = read_values(checkpoint)
        if is_sharded(checkpoint) and not sharded:
            raise UsageError(
                f"{checkpoint} is sharded; add --config configs/overlay/fsdp.yaml to resume "
                "from it, or make a model folder of it by `export`"
            )
        config.ckpt_path = str(checkpoint)
        if self.subcommand != "fit":
            return
        if config.trainer.fast_dev_run:
            raise UsageError(
                "trainer.fast_dev_run tries a run from its start; leave --ckpt_path out"
            )
        check_newest(run_dir, checkpoint)
        done = values["global_step"]
        check_steps_left(checkpoint, done, config.trainer.max_steps, run_dir)
        recorded = values.get(RUN, {}).get("settings")
        changes = (
            ["its settings are not recorded"]
            if not recorded
            else changed_settings(recorded, self._settings(), checkpoint)
        )
        if changes and _is_first_rank():
            _logger.warning("from step %d on other settings: %s", done, "; ".join(changes))

    def _settings(self) -> dict[str, Any]:
        """The configuration of this command as its checkpoints record it."""
        return flat_settings(self._nested_settings())

    def _nested_settings(self) -> dict[str, Any]:
        parser = self._parser(self.subcommand)
        settings: dict[str, Any] = yaml.safe_load(parser.dump(self._config, skip_none=False))
        return settings

    @property
    def _config(self) -> Any:
        return self.config if self.subcommand is None else self.config[self.subcommand]

    def instantiate_classes(self) -> None:
        with weights_read_in_place():
            super().instantiate_classes()
        # When no setting is refused any more, and nothing is written yet. Of the ranks of a run,
        # the first one holds the lock. A run that writes nothing has none.
        options = self._config.trainer
        if self.subcommand == "fit" and _is_first_rank() and not options.fast_dev_run:
            self._lock = FolderLock(Path(options.default_root_dir))
            if self._config.ckpt_path is None:  # another may have trained there meanwhile
                check_beginning(Path(options.default_root_dir))

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        config = self._config
        run = _run_config(config)
        options, built = config.trainer, self._get(self.config_init, "trainer")
        trains = self.subcommand == "fit" and not options.fast_dev_run
        # One rank alone opens the store: two that create it at once would break it.
        logger: Logger | bool = DummyLogger()
        if options.logger is False:
            logger = False
        elif _is_first_rank() and not options.fast_dev_run:
            resumes = config.get("ckpt_path") is not None or self.subcommand != "fit"
            logger = TrackingLogger(run, Path(options.default_root_dir or "."), resumes)
        callbacks = _listed(built.callbacks)
        if options.enable_progress_bar is not False and not any(
            isinstance(callback, ProgressBar) for callback in callbacks
        ):
            callbacks.append(StepProgressBar())
        if trains and logger is not False:
            callbacks.append(LearningRateMonitor(logging_interval="step"))
        callbacks.append(Termination(of_command=True))
        # Those that write come last.
        if trains:
            callbacks += [
                RunCheckpoint(
                    run.checkpoint_every, run.keep_checkpoints, run.keep_best, self._settings()
                ),
                ExportModel(),
            ]
        every = options.log_every_n_steps
        if logger is not False and not options.fast_dev_run:
            every = logging_interval(options.max_steps, every, run.max_logged_steps)
        try:
            return super().instantiate_trainer(
                logger=logger,
                callbacks=callbacks,
                plugins=[*_listed(built.plugins), DirectIO()],
                # Where we have no checkpoint, Lightning would add a ModelCheckpoint of its own.
                enable_checkpointing=trains,
                log_every_n_steps=every,
                **kwargs,
            )
        except (MisconfigurationException, ValueError) as error:
            raise UsageError(f"trainer: {' '.join(str(error).split())}") from error


class _SettingsAlone(R1OmniCLI):
    """Reads a command line; nothing is made, run or written."""

    def _set_seed(self) -> None:
        self._check_seed()

    def before_instantiate_classes(self) -> None:
        self._changes.check(self._config)
        self._follow_seed()
        _run_config(self._config)
        self.settings = self._nested_settings()

    def instantiate_classes(self) -> None:
        """Make nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing."""


def read_settings(args: list[str]) -> dict[str, Any]:
    """The whole configuration that a command line means, defaults included, as YAML has it.

    Args:
        args: the command line, subcommand first.

    Raises:
        UsageError: as that command would; the parser's own errors come as they are.
    """
    return _SettingsAlone(args).settings


def _run_config(config: Any) -> RunConfig:
    run = config.run.as_dict() if hasattr(config.run, "as_dict") else config.run
    best = run["keep_best"]
    return RunConfig(**{**run, "keep_best": best and KeepBest(**best)})


def _is_first_rank() -> bool:
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


def _listed(value: Any) -> list[Any]:
    """An option of the Trainer that may be left out, one object, or a list of them."""
    if value is None:
        return []
    return [*value] if isinstance(value, list) else [value]


def logging_interval(max_steps: int, asked: int | None, max_logged_steps: int) -> int:
    """Steps from one that is logged to the next; says so where that is more than was asked for.

    Args:
        max_steps: of the run.
        asked: `trainer.log_every_n_steps`; None is Lightning's own.
        max_logged_steps: most steps that the run may log.
    """
    asked = _LOG_EVERY if asked is None else asked
    spacing = -(-max_steps // max_logged_steps)
    if spacing <= asked:
        return asked
    if _is_first_rank():
        _logger.warning(
            "figures are logged every %d steps, not every %d (trainer.log_every_n_steps): "
            "run.max_logged_steps is %d", spacing, asked, max_logged_steps,
        )  # fmt: skip
    return spacing
