"""The clips of a run: each decoded once and, by frozen towers, encoded once, on disk."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

from torch import Tensor
from tqdm import tqdm

from r1omni.data.batch import ClipDataset, cached_media
from r1omni.data.cache_limit import claim, shrink
from r1omni.data.clip_cache import ClipCache
from r1omni.media.packing import pack_media, union
from r1omni.media.prepare import Asked, PreparedMedia, prepare_media, warning_counts
from r1omni.media.processor import MediaProcessor
from r1omni.types import Clip, ClipFeatures, ClipMedia, Modality, Sample

_logger = logging.getLogger(__name__)

Encoder = Callable[[Sequence[ClipMedia]], list[ClipFeatures]]
_ENCODE_BATCH = 32
_GB = 1e9


@runtime_checkable
class ReadsClips(Protocol):
    """What `EmotionDataModule` asks of the LightningModule that its batches are for.

    It asks when Lightning wants the first loader of a command: the model is then where it computes,
    with a checkpoint's weights.
    """

    @property
    def clip_processor(self) -> MediaProcessor:
        """Decodes and processes clips as the model reads them."""

    @property
    def report_dir(self) -> Path | None:
        """Folder for `broken_clips_<split>.jsonl`; None for no such file."""

    @property
    def splits_batches(self) -> bool:
        """Whether ranks train on different samples; else all on the whole batch, each on its part
        of every prompt's completions.
        """

    def encode_clips(self) -> None:
        """Call `EmotionDataModule.encode_clips` where batches are to carry features."""


class ClipStore:
    """Caches of decoded clips and of their features, and what several ranks do of the work.

    Args:
        directory: root of the caches.
        processor: decodes and processes.
        limit_gb: size of the caches in 10^9 bytes above which the entries that were used longest
            ago are removed, those of living runs excepted; None for no limit.
        rank, num_ranks: this process does every `num_ranks`-th clip.
        gather: gives what every rank hands in, when all have called it.
    """

    def __init__(
        self,
        directory: Path,
        processor: MediaProcessor,
        limit_gb: float | None = None,
        rank: int = 0,
        num_ranks: int = 1,
        gather: Callable[[Any], list[Any]] = lambda own: [own],
    ) -> None:
        self.directory = Path(directory)
        self.processor = processor
        self._limit_gb = limit_gb
        self._rank, self._num_ranks, self._gather = rank, num_ranks, gather
        self._media = ClipCache(self.directory / "media", processor.fingerprint())
        self._features: ClipCache | None = None
        # Silence and black frames, in the form of what `dataset` serves.
        self.neutral: ClipMedia | ClipFeatures = ClipMedia(processor.blank(), processor.silence())
        # What the samples ask of each clip that can be had.
        self._asked: dict[Clip, set[Modality]] = {}
        self._claims: list[IO[str]] = []

    def decode(
        self,
        split: str,
        samples: Sequence[Sample],
        num_workers: int,
        clip_limit_s: float,
        max_broken_ratio: float,
        report_dir: Path | None,
    ) -> PreparedMedia:
        """Decode of every clip what the samples of a split ask for; `claim` comes before.

        Args:
            split: its name, for messages.
            samples: all of the split.
            num_workers, clip_limit_s, max_broken_ratio: as for `prepare_media`.
            report_dir: folder for `broken_clips_<split>.jsonl`, one line a broken clip.

        Raises:
            R1OmniError: more than `max_broken_ratio` of the clips are broken.
        """
        asked: list[Asked] = list(dict.fromkeys((s.clip, s.modality) for s in samples))
        prepare = partial(
            prepare_media,
            processor=self.processor,
            cache=self._media,
            num_workers=num_workers,
            description=f"decoding {split} clips",
            clip_limit_s=clip_limit_s,
        )
        if self._num_ranks > 1:  # each decodes its part, and then finds that of the others
            clips = list(dict.fromkeys(clip for clip, _ in asked))
            own = frozenset(clips[self._rank :: self._num_ranks])
            prepare([item for item in asked if item[0] in own], max_broken_ratio=1.0)
            self._gather(None)
        report = report_dir / f"broken_clips_{split}.jsonl" if report_dir else None
        prepared = prepare(
            asked,
            max_broken_ratio=max_broken_ratio,
            report_path=report if self._rank == 0 else None,
        )
        # A clip may fail here and not there, where it takes as long as it may; ranks must agree.
        for elsewhere in self._gather(prepared.failed):
            for (clip, modality), reason in elsewhere.items():
                prepared.failed.setdefault((clip, modality), reason)
                prepared.broken.setdefault(clip, reason)
        for clip, modality in asked:
            if (clip, modality) not in prepared.failed:
                self._asked.setdefault(clip, set()).add(modality)
        self._tell_warnings(split, prepared, len(asked))
        return prepared

    def _tell_warnings(self, split: str, prepared: PreparedMedia, total: int) -> None:
        counts = warning_counts(prepared.warnings.values())
        if counts and self._rank == 0:
            kinds = "; ".join(f"{count} x {kind}" for kind, count in counts.items())
            _logger.warning("%s: %d of %d clips: %s", split, len(prepared.warnings), total, kinds)

    def encode(self, encode: Encoder, fingerprint: str) -> None:
        """Run the towers over what is asked of every clip, once; `dataset` then serves features.

        Args:
            encode: decoded clips to features.
            fingerprint: of what features depend on besides the decoded clips.
        """
        cache = ClipCache(self.directory / "features", f"{self._media.fingerprint}-{fingerprint}")
        self.claim(self._asked, cache)
        waiting: list[Asked] = []
        for clip in list(self._asked)[self._rank :: self._num_ranks]:
            wanted = union(self._asked[clip])
            # Tensors of features have the media's names.
            lacking = {m for m in ("video", "audio") if m in wanted} - (cache.names(clip) or set())
            if lacking:
                waiting.append((clip, union(lacking)))  # type: ignore[arg-type]
        for start in tqdm(
            range(0, len(waiting), _ENCODE_BATCH),
            desc="encoding clips",
            unit="batch",
            disable=not waiting,
        ):
            chunk = waiting[start : start + _ENCODE_BATCH]
            media = [cached_media(self._media, *asked) for asked in chunk]
            for (clip, _), one, features in zip(chunk, media, encode(media), strict=True):
                cache.add(clip, _tensors(features), pack_media(one)[1])
        self._gather(None)
        if isinstance(self.neutral, ClipMedia):
            self.neutral = self._encoded_neutral(self.neutral, encode)
        self._features = cache

    def _encoded_neutral(self, media: ClipMedia, encode: Encoder) -> ClipFeatures:
        asked = union(set().union(*self._asked.values())) if self._asked else "video_audio"
        known = ClipMedia(
            media.frames if "video" in asked else None, media.mel if "audio" in asked else None
        )
        tensors = _tensors(encode([known])[0])
        return ClipFeatures(tensors.get("video"), tensors.get("audio"))

    def dataset(
        self, samples: Sequence[Sample], condition: str = "full", seed: int = 0
    ) -> ClipDataset:
        """Samples with their clips, encoded if they are, under a condition."""
        cache = self._features or self._media
        return ClipDataset(samples, cache, condition, self.neutral, seed)

    def claim(self, clips: Iterable[Clip], cache: ClipCache | None = None) -> None:
        """Keep the entries of clips, there or yet to come, from being removed by other runs."""
        where = cache or self._media
        paths = [path for clip in clips if (path := where.path_of(clip)) is not None]
        if self._rank == 0:
            try:
                self._claims.append(claim(self.directory, paths))
            except OSError as error:
                # A complete cache may be read from where nothing can be written.
                if error.errno not in (errno.EACCES, errno.EROFS):
                    raise
        self._gather(None)

    def shrink(self) -> None:
        """Bring the caches within their limit; for when everything of this run is there."""
        if self._limit_gb is None or self._rank != 0:
            return
        left_gb = shrink(self.directory, self._limit_gb * _GB) / _GB
        if left_gb > self._limit_gb:
            _logger.warning(
                "%s: the clips of running commands take %.3g GB, more than "
                "data.loader.cache_limit_gb %g",
                self.directory,
                left_gb,
                self._limit_gb,
            )


def _tensors(features: ClipFeatures) -> dict[str, Tensor]:
    named = {"video": features.video, "audio": features.audio}
    return {name: tensor.cpu() for name, tensor in named.items() if tensor is not None}
