"""Samples with their media, put side by side; nothing is tokenized or padded yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch.utils.data import Dataset

from r1omni.data.clip_cache import ClipCache
from r1omni.types import ClipFeatures, ClipMedia, R1OmniError, Sample

CONDITIONS = ("full", "muted", "blanked")


@dataclass(frozen=True)
class Batch:
    """B samples with the media their prompts ask for."""

    samples: tuple[Sample, ...]
    media: tuple[ClipMedia | ClipFeatures, ...]

    def __len__(self) -> int:
        return len(self.samples)


class ClipDataset(Dataset[tuple[Sample, ClipMedia | ClipFeatures]]):
    """Samples whose clips wait in a cache, decoded or already encoded.

    Args:
        samples: what to serve.
        cache: holds "frames" and "mel" (decoded) or "video" and "audio" (encoded) of every clip.
        condition: "full", "muted" (sound replaced by silence) or "blanked" (picture by black).
        neutral: silence and black frames in the cache's form, for the two conditions.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        cache: ClipCache,
        condition: str = "full",
        neutral: ClipMedia | ClipFeatures | None = None,
    ) -> None:
        self.samples = tuple(samples)
        self.cache = cache
        self.condition = condition
        self.neutral = neutral

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Sample, ClipMedia | ClipFeatures]:
        sample = self.samples[index]
        cached = self.cache.get(sample.clip)
        if cached is None:
            raise R1OmniError(
                f"{sample.clip.path}: its entry in the cache {self.cache.directory} is gone; "
                "start the command again to make it anew"
            )
        tensors = dict(cached[0])
        video_key, audio_key = ("video", "audio") if "video" in tensors else ("frames", "mel")
        if self.condition == "muted":
            tensors[audio_key] = getattr(self.neutral, audio_key)
        elif self.condition == "blanked":
            tensors[video_key] = getattr(self.neutral, video_key)
        video = tensors.get(video_key) if "video" in sample.modality else None
        audio = tensors.get(audio_key) if "audio" in sample.modality else None
        if video_key == "video":
            return sample, ClipFeatures(video, audio)
        return sample, ClipMedia(video, audio)


def collate(items: Sequence[tuple[Sample, ClipMedia | ClipFeatures]]) -> Batch:
    """Items of a `ClipDataset` as a `Batch`."""
    samples, media = zip(*items, strict=True)
    return Batch(tuple(samples), tuple(media))
