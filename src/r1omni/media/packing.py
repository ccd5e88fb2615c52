"""Processed clips as plain tensors and text, as a cache stores them.

Entries: tensor "frames" uint8 [T, 3, H, W]; tensor "mel" float32 [M, F]; texts "warnings" of the
picture and "sound_warnings" (JSON lists), each beside its tensor.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from torch import Tensor

from r1omni.types import ClipMedia, Modality

Entry = tuple[dict[str, Tensor], dict[str, str]]

TENSORS_OF: dict[str, tuple[str, ...]] = {
    "video_audio": ("frames", "mel"),
    "video": ("frames",),
    "audio": ("mel",),
}


def union(modalities: Collection[Modality]) -> Modality:
    """The modality that holds the media of all of these, of which there is at least one."""
    kinds = set(modalities)
    return next(iter(kinds)) if len(kinds) == 1 else "video_audio"


def pack_media(media: ClipMedia) -> Entry:
    """ClipMedia -> (tensors, metadata)."""
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    if media.frames is not None:
        tensors["frames"] = media.frames.contiguous()
        num_of_picture = len(media.warnings) - len(media.sound_warnings)
        metadata["warnings"] = json.dumps(media.warnings[:num_of_picture])
    if media.mel is not None:
        tensors["mel"] = media.mel.contiguous()
        metadata["sound_warnings"] = json.dumps(media.sound_warnings)
    return tensors, metadata


def unpack_media(entry: Entry, modality: Modality = "video_audio") -> ClipMedia | None:
    """(tensors, metadata) -> ClipMedia with what `modality` needs, or None if the entry lacks it.

    Its warnings are those about the media that are asked for.
    """
    tensors, metadata = entry
    needed = TENSORS_OF[modality]
    if any(name not in tensors for name in needed):
        return None
    return ClipMedia(
        frames=tensors["frames"] if "frames" in needed else None,
        mel=tensors["mel"] if "mel" in needed else None,
        warnings=read_warnings(metadata, modality),
        sound_warnings=read_warnings(metadata, "audio") if "mel" in needed else (),
    )


def read_warnings(metadata: Mapping[str, str], modality: Modality) -> tuple[str, ...]:
    """What the texts of an entry say about the media of a modality, the picture first."""
    found: list[str] = []
    if modality != "audio":
        found += json.loads(metadata.get("warnings", "[]"))
    if modality != "video":
        found += json.loads(metadata.get("sound_warnings", "[]"))
    return tuple(found)


def merge_entries(first: Entry, second: Entry) -> Entry:
    """Both entries' tensors and texts; the second wins where both have one."""
    return {**first[0], **second[0]}, {**first[1], **second[1]}
