"""A checkpoint in shares: a folder to which each rank writes what it has of each tensor.

Tensors are in safetensors files, by torch.distributed.checkpoint, and everything else is in one
file of plain values. torch's own format for such folders is a pickle, which could run code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.tensor import DTensor

from r1omni.types import R1OmniError

PLAIN_VALUES = "values.pt"


def write_shares(checkpoint: dict[str, Any], folder: Path) -> None:
    """Write this rank's shares; all ranks call this together, and rank 0 writes the plain values.

    Args:
        checkpoint: dictionaries and lists of plain values, tensors and DTensors.
        folder: exists and is empty.
    """
    tensors: dict[str, Tensor] = {}
    values = _divided(checkpoint, "", tensors)
    dcp.save(tensors, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
    if torch.distributed.get_rank() == 0:
        torch.save(values, folder / PLAIN_VALUES)


def fill_shares(folder: Path, checkpoint: Any) -> None:
    """Read into every DTensor of a checkpoint, in place; all ranks call this together.

    Raises:
        R1OmniError: the folder is not whole, or of other tensors.
    """
    tensors: dict[str, Tensor] = {}
    _divided(checkpoint, "", tensors)
    _load(folder, tensors, no_dist=False)


def join_shares(folder: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The plain values of a folder with every tensor whole and in its place; needs no ranks.

    Raises:
        R1OmniError: the folder is not whole.
    """
    tensors: dict[str, Tensor] = {}
    try:
        stored = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    except Exception as error:  # the safetensors library's errors have no common type
        raise R1OmniError(f"{folder} cannot be read ({_line(error)}); it is not whole") from error
    for path, entry in stored.items():
        tensors[path] = torch.empty(entry.size, dtype=entry.properties.dtype)  # type: ignore[union-attr]
    _load(folder, tensors, no_dist=True)
    for path, tensor in tensors.items():
        place: Any = values
        *parents, last = (int(part) if part.isdigit() else part for part in path.split("/"))
        for part in parents:
            place = place[part]
        place[last] = tensor
    return values


def _load(folder: Path, tensors: dict[str, Tensor], no_dist: bool) -> None:
    reader = HuggingFaceStorageReader(str(folder))
    try:
        dcp.load(tensors, storage_reader=reader, no_dist=no_dist)
    except Exception as error:  # torch wraps whatever a rank raised
        raise R1OmniError(
            f"{folder} does not fit this model, or is not whole ({_line(error)}); resume with the "
            "configuration that the run was started with"
        ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _divided(content: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """The content without its DTensors, which go to `tensors` under the path of their keys."""
    if isinstance(content, Mapping):
        entries: Any = content.items()
    elif isinstance(content, list):
        entries = enumerate(content)
    else:
        return content
    kept = []
    for key, value in entries:
        at = f"{path}/{key}" if path else str(key)
        if isinstance(value, DTensor):
            tensors[at] = value
        else:
            kept.append((key, _divided(value, at, tensors)))
    return [value for _, value in kept] if isinstance(content, list) else dict(kept)
