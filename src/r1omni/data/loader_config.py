"""How the data module makes batches: sizes, workers, cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from r1omni.media.workers import CLIP_LIMIT_S
from r1omni.options import (
    SECONDS,
    SEED,
    SHARE,
    WORKERS,
    Conditions,
    OnlyWith,
    Ranges,
    above,
    at_least,
    check_options,
)


@dataclass(frozen=True)
class LoaderConfig:
    """How batches are made.

    Attributes:
        batch_size: prompts in a training batch, on each rank.
        eval_batch_size: prompts in an evaluation batch, on each rank.
        num_workers: processes that read the cache during training; 0 reads in the main process.
        decode_workers: processes that decode clips before training; 0 decodes in the main one,
            which a clip that crashes or hangs the decoder then takes along.
        clip_limit_s: seconds that a clip may take in such a process before it counts as broken.
        seed: of the order of training samples, and of the draws of the conditions swapped and
            shuffled; a command takes `seed_everything` where this is not given.
        max_broken_ratio: share of a split's clips that may fail to decode before the run stops.
        cache_features: keep the frozen towers' features on disk, so that a clip is encoded once.
        cache_dir: where decoded clips and features are kept.
        cache_limit_gb: size of that folder in 10^9 bytes above which the clips that were used
            longest ago are removed from it, those of running commands excepted, as soon as a
            command has prepared its own; None for no limit.

    Raises:
        UsageError: a number out of its range.
    """

    batch_size: int = 16
    eval_batch_size: int = 64
    num_workers: int = 0
    decode_workers: int = 2
    clip_limit_s: float = CLIP_LIMIT_S
    seed: int = 0
    max_broken_ratio: float = 0.01
    cache_features: bool = True
    cache_dir: str = "outputs/cache"
    cache_limit_gb: float | None = None

    RANGES: ClassVar[Ranges] = {
        "batch_size": at_least(1),
        "eval_batch_size": at_least(1),
        "num_workers": WORKERS,
        "decode_workers": WORKERS,
        "clip_limit_s": SECONDS,
        "seed": SEED,
        "max_broken_ratio": SHARE,
        "cache_limit_gb": above(0),
    }
    ONLY_WITH: ClassVar[Conditions] = {
        "clip_limit_s": OnlyWith("decode_workers", "above 0", lambda c: c.decode_workers > 0)
    }

    def __post_init__(self) -> None:
        check_options(self, "data.loader.")
