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
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.tensor import DTensor

from r1omni.types import R1OmniError

PLAIN_VALUES = "values.pt"
# Among the plain values: path of a tensor -> path under which it is stored.
_SAME = "same"
# Likewise: name of a file of tensors -> bytes. No other file tells that one is missing.
_FILES = "files"


def write_shards(checkpoint: dict[str, Any], folder: Path) -> None:
    """Write this rank's shares; all ranks call this together, and rank 0 writes the plain values.

    Args:
        checkpoint: dictionaries and lists of plain values, tensors and DTensors.
        folder: exists and is empty.

    Raises:
        RuntimeError: on all ranks, if one cannot write.
    """
    tensors, same, values = _divided(checkpoint)
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        dcp.save(tensors, storage_writer=writer)
    except CheckpointException as error:
        raise RuntimeError(_line(error)) from error
    if torch.distributed.get_rank() == 0:
        files = {file.name: file.stat().st_size for file in folder.glob("*.safetensors")}
        torch.save({**values, _SAME: same, _FILES: files}, folder / PLAIN_VALUES)


def check_shards(folder: Path, values: dict[str, Any]) -> None:
    """Check that the files of a folder are there, as its plain values list them.

    Raises:
        R1OmniError: naming a file that is missing or cut off.
    """
    for name, size in values.get(_FILES, {}).items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != size:
            raise R1OmniError(
                f"{folder} is not whole: {name} is missing or cut off; copy it again, or use an "
                "earlier checkpoint"
            )


def fill_shards(folder: Path, checkpoint: Any) -> None:
    """Read into every DTensor of a checkpoint, in place; all ranks call this together.

    Raises:
        R1OmniError: the folder is not whole, or of other tensors.
    """
    tensors, _, _ = _divided(checkpoint)
    _load(folder, tensors, no_dist=False)


def join_shards(folder: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The plain values of a folder with every tensor whole and in its place; needs no ranks.

    Raises:
        R1OmniError: the folder is not whole.
    """
    check_shards(folder, values)
    values.pop(_FILES, None)
    tensors: dict[str, Tensor] = {}
    try:
        stored = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    except Exception as error:  # the safetensors library's errors have no common type
        raise R1OmniError(f"{folder} cannot be read ({_line(error)}); it is not whole") from error
    for path, entry in stored.items():
        tensors[path] = torch.empty(entry.size, dtype=entry.properties.dtype)  # type: ignore[union-attr]
    _load(folder, tensors, no_dist=True)
    tensors |= {path: tensors[first] for path, first in values.pop(_SAME).items()}
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
    except (CheckpointException, Exception) as error:  # the former is no Exception
        raise R1OmniError(
            f"{folder} does not fit this model, or is not whole ({_line(error)}); resume with the "
            "configuration that the run was started with"
        ) from error


def _line(error: BaseException) -> str:
    """The reason in one line; of several ranks, the first one's."""
    if isinstance(error, CheckpointException):
        error = next(iter(error.failures.values()))[0]
    return " ".join(str(error).split())[:300] or type(error).__name__


def _divided(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, str], Any]:
    """DTensors by the path of their keys, paths of tensors that are at another too, and the rest.

    A tied head is the embedding: it is written once.
    """
    tensors: dict[str, Tensor] = {}
    same: dict[str, str] = {}
    known: dict[int, str] = {}

    def rest(content: Any, path: str) -> Any:
        if isinstance(content, list):
            return [rest(value, f"{path}{index}/") for index, value in enumerate(content)]
        if not isinstance(content, Mapping):
            return content
        kept = {}
        for key, value in content.items():
            if not isinstance(value, DTensor):
                kept[key] = rest(value, f"{path}{key}/")
                continue
            own, share = f"{path}{key}", value.to_local()
            # A share of nothing has no place in memory.
            first = known.setdefault(share.data_ptr(), own) if share.numel() else own
            if first == own:
                tensors[own] = value
            else:
                same[own] = first
        return kept

    return tensors, same, rest(checkpoint, "")
