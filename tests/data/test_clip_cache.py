"""The clip cache."""

from __future__ import annotations

import os
import subprocess
import sys
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from r1omni.data.cache_limit import claim, shrink
from r1omni.data.clip_cache import ClipCache
from r1omni.data.clip_store import ClipStore
from r1omni.data.loader_config import LoaderConfig
from r1omni.media.config import MediaConfig
from r1omni.media.processor import MediaProcessor
from r1omni.types import Clip, ClipFeatures, Sample, UsageError


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


# What is added to an entry, and the size of all --------------------------------------------------


def test_media_that_are_added_together_are_both_kept(tmp_path: Path, clip: Clip) -> None:
    """Several threads, as several runs: each adds one tensor to one entry."""
    cache = ClipCache(tmp_path / "cache", "abc")
    names = [f"medium {index}" for index in range(12)]

    def add(name: str) -> None:
        cache.add(clip, {name: torch.full((3,), float(names.index(name)))}, {f"text {name}": name})

    with ThreadPoolExecutor(len(names)) as threads:
        list(threads.map(add, names))
    tensors, texts = cache.get(clip)
    assert sorted(tensors) == sorted(names)
    assert all(tensors[name].tolist() == [names.index(name)] * 3 for name in names)
    assert texts == {f"text {name}": name for name in names}
    assert cache.header(clip) == (frozenset(names), texts)


def entries_of(root: Path, *names: str) -> list[Path]:
    """Files of 1000 bytes, used one second after the other."""
    paths = []
    for index, name in enumerate(names):
        path = root / "media" / "abc" / "00" / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
        os.utime(path, (1e9 + index, 1e9 + index))
        paths.append(path)
    return paths


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    first, second, third, fourth = entries_of(tmp_path, *"dcba")
    assert shrink(tmp_path, 4000) == 4000
    claim(tmp_path, [first]).close()  # used again: it is the newest now
    assert shrink(tmp_path, 2999) == 2000
    assert not second.exists() and not third.exists()
    assert first.exists() and fourth.exists()
    assert shrink(tmp_path, 0) == 0


def test_what_a_run_has_claimed_stays_while_it_lives(tmp_path: Path) -> None:
    kept, other = entries_of(tmp_path, "kept", "other")
    to_come = kept.with_name("to_come.safetensors")
    holder = (
        "import sys; from pathlib import Path; from r1omni.data.cache_limit import claim\n"
        "root, *entries = map(Path, sys.argv[1:]); held = claim(root, entries)\n"
        "print('claimed', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, tmp_path, kept, to_come],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "claimed\n"
        to_come.write_bytes(bytes(1000))
        assert shrink(tmp_path, 0) == 2000  # what others use is more than the limit
        assert kept.exists() and to_come.exists() and not other.exists()
        process.kill()
        process.wait()
    assert shrink(tmp_path, 0) == 0
    assert list((tmp_path / "runs").glob("*.txt")) == []


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path) -> None:
    (entry,) = entries_of(tmp_path, "a")
    old, new = entry.with_name(".b.1.tmp"), entry.with_name(".b.2.tmp")
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    os.utime(old, (1e9, 1e9))
    shrink(tmp_path, 5000)
    assert entry.exists() and new.exists() and not old.exists()


def test_a_limit_leaves_the_clips_of_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two runs one after the other, of one clip each, with room for one."""
    processor = MediaProcessor(
        MediaConfig(num_frames=2, image_size=64, num_mel_bins=8, audio_length_s=0.5)
    )
    directory = tmp_path / "cache"

    def run(name: str, limit_bytes: float) -> ClipStore:
        sample = Sample(f"own/{name}", Clip(wav(tmp_path / f"{name}.wav")), "?", "audio")
        store = ClipStore(directory, processor, limit_bytes / 1e9)
        store.claim([sample.clip])
        store.decode("test", [sample], 0, 30.0, 0.0, None)
        store.encode(lambda media: [ClipFeatures(None, m.mel) for m in media], "towers")
        store.shrink()
        assert store.dataset([sample])[0][1].audio is not None
        return store

    run("first", 1e9)
    size = sum(path.stat().st_size for path in directory.rglob("*.safetensors"))
    second = run("second", size)
    assert sum(path.stat().st_size for path in directory.rglob("*.safetensors")) == size
    assert caplog.text == ""
    third = run("third", size)  # the second one lives and keeps its clips
    assert "cache_limit_gb" in caplog.text
    for store, name in ((second, "second"), (third, "third")):
        sample = Sample(f"own/{name}", Clip(tmp_path / f"{name}.wav"), "?", "audio")
        assert store.dataset([sample])[0][1].audio is not None


def wav(path: Path) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(torch.randint(-999, 999, (8000,), dtype=torch.int16).numpy().tobytes())
    return path


@pytest.mark.parametrize("limit_gb", [0, -1, float("nan"), float("inf")])
def test_a_limit_that_is_no_size(limit_gb: float) -> None:
    with pytest.raises(UsageError, match=r"data\.loader\.cache_limit_gb"):
        LoaderConfig(cache_limit_gb=limit_gb)
