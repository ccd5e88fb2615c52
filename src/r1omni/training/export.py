"""How a training checkpoint becomes a model folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from r1omni.models.checkpoint import cast_weights, same_architecture
from r1omni.models.config import TORCH_DTYPES
from r1omni.models.omni import OmniModel
from r1omni.models.pipeline import R1Omni
from r1omni.models.saving import check_replaceable, save_model
from r1omni.options import check_choice
from r1omni.training.checkpoints import (
    CHECKPOINTS,
    PREFIX,
    adapters_of,
    frozen_fingerprint,
    is_sharded,
    read_checkpoint,
    resolve_checkpoint,
    trained_state,
)
from r1omni.training.optimization import choose_trained
from r1omni.training.stages import with_data_sets
from r1omni.types import Dtype, R1OmniError, UsageError


def export_checkpoint(
    path: Path, out: Path, model: str | None = None, dtype: Dtype | None = None
) -> None:
    """Write the model of a training checkpoint as a folder in the released layout.

    Args:
        path: a checkpoint of SFT or GRPO, or the folder of a run, for its newest one.
        out: folder to write; an older model folder is replaced.
        model: folder or repository the run started from, where it is not where it was.
        dtype: "float32", "bfloat16" or "float16"; None keeps float32.

    Raises:
        UsageError: no such file, or an unknown dtype.
        R1OmniError: the file cannot be read, or does not belong to the model.
    """
    check_choice("--dtype", dtype, Dtype | None)
    if str(path) in ("last", "best") and not path.exists():
        raise UsageError(
            f"--ckpt_path {path} is of which run? `export` takes the folder of a run, for its "
            "newest checkpoint, or one of the files in its checkpoints/"
        )
    is_run = path.is_dir() and not is_sharded(path)
    file = resolve_checkpoint("last" if is_run else str(path), path)
    check_replaceable(out)
    checkpoint = read_checkpoint(file)
    recorded = checkpoint["r1omni"]
    omni = R1Omni.from_pretrained(model or _start(recorded, file))
    same_architecture(omni.model.config, recorded["architecture"], str(file))
    choose_trained(omni.model, recorded["trainable"], adapters_of(recorded))
    _load_trained(omni.model, checkpoint["state_dict"], recorded["frozen"], file)
    if dtype is not None:
        cast_weights(omni.model, TORCH_DTYPES[dtype])
    if file.parent.name == CHECKPOINTS:
        omni.model.config = with_data_sets(omni.model.config, file.parent.parent)
    save_model(omni.model, omni.folder, out)


def _start(recorded: Mapping[str, Any], file: Path) -> str:
    start = recorded.get("init_from")
    if start is None:
        raise R1OmniError(f"{file} does not say which model it started from; give --model")
    return str(start)


def _load_trained(model: OmniModel, state: Mapping[str, Tensor], frozen: str, file: Path) -> None:
    """Put a checkpoint's weights over those the run started from."""
    trained = {name.removeprefix(PREFIX): tensor for name, tensor in state.items()}
    missing = sorted(trained_state(model).keys() - trained.keys())
    if missing:
        raise R1OmniError(
            f"{file} lacks {len(missing)} weights of the model ({', '.join(missing[:5])}); "
            "it is not complete"
        )
    if frozen_fingerprint(model) != frozen:
        raise R1OmniError(
            f"{file} was trained on other frozen weights than the model given; name the folder "
            "its run started from by --model"
        )
    model.load_state_dict(trained, strict=False)
