"""The clip cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from r1omni.data.clip_cache import ClipCache
from r1omni.types import Clip


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"content")
    return Clip(path)


TENSORS = {"frames": torch.arange(12, dtype=torch.uint8).view(3, 4), "mel": torch.rand(2, 5)}


def test_what_is_put_is_got(tmp_path: Path, clip: Clip) -> None:
    cache = ClipCache(tmp_path / "cache", "abc")
    assert clip not in cache
    assert cache.get(clip) is None
    cache.put(clip, TENSORS, {"warnings": '["no sound"]'})
    tensors, metadata = cache.get(clip)
    assert metadata == {"warnings": '["no sound"]'}
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert clip in cache
    assert cache.names(clip) == {"frames", "mel"}
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(files) == 1  # no temporary file is left
    assert files[0].parent.name == files[0].name[:2]


def test_other_settings_spans_and_sound_files_are_other_entries(tmp_path: Path, clip: Clip) -> None:
    cache = ClipCache(tmp_path / "cache", "abc")
    cache.put(clip, TENSORS, {})
    assert clip not in ClipCache(tmp_path / "cache", "abd")
    assert Clip(clip.path, start_s=1.0) not in cache
    assert Clip(clip.path, end_s=1.0) not in cache
    assert Clip(clip.path, audio_path=clip.path) not in cache


def test_changed_or_missing_file_is_looked_up_anew(tmp_path: Path, clip: Clip) -> None:
    cache = ClipCache(tmp_path / "cache", "abc")
    cache.put(clip, TENSORS, {})
    status = os.stat(clip.path)
    os.utime(clip.path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    assert clip not in cache
    clip.path.unlink()
    assert clip not in cache
    assert cache.get(clip) is None
    with pytest.raises(FileNotFoundError, match=r"a\.mp4"):
        cache.put(clip, TENSORS, {})


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_truncated_entry_counts_as_absent(tmp_path: Path, clip: Clip, share: float) -> None:
    cache = ClipCache(tmp_path / "cache", "abc")
    cache.put(clip, TENSORS, {})
    (entry,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    data = entry.read_bytes()
    entry.write_bytes(data[: int(len(data) * share)])
    assert clip not in cache
    assert cache.get(clip) is None
    cache.put(clip, TENSORS, {})
    assert clip in cache


@pytest.mark.parametrize("content", [0, 1, 30, 1999, 2000])
def test_padding_is_stored_once(tmp_path: Path, clip: Clip, content: int) -> None:
    mel = torch.full((40, 2000), -1.5)
    mel[:, :content] = torch.rand(40, content)
    cache = ClipCache(tmp_path / "cache", "abc")
    cache.put(clip, {"mel": mel, "empty": torch.zeros(0, 3)}, {"warnings": "[]"})
    tensors, metadata = cache.get(clip)
    assert torch.equal(tensors["mel"], mel)
    assert tensors["empty"].shape == (0, 3)
    assert metadata == {"warnings": "[]"}
    (entry,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert entry.stat().st_size < 40 * 4 * (content + 1) + 600
