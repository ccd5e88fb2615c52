"""What was computed from a clip, kept on disk: one safetensors file a clip."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from r1omni.types import Clip


class ClipCache:
    """Tensors by clip, below `directory/fingerprint/xx/<key>.safetensors`.

    The key holds the files' absolute paths, modification times and sizes, and the span: a file
    that was changed is looked up anew. Entries are written to a temporary name and renamed, so
    several processes may share a directory.

    Args:
        directory: root of the cache; made when the first entry is written.
        fingerprint: identifies the settings that the tensors depend on.
    """

    def __init__(self, directory: Path, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.directory = Path(directory) / fingerprint

    def get(self, clip: Clip) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        """The clip's tensors (on CPU) and metadata, or None.

        An entry that cannot be read (cut off by a full disk, say) counts as absent, and so does
        that of a clip whose file is gone.
        """
        path = self.path_of(clip)
        if path is None or not path.is_file():
            return None
        try:
            data = path.read_bytes()
            # Neither mapped nor cloned: a map keeps a file open for every clip in memory, and
            # torch's threaded copy of many small tensors is slow on busy machines.
            tensors = load(data)
        except (SafetensorError, OSError):
            return None
        return _unfold(tensors, _metadata(data))

    def put(self, clip: Clip, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Store tensors and short texts for the clip, replacing what was there.

        Raises:
            FileNotFoundError: the clip's file does not exist.
            OSError: the cache cannot be written (disk full, no permission).
        """
        path = self.path_of(clip)
        if path is None:
            raise FileNotFoundError(f"{clip.path}: cannot be cached, the file does not exist")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.tmp")
        folded, texts = _fold(tensors, metadata)
        try:
            # Not `save_file`: it makes files for their owner alone, whatever the umask.
            temporary.write_bytes(save(folded, metadata=texts))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def add(self, clip: Clip, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        """Store tensors and texts beside those that the clip has; errors as `put`."""
        path = self.path_of(clip)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Two runs may complete one entry, each by a medium of its own.
            with locked(path.parent / "lock"):
                present = self.get(clip) or ({}, {})
                self.put(clip, {**present[0], **tensors}, {**present[1], **metadata})
        else:
            self.put(clip, tensors, metadata)

    def __contains__(self, clip: Clip) -> bool:
        """Whether a readable entry exists; opens its header only."""
        return self.header(clip) is not None

    def names(self, clip: Clip) -> frozenset[str] | None:
        """Names of the tensors stored for the clip, or None without a readable entry."""
        header = self.header(clip)
        return None if header is None else header[0]

    def header(self, clip: Clip) -> tuple[frozenset[str], dict[str, str]] | None:
        """Names of the clip's tensors, and its texts, or None without a readable entry."""
        path = self.path_of(clip)
        if path is None or not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as entry:
                texts = entry.metadata() or {}
                names = frozenset(entry.keys())
        except (SafetensorError, OSError):
            return None
        return names, {k: text for k, text in texts.items() if not k.startswith(_WIDTH)}

    def path_of(self, clip: Clip) -> Path | None:
        """Where the clip's entry lies, or None when a file of the clip does not exist."""
        parts: list[str] = [repr(clip.start_s), repr(clip.end_s)]
        for path in (clip.path, clip.audio_path):
            if path is None:
                continue
            try:
                status = os.stat(path)
            except OSError:
                return None
            parts += [os.path.abspath(path), str(status.st_mtime_ns), str(status.st_size)]
        key = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:40]
        return self.directory / key[:2] / f"{key}.safetensors"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file's lock, which ends with the process too; made if it is not there."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# A 3 s clip in a 30 s spectrogram is nine tenths padding, all columns alike: one is stored, and
# the number of columns goes into the texts under this prefix.
_WIDTH = "width of "


def _fold(
    tensors: dict[str, Tensor], metadata: dict[str, str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors on CPU, [R, C] ones with equal last columns cut to one of these; lossless."""
    folded, texts = {}, dict(metadata)
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu()
        if tensor.dim() == 2 and tensor.numel():
            differing = (tensor != tensor[:, -1:]).any(dim=0).nonzero()
            kept = int(differing[-1]) + 2 if len(differing) else 1
            texts[_WIDTH + name] = str(tensor.shape[1])
            tensor = tensor[:, :kept]
        folded[name] = tensor.contiguous()
    return folded, texts


def _unfold(
    tensors: dict[str, Tensor], metadata: dict[str, str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The inverse of `_fold`."""
    texts = dict(metadata)
    for name, tensor in tensors.items():
        width = texts.pop(_WIDTH + name, None)
        if width is not None and int(width) > tensor.shape[1]:
            missing = int(width) - tensor.shape[1]
            tensors[name] = torch.cat([tensor, tensor[:, -1:].expand(-1, missing)], dim=1)
    return tensors, texts


def _metadata(data: bytes) -> dict[str, str]:
    """The texts in the header of a valid safetensors file: 8 bytes of length, then JSON."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    return dict(header.get("__metadata__", {}))
