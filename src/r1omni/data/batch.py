"""Samples with their media, put side by side; nothing is tokenized or padded yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch.utils.data import Dataset

from r1omni.data.clip_cache import ClipCache
from r1omni.data.conditions import frame_order, sound_donors
from r1omni.media.audio import SILENCE_USED
from r1omni.media.packing import read_warnings, unpack_media
from r1omni.media.taken_away import Media, with_picture, with_sound
from r1omni.types import TAKEN_AWAY, Clip, ClipFeatures, ClipMedia, Modality, R1OmniError, Sample


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
        condition: "full", "muted" (sound replaced by silence), "blanked" (picture by black),
            "swapped" (sound by that of a sample of another label, `sound_donors`) or "shuffled"
            (frames in another order).
        neutral: silence and black frames in the cache's form: `ClipFeatures` say that it holds
            features.
        seed: of the condition's draws.

    Raises:
        UsageError: "swapped", and a sample that no other can lend a sound.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        cache: ClipCache,
        condition: str,
        neutral: ClipMedia | ClipFeatures,
        seed: int = 0,
    ) -> None:
        self.samples = tuple(samples)
        self.cache = cache
        self.condition = condition
        self.neutral = neutral
        self.seed = seed
        self._donors: list[Sample | None] = []
        if condition == "swapped":
            self._donors = sound_donors(self.samples, seed, self._silent())

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Sample, ClipMedia | ClipFeatures]:
        sample = self.samples[index]
        if isinstance(self.neutral, ClipFeatures):
            features = cached_features(self.cache, sample.clip, sample.modality)
            return sample, self._changed(index, features, "video", "audio")
        media = cached_media(self.cache, sample.clip, sample.modality)
        return sample, self._changed(index, media, "frames", "mel")

    def _lent(self, index: int) -> ClipMedia | ClipFeatures | None:
        """The sound that takes the place of a sample's own; None where none does."""
        donor = self._donors[index] if self._donors else None
        if donor is None:
            return None
        read = cached_features if isinstance(self.neutral, ClipFeatures) else cached_media
        return read(self.cache, donor.clip, "audio")

    def _silent(self) -> set[Clip]:
        """Clips that silence stands in for."""
        clips = {s.clip for s in self.samples if "audio" in s.modality}
        texts = {clip: (self.cache.header(clip) or ((), {}))[1] for clip in clips}
        return {
            clip
            for clip, text in texts.items()
            if any(told.endswith(SILENCE_USED) for told in read_warnings(text, "audio"))
        }

    def _changed(self, index: int, media: Media, picture: str, sound: str) -> Media:
        """The media under the condition: nothing is added that they do not have."""
        frames, lent = getattr(media, picture), self._lent(index)
        taken = {self.samples[index].missing, TAKEN_AWAY.get(self.condition)}
        if "audio" in taken and getattr(media, sound) is not None:
            return with_sound(media, sound, self.neutral)
        if self.condition == "swapped" and lent is not None:
            return with_sound(media, sound, lent)
        if "video" in taken and frames is not None:
            return with_picture(media, picture, self.neutral)
        if self.condition == "shuffled" and frames is not None:
            order = frame_order(len(frames), self.seed, self.samples[index].sample_id)
            return replace(media, **{picture: frames[order]})
        return media


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
