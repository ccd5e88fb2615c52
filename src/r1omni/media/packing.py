"""Processed clips as plain tensors and text, as a cache stores them.

Entries: tensor "frames" uint8 [T, 3, H, W]; tensor "mel" float32 [M, F]; text "warnings" (a JSON
list).
"""

from __future__ import annotations

import json

from torch import Tensor

from r1omni.types import ClipMedia, Modality

Entry = tuple[dict[str, Tensor], dict[str, str]]

TENSORS_OF: dict[str, tuple[str, ...]] = {
    "video_audio": ("frames", "mel"),
    "video": ("frames",),
    "audio": ("mel",),
}


def pack_media(media: ClipMedia) -> Entry:
    """ClipMedia -> (tensors, metadata)."""
    tensors: dict[str, Tensor] = {}
    metadata = {"warnings": json.dumps(media.warnings)}
    if media.frames is not None:
        tensors["frames"] = media.frames.contiguous()
    if media.mel is not None:
        tensors["mel"] = media.mel.contiguous()
    return tensors, metadata


def unpack_media(entry: Entry, modality: Modality = "video_audio") -> ClipMedia | None:
    """(tensors, metadata) -> ClipMedia with what `modality` needs, or None if the entry lacks it.

    Warnings of a medium that is not asked for are kept: they tell about the file.
    """
    tensors, metadata = entry
    needed = TENSORS_OF[modality]
    if any(name not in tensors for name in needed):
        return None
    return ClipMedia(
        frames=tensors["frames"] if "frames" in needed else None,
        mel=tensors["mel"] if "mel" in needed else None,
        warnings=tuple(json.loads(metadata.get("warnings", "[]"))),
    )


def merge_entries(first: Entry, second: Entry) -> Entry:
    """Both entries' tensors and warnings; the second wins where both have a tensor."""
    warnings = [*json.loads(first[1].get("warnings", "[]"))]
    warnings += [w for w in json.loads(second[1].get("warnings", "[]")) if w not in warnings]
    metadata = {**first[1], **second[1], "warnings": json.dumps(warnings)}
    return {**first[0], **second[0]}, metadata
