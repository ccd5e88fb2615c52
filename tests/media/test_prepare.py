"""Decoding a split into the cache."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import av
import numpy as np
import PIL
import pytest
import torch
import torchaudio
from clips import write_clip

from r1omni.data.clip_cache import ClipCache
from r1omni.media.config import PROCESSING_VERSION, MediaConfig
from r1omni.media.packing import unpack_media
from r1omni.media.prepare import Asked, prepare_media
from r1omni.media.processor import MediaProcessor
from r1omni.types import Clip, ClipMedia, Modality, R1OmniError

CONFIG = MediaConfig(num_frames=2, image_size=16, num_mel_bins=8, audio_length_s=3.0)


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    paths = [write_clip(tmp_path / f"{i}.mp4", num_frames=5 + i) for i in range(6)]
    return [Clip(path) for path in paths]


@pytest.fixture
def cache(tmp_path: Path) -> ClipCache:
    return ClipCache(tmp_path / "cache", CONFIG.fingerprint())


def asked(clips: list[Clip], *modalities: Modality) -> list[Asked]:
    return [(clip, modality) for modality in modalities or ("video_audio",) for clip in clips]


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
    prepared = prepare_media(asked(clips * 2), processor, cache, num_workers, progress=False)
    assert prepared.ok == frozenset(clips)
    assert prepared.broken == {}
    for clip in clips:
        stored = unpack_media(cache.get(clip))
        direct = processor.load(clip)
        assert torch.equal(stored.frames, direct.frames)
        assert torch.allclose(stored.mel, direct.mel, atol=1e-5)


def test_a_clip_is_decoded_once_and_completed_when_needed(clips: list, cache: ClipCache) -> None:
    processor = CountingProcessor(CONFIG)
    prepare_media(asked([clips[0]] * 3, "audio"), processor, cache, 0, progress=False)
    prepare_media(asked([clips[0]], "audio"), processor, cache, 0, progress=False)
    assert processor.calls == [("0.mp4", "audio")]
    prepare_media(asked([clips[0]]), processor, cache, 0, progress=False)
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
        asked([*clips, gone]),
        MediaProcessor(CONFIG),
        cache,
        num_workers,
        progress=False,
        max_broken_ratio=0.5,
        report_path=report,
    )
    assert list(prepared.broken) == [clips[1], gone]
    assert prepared.ok == frozenset(clips) - {clips[1]}
    rows = [json.loads(line) for line in report.read_text().splitlines()]
    assert [row["path"] for row in rows] == [str(clips[1].path), str(gone.path)]
    assert "empty (0 bytes)" in rows[0]["reason"]
    assert caplog.text.count("broken clip: ") == 2


def test_a_report_holds_any_file_name(cache: ClipCache, tmp_path: Path) -> None:
    path = tmp_path / "a\nb \udcff \N{GRINNING FACE}.mp4"  # the byte ff is no UTF-8
    report = tmp_path / "broken.jsonl"
    prepare_media(
        asked([Clip(path, audio_path=tmp_path / "b.wav")]),
        MediaProcessor(CONFIG),
        cache,
        0,
        progress=False,
        max_broken_ratio=1.0,
        report_path=report,
    )
    [row] = map(json.loads, report.read_text("utf-8").splitlines())
    assert row["path"] == str(path)
    assert row["audio_path"] == str(tmp_path / "b.wav")


def test_too_many_broken_clips_stop_the_run(clips: list, cache: ClipCache) -> None:
    clips[1].path.write_bytes(b"")
    with pytest.raises(R1OmniError, match=r"dfew train: 1 of 6 clips \(16\.7%\).*1\.mp4") as caught:
        prepare_media(
            asked(clips), MediaProcessor(CONFIG), cache, 0, progress=False, description="dfew train"
        )
    assert "max_broken_ratio" in str(caught.value)
    assert clips[0] in cache  # what was decoded is kept


# What the cache's key holds -----------------------------------------------------------------------

# Means of tensors that `decoded` gives, by version. Where they differ, raise PROCESSING_VERSION and
# record anew: the code reads other tensors than those that users have on disk.
RECORDED: dict[int, dict[str, list[float]]] = {
    2: {
        "pad": [75.8, 54.4, 57.4, 114.6, 88.6, 74.4],
        "squash": [49.7, 17.6, 22.1, 108.2, 69.1, 47.9],
        "sound": [0.109, -0.238, -0.789, -0.115, 0.073, -0.219, -0.887, -0.889],
    },
}


def decoded(tmp_path: Path) -> dict[str, list[float]]:
    """Figures of a losslessly coded clip: a moving edge, and other tones on two channels."""
    path = tmp_path / "lossless.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=10)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=44_100, layout="stereo")
        for index in range(20):
            picture = np.zeros((64, 96, 3), np.uint8)
            picture[:, : 4 * index + 8] = (200, 40 + 8 * index, 90)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        times = np.arange(44_100 * 2) / 44_100
        tones = [0.5 * np.sin(2 * np.pi * hz * times) for hz in (300, 2000)]
        samples = (np.stack(tones, axis=1) * 2**15).astype(np.int16).reshape(1, -1)
        sound = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
        sound.sample_rate = 44_100
        for packet in (*audio.encode(sound), *audio.encode(), *video.encode()):
            container.mux(packet)
    found = {}
    for fit in ("pad", "squash"):
        media = MediaProcessor(replace(CONFIG, frame_fit=fit)).load(Clip(path, end_s=1.5))
        found[fit] = [round(x, 1) for x in media.frames.float().mean(dim=(2, 3)).flatten().tolist()]
        found["sound"] = [round(x, 3) for x in media.mel.mean(dim=1).tolist()]
    return found


def test_the_version_goes_with_the_code(tmp_path: Path) -> None:
    found = decoded(tmp_path)
    wanted = RECORDED.get(PROCESSING_VERSION, {})
    for name, values in found.items():
        # Libraries that decode and resize differ a little; theirs are in the key by themselves.
        near = {"abs": 0.02 if name == "sound" else 1.5}
        assert values == pytest.approx(wanted.get(name, []), **near), str(found)


def test_other_libraries_are_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {MediaProcessor(CONFIG).fingerprint(), MediaProcessor(CONFIG).fingerprint()}
    for module, name in ((av, "__version__"), (PIL, "__version__"), (torchaudio, "__version__")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, "99.0")
            keys.add(MediaProcessor(CONFIG).fingerprint())
    with monkeypatch.context() as patch:
        patch.setattr(av, "library_versions", {**av.library_versions, "libavcodec": (99, 0, 0)})
        keys.add(MediaProcessor(CONFIG).fingerprint())
    for field in fields(MediaConfig):
        value = getattr(CONFIG, field.name)
        other = {"pad": "squash"}.get(value) if isinstance(value, str) else (
            tuple(v / 2 for v in value) if isinstance(value, tuple) else value * 2
        )  # fmt: skip
        keys.add(MediaProcessor(replace(CONFIG, **{field.name: other})).fingerprint())
    assert len(keys) == 1 + 4 + len(fields(MediaConfig))
