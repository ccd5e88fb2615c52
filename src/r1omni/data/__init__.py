"""Datasets: loaders in their publishers' layouts, the clip cache, batches.

Names are resolved on first use: a process that only decodes clips imports neither transformers
nor lightning.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from r1omni.data.clip_cache import ClipCache
    from r1omni.data.clip_store import ReadsClips
    from r1omni.data.datamodule import EmotionDataModule
    from r1omni.data.loader_config import LoaderConfig
    from r1omni.data.registry import DatasetSpec, load_dataset

_HOMES = {
    "ClipCache": "r1omni.data.clip_cache",
    "DatasetSpec": "r1omni.data.registry",
    "load_dataset": "r1omni.data.registry",
    "EmotionDataModule": "r1omni.data.datamodule",
    "LoaderConfig": "r1omni.data.loader_config",
    "ReadsClips": "r1omni.data.clip_store",
}

__all__ = [
    "ClipCache",
    "DatasetSpec",
    "EmotionDataModule",
    "LoaderConfig",
    "ReadsClips",
    "load_dataset",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
