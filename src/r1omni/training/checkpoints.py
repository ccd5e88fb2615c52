"""Training checkpoints: where they are, and what they record of their model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from r1omni.models.adapters import LoRAConfig
from r1omni.models.omni import OmniModel
from r1omni.models.parallelize import full_tensor
from r1omni.models.towers import fingerprint
from r1omni.models.weights import unpickle
from r1omni.training.shards import PLAIN_VALUES, join_shards
from r1omni.types import R1OmniError, UsageError

# What a run folder holds: checkpoints, the model it ends with, and the settings of its training.
CHECKPOINTS = "checkpoints"
MODEL = "model"
FIT_CONFIG = "config_fit.yaml"
# Key in a checkpoint: the settings of its run, its best step, and what was still to do.
RUN = "run"
# A LightningModule holds the model under this name.
PREFIX = "model."


def saved_checkpoints(run_dir: Path) -> dict[int, Path]:
    """The checkpoints in a run's folder by their optimizer steps, in rising order."""
    by_step = {}
    for path in (run_dir / CHECKPOINTS).glob("step_*.ckpt"):
        step = path.stem.removeprefix("step_")
        if step.isdigit():  # names have six digits or more: as texts they would not be in order
            by_step[int(step)] = path
    return dict(sorted(by_step.items()))


def newest_checkpoint(run_dir: Path) -> Path | None:
    """The checkpoint of the highest step in a run's folder."""
    return next(reversed(saved_checkpoints(run_dir).values()), None)


def resolve_checkpoint(ckpt_path: str, run_dir: Path) -> Path:
    """The file, or folder of shards, that `--ckpt_path` means.

    Args:
        ckpt_path: a path; "last" is the newest of the run, "best" the one of `run.keep_best`.
        run_dir: folder of the run.

    Raises:
        UsageError: there is no such checkpoint, or nothing to resume.
    """
    if ckpt_path in ("last", "best"):
        newest = newest_checkpoint(run_dir)
        if newest is None:
            raise UsageError(
                f"--ckpt_path {ckpt_path}: {run_dir / CHECKPOINTS} holds no checkpoint; name "
                "another, or leave --ckpt_path out of `fit` to start from the beginning"
            )
        return newest if ckpt_path == "last" else _best_checkpoint(run_dir, newest)
    path = Path(ckpt_path)
    if not (path.is_file() or is_sharded(path)):
        raise UsageError(f"--ckpt_path {path}: there is no such checkpoint")
    return path


def _best_checkpoint(run_dir: Path, newest: Path) -> Path:
    best = read_values(newest).get(RUN, {}).get("best")
    if best is None:
        raise UsageError(
            f"--ckpt_path best: {newest} names no best step; runs with run.keep_best and a "
            "validation set have one"
        )
    path = saved_checkpoints(run_dir).get(best["step"])
    if path is None:
        raise UsageError(f"--ckpt_path best: the checkpoint of step {best['step']} is gone")
    return path


def is_sharded(path: Path) -> bool:
    """Whether a checkpoint is a folder of shards."""
    return (path / PLAIN_VALUES).is_file()


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """The weights that training changes, by name; buffers are among them."""
    # Under all of its names: a tied head is no parameter of its own.
    named = module.named_parameters(remove_duplicate=False)
    frozen = {name for name, p in named if not p.requires_grad}
    return {name: t for name, t in module.state_dict().items() if name not in frozen}


def frozen_fingerprint(model: OmniModel) -> str:
    """Digests of the frozen weights of each part of the model, as a checkpoint records them."""
    digests = []
    for part, module in model.named_children():
        frozen = {name: p for name, p in module.named_parameters() if not p.requires_grad}
        if frozen:
            digests.append(f"{part}={fingerprint(frozen)}")
    return ",".join(digests)


def start_fingerprint(model: OmniModel) -> str:
    """A digest of some values of each weight that training will change, adapters left out.

    Every weight differs after the first optimizer steps, so some values tell models apart. Weights
    that are sharded are gathered one at a time; all ranks call this together.
    """
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad and ".lora_" not in n}
    # A copy: a view would keep the whole of a weight that was gathered from its shards.
    return fingerprint(
        {n: full_tensor(p.detach()).flatten()[:1024].clone() for n, p in trained.items()}
    )


def read_checkpoint(file: Path) -> dict[str, Any]:
    """A training checkpoint of ours, whole, opened without running anything in it.

    Raises:
        R1OmniError: the file is damaged, holds code, or was not written by r1omni.
    """
    values = read_values(file)
    return join_shards(file, values) if is_sharded(file) else values


def read_values(file: Path) -> dict[str, Any]:
    """A training checkpoint as `read_checkpoint` gives it, but without tensors that lie in shards.

    Raises:
        R1OmniError: the file is damaged, holds code, or was not written by r1omni.
    """
    values = read_plain(file / PLAIN_VALUES if is_sharded(file) else file)
    if "r1omni" not in values:
        raise R1OmniError(f"{file} was not written by r1omni; give one of its own checkpoints")
    return values


def read_plain(file: Path) -> dict[str, Any]:
    """A dictionary of tensors and plain values, opened without running anything in the file.

    Raises:
        R1OmniError: the file is damaged, holds code, or holds something else.
    """
    content = unpickle(file, "a checkpoint")
    if not isinstance(content, dict):
        raise R1OmniError(f"{file} was not written by r1omni; give one of its own checkpoints")
    return content


def adapters_of(recorded: Mapping[str, Any]) -> LoRAConfig | None:
    """The adapters of a run, as a checkpoint records them."""
    lora = recorded["lora"]
    return None if lora is None else LoRAConfig(**{**lora, "targets": tuple(lora["targets"])})
