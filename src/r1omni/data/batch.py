"""Samples with their media, put side by side; nothing is tokenized or padded yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar, get_args

from torch.utils.data import Dataset

from r1omni.data.clip_cache import ClipCache
from r1omni.media.packing import read_warnings, unpack_media
from r1omni.types import Clip, ClipFeatures, ClipMedia, Modality, R1OmniError, Sample

Condition = Literal["full", "muted", "blanked"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
Media = TypeVar("Media", ClipMedia, ClipFeatures)


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
        cache: holds of every clip what its samples ask for.
        condition: "full", "muted" (sound replaced by silence) or "blanked" (picture by black).
        neutral: silence and black frames in the cache's form: `ClipFeatures` say that it holds
            features.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        cache: ClipCache,
        condition: str,
        neutral: ClipMedia | ClipFeatures,
    ) -> None:
        self.samples = tuple(samples)
        self.cache = cache
        self.condition = condition
        self.neutral = neutral

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Sample, ClipMedia | ClipFeatures]:
        sample = self.samples[index]
        if isinstance(self.neutral, ClipFeatures):
            return sample, self._changed(
                cached_features(self.cache, sample.clip, sample.modality), "video", "audio"
            )
        return sample, self._changed(
            cached_media(self.cache, sample.clip, sample.modality), "frames", "mel"
        )

    def _changed(self, media: Media, picture: str, sound: str) -> Media:
        """The media under the condition: nothing is added that they do not have."""
        replaced = {"muted": sound, "blanked": picture}.get(self.condition)
        if replaced is None or getattr(media, replaced) is None:
            return media
        # What the file's own sound or picture is like says nothing any more.
        about_sound = media.sound_warnings
        about_picture = media.warnings[: len(media.warnings) - len(about_sound)]
        return replace(
            media,
            **{replaced: getattr(self.neutral, replaced)},
            warnings=about_picture if replaced == sound else about_sound,
            sound_warnings=() if replaced == sound else about_sound,
        )


def cached_media(cache: ClipCache, clip: Clip, modality: Modality) -> ClipMedia:
    """A decoded clip out of a cache, with the media of a modality.

    Raises:
        R1OmniError: it is not there any more.
    """
    cached = cache.get(clip)
    media = None if cached is None else unpack_media(cached, modality)
    return _there(media, cache, clip)


def cached_features(cache: ClipCache, clip: Clip, modality: Modality) -> ClipFeatures:
    """The features of a clip out of a cache; otherwise as `cached_media`."""
    tensors, texts = cache.get(clip) or ({}, {})
    needed = [medium for medium in ("video", "audio") if medium in modality]
    features = ClipFeatures(
        tensors.get("video") if "video" in needed else None,
        tensors.get("audio") if "audio" in needed else None,
        read_warnings(texts, modality),
        read_warnings(texts, "audio") if "audio" in needed else (),
    )
    return _there(features if tensors.keys() >= set(needed) else None, cache, clip)


def _there(media: Media | None, cache: ClipCache, clip: Clip) -> Media:
    if media is None:
        raise R1OmniError(
            f"{clip.path}: its entry in the cache {cache.directory} is gone; "
            "start the command again to make it anew"
        )
    return media


def collate(items: Sequence[tuple[Sample, ClipMedia | ClipFeatures]]) -> Batch:
    """Items of a `ClipDataset` as a `Batch`."""
    samples, media = zip(*items, strict=True)
    return Batch(tuple(samples), tuple(media))
