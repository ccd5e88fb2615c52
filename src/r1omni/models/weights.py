"""Reading weights: safetensors or pickled tensors, in one file or in shards; and room for them.

Nothing here runs code of a checkpoint: pickles are opened with torch's `weights_only`.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from r1omni.types import R1OmniError

_DIGEST_BLOCK, _DIGEST_BLOCKS = 2**20, 256
_LFS_POINTER = b"version https://git-lfs"


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a folder's weights.

    The first of these that is there: `model.safetensors`; the shards of
    `model.safetensors.index.json`; `pytorch_model.bin`; the shards of its index; the only
    `.safetensors` file; `model-*.safetensors` without an index.

    Raises:
        R1OmniError: there is none of them, a shard is missing, or an index cannot be read.
    """
    for whole in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{whole}.index.json"
        if (folder / whole).is_file():
            return [folder / whole]
        if index.is_file():
            return _shards(index)
    others = sorted(folder.glob("*.safetensors"))
    shards = [file for file in others if file.name.startswith("model-")]
    if len(others) == 1 or shards:
        return shards or others
    if others:
        names = ", ".join(file.name for file in others[:5])
        raise R1OmniError(f"{folder} holds several files of weights ({names}); keep one of them")
    raise R1OmniError(
        f"{folder} holds no .safetensors or .bin file of weights; copy the weights into it"
    )


def _shards(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise R1OmniError(f"{index} cannot be read ({error!r}); copy the file again") from None
    # A name is a file of this folder: an index must not lead anywhere else.
    files = [index.parent / Path(str(name)).name for name in sorted(map(str, names))]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise R1OmniError(
            f"{index.parent} lacks {len(missing)} of {len(files)} files that {index.name} lists: "
            f"{', '.join(missing[:5])}; copy them there"
        )
    return files


def sha256(files: Iterable[Path]) -> str | None:
    """SHA-256 of a file; of several, of their names and digests; None of none."""
    digests = []
    for file in files:
        with file.open("rb") as stream:
            digests.append((file.name, hashlib.file_digest(stream, "sha256").hexdigest()))
    if len(digests) < 2:
        return digests[0][1] if digests else None
    return hashlib.sha256(repr(digests).encode()).hexdigest()


def quick_digest(folder: Path) -> str:
    """Tells the models of folders apart without reading all of large weights.

    Of settings and tokenizers (.json, .txt) and of weights, files up to 256 MiB are read whole, of
    larger ones 256 blocks of 1 MiB, evenly spread with both ends among them. Training and adapters
    change whole matrices all over a model, so they are seen; a change of one place of a large file
    need not be.
    """
    digest = hashlib.sha256()
    kinds = ("*.json", "*.txt", "*.safetensors", "*.bin")
    for file in sorted(file for kind in kinds for file in folder.glob(kind)):
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}".encode())
        blocks = min(_DIGEST_BLOCKS, -(-size // _DIGEST_BLOCK))
        last = max(0, size - _DIGEST_BLOCK)
        with file.open("rb") as stream:
            for block in range(blocks):
                stream.seek(last * block // max(1, blocks - 1))
                digest.update(stream.read(_DIGEST_BLOCK))
    return digest.hexdigest()


class WithoutInitialWeights(TorchFunctionMode):
    """Leaves parameters unwritten: weights that are read or copied need no first values.

    Memory that is never written is never taken from the system, so a model built under it costs
    nothing until it is filled. Buffers are computed as ever.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        target = args[0] if args else kwargs.get("tensor")  # which torch.nn.init hands in by name
        writes = name.endswith("_") and not name.endswith("__") and name != "requires_grad_"
        if writes and isinstance(target, nn.Parameter):
            return target
        return func(*args, **kwargs)


class Weights:
    """The tensors of a folder, read one at a time.

    Args:
        folder: holds the files, see `weight_files`.

    Raises:
        R1OmniError: a file is missing, cut off, a Git LFS pointer, or not what its name says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = weight_files(folder)
        self.names = frozenset(name for file in self.files for name in _names(file))

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for file in self.files:
            yield from _tensors(file)


def _names(file: Path) -> list[str]:
    if file.suffix == ".safetensors":
        _refuse_pointer(file)
        try:
            with safe_open(file, framework="pt") as reader:
                return list(reader.keys())
        except (SafetensorError, OSError) as error:
            raise _unreadable(file, error) from None
    return list(_unpickled(file))


def _tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as reader:
            for name in reader.keys():  # noqa: SIM118 - the reader is not a dictionary
                yield name, reader.get_tensor(name)
    else:
        yield from _unpickled(file).items()


def _unpickled(file: Path) -> dict[str, Tensor]:
    _refuse_pointer(file)
    content = unpickle(file, "weights")
    if not isinstance(content, dict) or not all(isinstance(t, Tensor) for t in content.values()):
        raise R1OmniError(f"{file} holds other things than named tensors; give a state dict")
    return content


def unpickle(file: Path, kind: str) -> Any:
    """The content of a file that torch wrote, opened without running anything in it.

    Args:
        file: holds tensors and plain values.
        kind: what the file should be, for the message.

    Returns:
        the content; its tensors are on the CPU and come into memory when they are used.

    Raises:
        R1OmniError: the file is damaged, or holds code or objects of other types.
    """
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=_is_zip(file))
    except Exception as error:  # bytes that are no pickle are taken for one, and raise anything
        raise _unreadable(file, error, kind) from None


def _is_zip(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(4) == b"PK\x03\x04"


def _refuse_pointer(file: Path) -> None:
    with file.open("rb") as opened:
        if opened.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise R1OmniError(
                f"{file} is a Git LFS pointer, not the weights; fetch them with `git lfs pull`"
            )


def _unreadable(file: Path, error: Exception, kind: str = "weights") -> R1OmniError:
    if isinstance(error, pickle.UnpicklingError):  # torch's own advice is to load it all the same
        code = re.search(r"GLOBAL (\S+)", str(error))
        held = f"code, {code[1]}, which was not run" if code else "what is no tensor or plain value"
        return R1OmniError(
            f"{file} cannot be read as {kind} (it holds {held}); trust no file of this author, or "
            "ask for safetensors"
        )
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return R1OmniError(
        f"{file} cannot be read as {kind} ({reason}); it is cut off or damaged, copy it again"
    )
