"""Decoding every clip of a split once, side by side in processes, into a cache.

A clip that cannot be decoded is left out, counted and reported. It is never replaced by another.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from r1omni.media.container import MediaError
from r1omni.media.packing import TENSORS_OF, Entry, merge_entries, pack_media
from r1omni.media.processor import MediaProcessor
from r1omni.types import Clip, Modality, R1OmniError

_logger = logging.getLogger(__name__)

_MAX_CHUNK = 16
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
) -> PreparedMedia:
    """Decode each distinct clip that is not yet cached, and write it to the cache.

    Args:
        clips: clips of one split; repeated ones are decoded once.
        processor: how to decode.
        cache: where to; its fingerprint must belong to the processor's configuration.
        num_workers: processes; 0 decodes in this process.
        progress: show a bar.
        max_broken_share: largest share of the distinct clips that may be broken, 0..1.
        description: name of the split, for the bar and the messages.
        report_path: where the broken clips are written, one JSON object a line.
        modality: which media to decode; an entry that lacks one of them is completed.

    Raises:
        R1OmniError: more than `max_broken_share` of the clips are broken, or a worker died.
    """
    distinct = list(dict.fromkeys(clips))
    needed = frozenset(TENSORS_OF[modality])
    missing = [clip for clip in distinct if not needed <= (cache.names(clip) or frozenset())]
    broken: dict[Clip, str] = {}
    with tqdm(
        total=len(missing), desc=description, unit="clip", disable=not progress or not missing
    ) as bar:
        results = _in_processes if num_workers > 0 and len(missing) > 1 else _in_this_process
        for clip, reason in results(missing, processor, cache, modality, num_workers):
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
    with path.open("w", encoding="utf-8") as report:
        for clip, reason in broken.items():
            row = {
                "path": str(clip.path),
                "start_s": clip.start_s,
                "end_s": clip.end_s,
                "reason": reason,
            }
            report.write(json.dumps(row, ensure_ascii=False) + "\n")


Results = Iterator[tuple[Clip, str | None]]


def _in_this_process(
    clips: list[Clip],
    processor: MediaProcessor,
    cache: MediaCache,
    modality: Modality,
    num_workers: int,
) -> Results:
    for clip in clips:
        yield clip, _prepare_one(clip, processor, cache, modality)


def _in_processes(
    clips: list[Clip],
    processor: MediaProcessor,
    cache: MediaCache,
    modality: Modality,
    num_workers: int,
) -> Results:
    # Not fork: the parent may hold threads and a CUDA context. A fork server imports torch once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["r1omni.media.prepare"])
    size = max(1, min(_MAX_CHUNK, len(clips) // (4 * num_workers)))
    chunks = [clips[i : i + size] for i in range(0, len(clips), size)]
    with ProcessPoolExecutor(
        min(num_workers, len(chunks)),
        mp_context=context,
        initializer=_start_worker,
        initargs=(processor, cache, modality),
    ) as pool:
        futures: dict[Future[list[str | None]], list[Clip]] = {
            pool.submit(_prepare_chunk, chunk): chunk for chunk in chunks
        }
        unfinished = list(chunks)
        try:
            for future in as_completed(futures):
                chunk = futures[future]
                reasons = future.result()
                unfinished.remove(chunk)
                yield from zip(chunk, reasons, strict=True)
        except BrokenProcessPool as error:
            # Chunks are taken in order, so the fatal clip is among the first unfinished ones.
            suspects = [clip for chunk in unfinished[: num_workers + 1] for clip in chunk]
            raise R1OmniError(_worker_died(suspects)) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _worker_died(suspects: list[Clip]) -> str:
    return (
        "a process decoding clips died (out of memory, killed, or a crash in the decoder) on one "
        f"of {len(suspects)} clips from {suspects[0].path} to {suspects[-1].path}; run again with "
        "fewer workers, or with num_workers=0 to see which clip it is; finished clips are kept"
    )


# The one global: a worker process gets its processor once, not with every chunk.
_worker: tuple[MediaProcessor, MediaCache, Modality] | None = None


def _start_worker(processor: MediaProcessor, cache: MediaCache, modality: Modality) -> None:
    global _worker
    torch.set_num_threads(1)  # the processes share the cores
    _worker = (processor, cache, modality)


def _prepare_chunk(clips: list[Clip]) -> list[str | None]:
    """Reasons why clips are broken, None for good ones."""
    assert _worker is not None  # set by the pool's initializer
    processor, cache, modality = _worker
    return [_prepare_one(clip, processor, cache, modality) for clip in clips]


def _prepare_one(
    clip: Clip, processor: MediaProcessor, cache: MediaCache, modality: Modality
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
        entry = pack_media(processor.load(clip, wanted))
    except MediaError as error:
        return str(error)
    if present is not None:
        entry = merge_entries(present, entry)
    cache.put(clip, *entry)
    return None
