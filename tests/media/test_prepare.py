"""Decoding a split into the cache."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from clips import write_clip

from r1omni.data.clip_cache import ClipCache
from r1omni.media.config import MediaConfig
from r1omni.media.packing import unpack_media
from r1omni.media.prepare import prepare_media
from r1omni.media.processor import MediaProcessor
from r1omni.types import Clip, ClipMedia, R1OmniError

CONFIG = MediaConfig(num_frames=2, image_size=16, num_mel_bins=8, audio_length_s=3.0)


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    paths = [write_clip(tmp_path / f"{i}.mp4", num_frames=5 + i) for i in range(6)]
    return [Clip(path) for path in paths]


@pytest.fixture
def cache(tmp_path: Path) -> ClipCache:
    return ClipCache(tmp_path / "cache", CONFIG.fingerprint())


class CountingProcessor(MediaProcessor):
    """Records which clips it decodes, and for which modality."""

    def __init__(self, config: MediaConfig) -> None:
        super().__init__(config)
        self.calls: list[tuple[str, str]] = []

    def load(self, clip: Clip, modality: str = "video_audio") -> ClipMedia:
        self.calls.append((clip.path.name, modality))
        return super().load(clip, modality)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_clips_are_decoded_into_the_cache(clips: list, cache: ClipCache, num_workers: int) -> None:
    processor = MediaProcessor(CONFIG)
    prepared = prepare_media(clips * 2, processor, cache, num_workers, progress=False)
    assert prepared.ok == frozenset(clips)
    assert prepared.broken == {}
    for clip in clips:
        stored = unpack_media(cache.get(clip))
        direct = processor.load(clip)
        assert torch.equal(stored.frames, direct.frames)
        assert torch.allclose(stored.mel, direct.mel, atol=1e-5)


def test_a_clip_is_decoded_once_and_completed_when_needed(clips: list, cache: ClipCache) -> None:
    processor = CountingProcessor(CONFIG)
    prepare_media([clips[0]] * 3, processor, cache, 0, progress=False, modality="audio")
    prepare_media([clips[0]], processor, cache, 0, progress=False, modality="audio")
    assert processor.calls == [("0.mp4", "audio")]
    prepare_media([clips[0]], processor, cache, 0, progress=False)
    assert processor.calls[1:] == [("0.mp4", "video")]
    assert unpack_media(cache.get(clips[0])) is not None


@pytest.mark.parametrize("num_workers", [0, 2])
def test_broken_clips_are_left_out_and_reported(
    clips: list,
    cache: ClipCache,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    num_workers: int,
) -> None:
    clips[1].path.write_bytes(b"")
    gone = Clip(tmp_path / "gone.mp4")
    report = tmp_path / "reports" / "broken.jsonl"
    prepared = prepare_media(
        [*clips, gone],
        MediaProcessor(CONFIG),
        cache,
        num_workers,
        progress=False,
        max_broken_share=0.5,
        report_path=report,
    )
    assert list(prepared.broken) == [clips[1], gone]
    assert prepared.ok == frozenset(clips) - {clips[1]}
    rows = [json.loads(line) for line in report.read_text().splitlines()]
    assert [row["path"] for row in rows] == [str(clips[1].path), str(gone.path)]
    assert "empty (0 bytes)" in rows[0]["reason"]
    assert caplog.text.count("broken clip, left out") == 2


def test_a_report_holds_any_file_name(cache: ClipCache, tmp_path: Path) -> None:
    path = tmp_path / "a\nb \udcff \N{GRINNING FACE}.mp4"  # the byte ff is no UTF-8
    report = tmp_path / "broken.jsonl"
    prepare_media(
        [Clip(path, audio_path=tmp_path / "b.wav")],
        MediaProcessor(CONFIG),
        cache,
        0,
        progress=False,
        max_broken_share=1.0,
        report_path=report,
    )
    [row] = map(json.loads, report.read_text("utf-8").splitlines())
    assert row["path"] == str(path)
    assert row["audio_path"] == str(tmp_path / "b.wav")


def test_too_many_broken_clips_stop_the_run(clips: list, cache: ClipCache) -> None:
    clips[1].path.write_bytes(b"")
    with pytest.raises(R1OmniError, match=r"dfew train: 1 of 6 clips \(16\.7%\).*1\.mp4") as caught:
        prepare_media(
            clips, MediaProcessor(CONFIG), cache, 0, progress=False, description="dfew train"
        )
    assert "max_broken_share" in str(caught.value)
    assert clips[0] in cache  # what was decoded is kept
