"""Decoding every clip of a split once, side by side in processes, into a cache.

A clip that cannot be decoded is left out, counted and reported. It is never replaced by another.
Picture and sound are told apart: what asks for the picture alone does without a damaged sound.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from torch import Tensor
from tqdm import tqdm

from r1omni.media.container import MediaError, explained
from r1omni.media.packing import TENSORS_OF, pack_media, read_warnings, union
from r1omni.media.processor import MediaProcessor
from r1omni.media.workers import CLIP_LIMIT_S, in_workers
from r1omni.types import NUM_EXAMPLES, Clip, ClipMedia, Modality, R1OmniError

_logger = logging.getLogger(__name__)

# How warnings end where a clip had no sound.
_SILENCE = "silence is used"
_MEDIA: dict[Modality, tuple[Modality, ...]] = {
    "video_audio": ("video", "audio"),
    "video": ("video",),
    "audio": ("audio",),
}

# A clip, and what one of its samples asks for.
Asked = tuple[Clip, Modality]


class MediaCache(Protocol):
    """What `prepare_media` needs of `r1omni.data.clip_cache.ClipCache`."""

    def add(self, clip: Clip, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None: ...

    def header(self, clip: Clip) -> tuple[frozenset[str], dict[str, str]] | None: ...


@dataclass(frozen=True)
class PreparedMedia:
    """Outcome of `prepare_media`.

    Attributes:
        ok: clips of which everything that is asked for lies in the cache.
        broken: the other clips, with the reason of each.
        failed: what of them cannot be had, with the reason.
        warnings: what a person should know about what can be had; without those that have none.
    """

    ok: frozenset[Clip]
    broken: dict[Clip, str] = field(default_factory=dict)
    failed: dict[Asked, str] = field(default_factory=dict)
    warnings: dict[Asked, tuple[str, ...]] = field(default_factory=dict)


def prepare_media(
    asked: Iterable[Asked],
    processor: MediaProcessor,
    cache: MediaCache,
    num_workers: int,
    progress: bool = True,
    max_broken_ratio: float = 0.01,
    description: str = "decoding clips",
    report_path: Path | None = None,
    clip_limit_s: float = CLIP_LIMIT_S,
) -> PreparedMedia:
    """Decode of each clip what is asked for and not yet cached, and write it to the cache.

    Silence stands for a missing sound beside a picture. Where a sound alone is asked for, a clip
    without one is broken.

    Args:
        asked: clips of one split, each with the modality of a sample; all that is asked of a clip
            is decoded together and once.
        processor: how to decode.
        cache: where to; its fingerprint must be the processor's. An entry that lacks a medium is
            completed.
        num_workers: processes; 0 decodes in this process, which a clip that crashes the decoder
            or hangs it then takes along.
        progress: show a bar.
        max_broken_ratio: largest share of the distinct clips that may be broken, 0..1.
        description: name of the split, for the bar and the messages.
        report_path: where the broken clips are written, one JSON object a line.
        clip_limit_s: seconds that a clip may take in a worker; beyond them it is broken.

    Raises:
        R1OmniError: more than `max_broken_ratio` of the clips are broken, or a worker cannot be
            started.
    """
    modalities: dict[Clip, dict[Modality, None]] = {}
    for clip, modality in asked:
        modalities.setdefault(clip, {})[modality] = None
    missing: dict[Modality, list[Clip]] = {"video_audio": [], "video": [], "audio": []}
    for clip, wanted in modalities.items():
        lacking = _lacking(cache, clip, wanted)
        if lacking is not None:
            missing[lacking].append(clip)
    reasons: dict[Asked, str] = {}
    with tqdm(
        total=sum(map(len, missing.values())),
        desc=description,
        unit="clip",
        disable=not progress or not any(missing.values()),
    ) as bar:
        for modality, clips in missing.items():  # both first: it may leave single ones to do
            work = partial(_prepare_one, processor, cache, modality)
            for clip, reason in _outcomes(clips, work, num_workers, clip_limit_s):
                bar.update()
                if reason is None:
                    continue
                if modality == "video_audio" and set(modalities[clip]) != {"video_audio"}:
                    for medium in _MEDIA[modality]:  # which of the two is it?
                        missing[medium].append(clip)
                else:
                    reasons |= {(clip, medium): reason for medium in _MEDIA[modality]}
    prepared = _outcome(modalities, reasons, cache)
    for reason in prepared.broken.values():
        _logger.warning("broken clip: %s", reason)
    if report_path is not None:
        _write_report(report_path, prepared)
    if len(prepared.broken) > max_broken_ratio * len(modalities):
        raise R1OmniError(
            _too_many(prepared.broken, len(modalities), max_broken_ratio, description)
        )
    return prepared


def _lacking(cache: MediaCache, clip: Clip, wanted: Collection[Modality]) -> Modality | None:
    """What has to be decoded of a clip, if anything."""
    header = cache.header(clip)
    names = frozenset() if header is None else header[0]
    media = [m for m in _MEDIA[union(wanted)] if not names.issuperset(TENSORS_OF[m])]
    return union(media) if media else None


def _outcomes(
    clips: list[Clip], work: partial[str | None], num_workers: int, clip_limit_s: float
) -> Iterator[tuple[Clip, str | None]]:
    if num_workers > 0:
        yield from in_workers(clips, work, num_workers, clip_limit_s)
    else:
        yield from ((clip, work(clip)) for clip in clips)


def _outcome(
    modalities: dict[Clip, dict[Modality, None]], reasons: dict[Asked, str], cache: MediaCache
) -> PreparedMedia:
    """What can be had of what is asked for, and what cannot, in the order of the split.

    Args:
        modalities: what is asked of each clip.
        reasons: why a medium of a clip cannot be had.
        cache: holds the others.
    """
    failed: dict[Asked, str] = {}
    warnings: dict[Asked, tuple[str, ...]] = {}
    for clip, wanted in modalities.items():
        header = cache.header(clip)
        texts = {} if header is None else header[1]
        for modality in wanted:
            why = [reasons[clip, m] for m in _MEDIA[modality] if (clip, m) in reasons]
            found = read_warnings(texts, modality)
            if modality == "audio" and any(_SILENCE in warning for warning in found):
                what = "has no sound, and nothing else is asked of it; leave it out, or ask for"
                why.append(str(MediaError(f"{clip.path}: {what} its picture")))
            if why:
                failed[clip, modality] = "; ".join(dict.fromkeys(why))
            elif found:
                warnings[clip, modality] = found
    broken: dict[Clip, str] = {}
    for (clip, _), reason in failed.items():
        broken.setdefault(clip, reason)
    return PreparedMedia(frozenset(modalities.keys() - broken.keys()), broken, failed, warnings)


def warning_counts(warnings: Iterable[Iterable[str]]) -> dict[str, int]:
    """How many of some clips have each kind of warning, the most frequent first.

    Args:
        warnings: those of each clip; they are of one kind when they differ in numbers alone.
    """
    kinds = Counter(
        kind for found in warnings for kind in {re.sub(r"\d+(\.\d+)?", "N", w) for w in found}
    )
    return dict(kinds.most_common())


def _too_many(broken: dict[Clip, str], total: int, limit: float, description: str) -> str:
    reasons = list(broken.values())[:NUM_EXAMPLES]
    more = f" and {len(broken) - len(reasons)} more" if len(broken) > len(reasons) else ""
    return (
        f"{description}: {len(broken)} of {total} clips ({len(broken) / total:.1%}) cannot be "
        f"decoded, {limit:.1%} are allowed: {'; '.join(reasons)}{more}. Restore these files or "
        f"check the data root; to continue without them raise data.loader.max_broken_ratio"
    )


def _write_report(path: Path, prepared: PreparedMedia) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A byte of a file name that is no UTF-8 is a surrogate in Python; its escape is valid JSON.
    with path.open("w", encoding="utf-8", errors="backslashreplace") as report:
        for clip, reason in prepared.broken.items():
            row = {
                "path": str(clip.path),
                "audio_path": None if clip.audio_path is None else str(clip.audio_path),
                "start_s": clip.start_s,
                "end_s": clip.end_s,
                "modalities": [m for broken, m in prepared.failed if broken == clip],
                "reason": reason,
            }
            report.write(json.dumps(row, ensure_ascii=False) + "\n")


def _prepare_one(
    processor: MediaProcessor, cache: MediaCache, modality: Modality, clip: Clip
) -> str | None:
    """Decode a clip into the cache; the reason when it is broken. Other errors are raised."""
    header = cache.header(clip)
    try:
        media = _load(processor, clip, modality, header is not None and "frames" in header[0])
    except MediaError as error:
        return str(error)
    except MemoryError as error:
        return str(MediaError(f"{clip.path}: takes too much memory {explained(error)}"))
    cache.add(clip, *pack_media(media))
    return None


def _load(
    processor: MediaProcessor, clip: Clip, modality: Modality, has_picture: bool
) -> ClipMedia:
    """Decode a clip, or the sound that belongs to a picture, which may be silence."""
    try:
        return processor.load(clip, modality)
    except MediaError:
        if modality != "audio" or not has_picture:
            raise
    return processor.load(clip, modality, silence=True)
