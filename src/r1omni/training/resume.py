"""Resuming a run: what its checkpoint records, and what may be other than it was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1omni.training.renamed import renamed_settings
from r1omni.training.run_folder import MODEL
from r1omni.types import UsageError

# What a run of any place may be given, and what may hold a password.
_NOT_RECORDED = ("config", "ckpt_path", "weights_only", "trainer.default_root_dir",
                 "run.tracking_uri")  # fmt: skip
# What is decided when a run begins: another value would change nothing, or not fit.
FIXED = (
    "seed_everything",
    "data.loader.seed",
    "model.class_path",
    "model.init_args.trainable",
    "model.init_args.lora",
    "model.init_args.optimizer.kind",
    "model.init_args.grpo.overlap_sampling",
    "run.experiment",
)
# What a run did whose version had no such option yet.
_BEFORE = {
    "model.init_args.optimizer.kind": "adamw",
    "model.init_args.grpo.overlap_sampling": False,
}
_UNSET = "unset"


def flat_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's configuration as plain values by dotted name, as its checkpoints record it.

    Args:
        config: nested mappings, as YAML has them; lists stay whole.
    """
    flat = dict(_entries(config, ""))
    return {name: value for name, value in flat.items() if not _is_among(name, _NOT_RECORDED)}


def _entries(config: Mapping[str, Any], prefix: str) -> Any:
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _entries(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _is_among(name: str, names: tuple[str, ...]) -> bool:
    return any(name == entry or name.startswith(f"{entry}.") for entry in names)


def changed_settings(
    recorded: Mapping[str, Any], settings: Mapping[str, Any], checkpoint: Path
) -> list[str]:
    """What a run would do from now on in another way, one text `name: old -> new` a setting.

    Args:
        recorded: from `flat_settings`, of the run that wrote the checkpoint.
        settings: from `flat_settings`, of the run that is resumed.
        checkpoint: named in the message.

    Raises:
        UsageError: naming every setting that cannot take effect any more.
    """
    before = {name: value for name, value in _BEFORE.items() if name in settings}
    recorded = {**before, **renamed_settings(recorded)}
    differing = [
        name
        for name in dict.fromkeys((*recorded, *settings))
        if recorded.get(name, _UNSET) != settings.get(name, _UNSET)
        # A mapping that was left out, and now has entries, is told by its entries.
        and not (
            (recorded.get(name) or settings.get(name)) is None
            and any(other.startswith(f"{name}.") for other in (*recorded, *settings))
        )
    ]
    changes = {
        name: f"{name}: {recorded.get(name, _UNSET)} -> {settings.get(name, _UNSET)}"
        for name in differing
    }
    fixed = [change for name, change in changes.items() if _is_among(name, FIXED)]
    if fixed:
        raise UsageError(
            f"--ckpt_path {checkpoint}: the run cannot be resumed with {'; '.join(fixed)}; give "
            "the values it was started with, or begin another run from its model folder"
        )
    return list(changes.values())


def check_steps_left(checkpoint: Path, done: int, max_steps: int, run_dir: Path) -> None:
    """Refuse to resume where nothing is left to do.

    A run that was stopped between its last step and its model folder has that left to write.

    Args:
        checkpoint: to resume from.
        done: its optimizer steps.
        max_steps: where the run shall end.
        run_dir: folder of the run.

    Raises:
        UsageError: `max_steps` is reached, or passed.
    """
    if 0 <= max_steps < done or (max_steps == done and _is_exported(run_dir, checkpoint)):
        raise UsageError(
            f"trainer.max_steps is {max_steps}, but {checkpoint} has {done} steps behind it; "
            "raise trainer.max_steps to train on"
        )


def _is_exported(run_dir: Path, checkpoint: Path) -> bool:
    """Whether the model folder was written after the checkpoint."""
    files = [path.stat().st_mtime_ns for path in (run_dir / MODEL).glob("*.safetensors*")]
    return bool(files) and min(files) >= checkpoint.stat().st_mtime_ns
