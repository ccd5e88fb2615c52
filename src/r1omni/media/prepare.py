"""Decoding every clip of a split once, side by side in processes, into a cache.

A clip that cannot be decoded is left out, counted and reported. It is never replaced by another.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from torch import Tensor
from tqdm import tqdm

from r1omni.media.container import MediaError, explained
from r1omni.media.packing import TENSORS_OF, Entry, merge_entries, pack_media
from r1omni.media.processor import MediaProcessor
from r1omni.media.workers import CLIP_LIMIT_S, in_workers
from r1omni.types import Clip, Modality, R1OmniError

_logger = logging.getLogger(__name__)

_NUM_EXAMPLES = 5


class MediaCache(Protocol):
    """What `prepare_media` needs of `r1omni.data.clip_cache.ClipCache`."""

    def get(self, clip: Clip) -> Entry | None: ...

    def put(self, clip: Clip, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None: ...

    def names(self, clip: Clip) -> frozenset[str] | None: ...


@dataclass(frozen=True)
class PreparedMedia:
    """Outcome of `prepare_media`.

    Attributes:
        ok: clips that lie in the cache.
        broken: clips that could not be decoded, with the reason of each.
    """

    ok: frozenset[Clip]
    broken: dict[Clip, str] = field(default_factory=dict)


def prepare_media(
    clips: Sequence[Clip],
    processor: MediaProcessor,
    cache: MediaCache,
    num_workers: int,
    progress: bool = True,
    max_broken_share: float = 0.01,
    description: str = "decoding clips",
    report_path: Path | None = None,
    modality: Modality = "video_audio",
    clip_limit_s: float = CLIP_LIMIT_S,
) -> PreparedMedia:
    """Decode each distinct clip that is not yet cached, and write it to the cache.

    Args:
        clips: clips of one split; repeated ones are decoded once.
        processor: how to decode.
        cache: where to; its fingerprint must belong to the processor's configuration.
        num_workers: processes; 0 decodes in this process, which a clip that crashes the decoder
            or hangs it then takes along.
        progress: show a bar.
        max_broken_share: largest share of the distinct clips that may be broken, 0..1.
        description: name of the split, for the bar and the messages.
        report_path: where the broken clips are written, one JSON object a line.
        modality: which media to decode; an entry that lacks one of them is completed.
        clip_limit_s: seconds that a clip may take in a worker; beyond them it is broken.

    Raises:
        R1OmniError: more than `max_broken_share` of the clips are broken, or a worker cannot be
            started.
    """
    distinct = list(dict.fromkeys(clips))
    needed = frozenset(TENSORS_OF[modality])
    missing = [clip for clip in distinct if not needed <= (cache.names(clip) or frozenset())]
    broken: dict[Clip, str] = {}
    with tqdm(
        total=len(missing), desc=description, unit="clip", disable=not progress or not missing
    ) as bar:
        work = partial(_prepare_one, processor, cache, modality)
        results: Iterable[tuple[Clip, str | None]]
        if num_workers > 0:
            results = in_workers(missing, work, num_workers, clip_limit_s)
        else:
            results = ((clip, work(clip)) for clip in missing)
        for clip, reason in results:
            if reason is not None:
                broken[clip] = reason
                _logger.warning("broken clip, left out: %s", reason)
            bar.update()
    broken = {clip: broken[clip] for clip in distinct if clip in broken}  # order of the split
    if report_path is not None:
        _write_report(report_path, broken)
    if len(broken) > max_broken_share * len(distinct):
        raise R1OmniError(_too_many(broken, len(distinct), max_broken_share, description))
    return PreparedMedia(ok=frozenset(distinct) - broken.keys(), broken=broken)


def _too_many(broken: dict[Clip, str], total: int, limit: float, description: str) -> str:
    reasons = list(broken.values())[:_NUM_EXAMPLES]
    more = f" and {len(broken) - len(reasons)} more" if len(broken) > len(reasons) else ""
    return (
        f"{description}: {len(broken)} of {total} clips ({len(broken) / total:.1%}) cannot be "
        f"decoded, {limit:.1%} are allowed: {'; '.join(reasons)}{more}. Restore these files or "
        f"check the data root; to go on without them raise max_broken_share"
    )


def _write_report(path: Path, broken: dict[Clip, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A byte of a file name that is no UTF-8 is a surrogate in Python; its escape is valid JSON.
    with path.open("w", encoding="utf-8", errors="backslashreplace") as report:
        for clip, reason in broken.items():
            row = {
                "path": str(clip.path),
                "audio_path": None if clip.audio_path is None else str(clip.audio_path),
                "start_s": clip.start_s,
                "end_s": clip.end_s,
                "reason": reason,
            }
            report.write(json.dumps(row, ensure_ascii=False) + "\n")


def _prepare_one(
    processor: MediaProcessor, cache: MediaCache, modality: Modality, clip: Clip
) -> str | None:
    """Decode a clip into the cache; the reason when it is broken. Other errors are raised."""
    present = cache.get(clip)
    wanted = modality
    if present is not None and modality == "video_audio":
        if "frames" in present[0]:
            wanted = "audio"
        elif "mel" in present[0]:
            wanted = "video"
    try:
        if wanted == "audio" != modality:
            # The picture is there already; beside it, missing sound is silence.
            media = processor.load(clip, wanted, silence=True)
        else:
            media = processor.load(clip, wanted)
        entry = pack_media(media)
    except MediaError as error:
        return str(error)
    except MemoryError as error:
        return str(MediaError(f"{clip.path}: takes too much memory {explained(error)}"))
    if present is not None:
        entry = merge_entries(present, entry)
    cache.put(clip, *entry)
    return None
