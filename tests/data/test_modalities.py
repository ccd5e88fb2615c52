"""Data that have a sound or a picture alone, or one that is damaged, on every way to a batch."""

from __future__ import annotations

import json
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn
from test_datamodule import PROCESSOR, Encoder, module_of

from r1omni.data import DatasetSpec, EmotionDataModule
from r1omni.data.batch import Batch
from r1omni.data.clip_store import ClipStore
from r1omni.media.processor import MediaProcessor
from r1omni.types import MODALITIES, Clip, ClipMedia, Modality, Sample

STAGES = {fn.value: {"fit": "train", "validate": "val"}.get(fn.value, fn.value) for fn in TrainerFn}
SILENCE = "no audio track: silence is used"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sounds, a clip, one without sound, and one whose separate sound is damaged."""
    root = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "media"))
        from clips import write_clip
    for index in range(3):
        with wave.open(str(root / f"{index}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            noise = np.random.default_rng(index).integers(-9999, 9999, 8000)
            file.writeframes(noise.astype("<i2").tobytes())
    write_clip(root / "clip.mp4")
    write_clip(root / "still.mp4", sound=False)
    write_clip(root / "short.mp4", num_frames=1, sound=False)
    write_clip(root / "dubbed.mp4", tone_hz=700.0)
    (root / "damaged.wav").write_bytes((root / "0.wav").read_bytes()[:20])
    (root / "sound.mp4").write_bytes((root / "0.wav").read_bytes())  # no name says what is in it
    return root


def spec(root: Path, modality: Modality, *rows: str) -> DatasetSpec:
    """Rows of `path` or `path,audio` of a list that is written for them."""
    name = f"{modality}-{abs(hash(rows))}.csv"
    lines = [row if "," in row else f"{row}," for row in rows]
    text = "path,audio,label\n" + "".join(f"{line},happy\n" for line in lines)
    (root / name).write_text(text, encoding="utf-8")
    return DatasetSpec("own", ".", split="all", modality=modality, options={"file": name})


def served(module: EmotionDataModule, stage: str, encoder: Encoder | None = None) -> list[Batch]:
    """Every batch that a stage serves of its main split."""
    module.setup(stage)
    module.prepare_clips(PROCESSOR)
    if encoder is not None:
        module.encode_clips(encoder, "towers")
    split = STAGES[stage]
    loaders = getattr(module, f"{split}_dataloader")()
    return [b for loader in (loaders if isinstance(loaders, list) else [loaders]) for b in loader]


def asked_for(batches: Sequence[Batch]) -> list[tuple[str, Modality]]:
    return sorted((s.clip.path.name, s.modality) for batch in batches for s in batch.samples)


class Seen(Encoder):
    """Also records which media it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.media: list[str] = []

    def __call__(self, media: Sequence[ClipMedia]) -> list:
        self.media += [
            "+".join(n for n in ("frames", "mel") if getattr(m, n) is not None) for m in media
        ]
        return super().__call__(media)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("stage", list(STAGES))
@pytest.mark.parametrize(
    ("modality", "files"),
    [("audio", ["0.wav", "1.wav", "2.wav"]), ("video", ["still.mp4", "clip.mp4"])],
)
def test_a_medium_that_is_not_asked_for_is_not_needed(
    recordings: Path, tmp_path: Path, stage: str, modality: Modality, files: list[str],
    encoded: bool,
) -> None:  # fmt: skip
    split = STAGES[stage]
    module = module_of(
        recordings,
        tmp_path,
        loader={"batch_size": 1},
        **{split: [spec(recordings, modality, *files)]},
    )
    encoder = Seen() if encoded else None
    batches = served(module, stage, encoder)
    assert module.broken == {}
    assert asked_for(batches) == sorted((name, modality) for name in files)
    media = [item for batch in batches for item in batch.media]
    names = ("video", "audio") if encoded else ("frames", "mel")
    for item in media:
        assert [getattr(item, name) is not None for name in names] == [
            m == modality for m in ("video", "audio")
        ]
        assert item.warnings == ()
    if encoder is not None:  # nothing goes through a tower that is not asked for
        assert set(encoder.media) == {{"video": "frames", "audio": "mel"}[modality]}


@pytest.mark.parametrize("decode_workers", [0, 1])
def test_a_damaged_medium_costs_those_who_ask_for_it(
    recordings: Path, tmp_path: Path, decode_workers: int
) -> None:
    files = ("dubbed.mp4,damaged.wav", "sound.mp4", "clip.mp4")
    module = module_of(
        recordings, tmp_path / "cache",
        test=[spec(recordings, modality, *files) for modality in MODALITIES],
        loader={"max_broken_ratio": 0.7, "decode_workers": decode_workers},
    )  # fmt: skip
    module.setup("test")
    module.prepare_clips(PROCESSOR, tmp_path)
    batches = [batch for loader in module.test_dataloader() for batch in loader]
    assert asked_for(batches) == [
        *(("clip.mp4", modality) for modality in sorted(MODALITIES)),
        ("dubbed.mp4", "video"),
        ("sound.mp4", "audio"),
    ]
    reasons = {clip.path.name: reason for clip, reason in module.broken.items()}
    assert "damaged.wav" in reasons["dubbed.mp4"] and "no picture" in reasons["sound.mp4"]
    lines = (tmp_path / "broken_clips_test.jsonl").read_text("utf-8").splitlines()
    rows = {Path(row["path"]).name: row["modalities"] for row in map(json.loads, lines)}
    assert rows == {"dubbed.mp4": ["video_audio", "audio"], "sound.mp4": ["video_audio", "video"]}


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("first", [(), ("video_audio",), ("video",), ("audio",)])
def test_silence_stands_for_a_sound_beside_a_picture_only(
    recordings: Path, tmp_path: Path, first: tuple[Modality, ...], encoded: bool
) -> None:
    """Whatever an earlier run has left in the cache."""
    settings = {"max_broken_ratio": 1.0}
    for wanted in (first, MODALITIES):
        module = module_of(
            recordings, tmp_path, loader=settings,
            test=[spec(recordings, modality, "still.mp4", "clip.mp4") for modality in wanted],
        )  # fmt: skip
        if wanted:
            batches = served(module, "test", Encoder() if encoded else None)
    found = {
        (s.clip.path.name, s.modality): media
        for batch in batches
        for s, media in zip(batch.samples, batch.media, strict=True)
    }
    assert ("still.mp4", "audio") not in found and len(found) == 5
    [(clip, reason)] = module.broken.items()
    assert clip.path.name == "still.mp4" and "sound" in reason
    assert found["still.mp4", "video_audio"].warnings == (SILENCE,)
    assert found["still.mp4", "video"].warnings == ()  # it hears none
    assert found["clip.mp4", "video_audio"].warnings == ()
    silence = PROCESSOR.silence()
    if encoded:
        silence = Encoder()([ClipMedia(None, silence)])[0].audio
    heard = found["still.mp4", "video_audio"]
    assert torch.equal(heard.audio if encoded else heard.mel, silence)


def test_an_entry_is_completed_by_what_is_asked_for_later(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Modality] = []
    load = MediaProcessor.load

    def counted(self: MediaProcessor, clip: Clip, modality: Modality = "video_audio") -> ClipMedia:
        decoded.append(modality)
        return load(self, clip, modality)

    monkeypatch.setattr(MediaProcessor, "load", counted)
    seen = []
    for modality in ("audio", "video_audio", "video"):
        encoder = Seen()
        module = module_of(recordings, tmp_path, test=[spec(recordings, modality, "clip.mp4")])
        [batch] = served(module, "test", encoder)
        seen.append(encoder.media[:-1])  # without what stands for a medium that is taken away
    assert decoded == ["audio", "video"]
    assert seen == [["mel"], ["frames"], []]
    whole = Encoder()([load(PROCESSOR, batch.samples[0].clip)])[0]
    assert torch.equal(batch.media[0].video, whole.video)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("modality", ["audio", "video"])
def test_a_condition_replaces_what_is_there(
    recordings: Path, tmp_path: Path, modality: Modality, encoded: bool
) -> None:
    own, other = ("muted", "blanked") if modality == "audio" else ("blanked", "muted")
    name = "0.wav" if modality == "audio" else "clip.mp4"
    module = module_of(
        recordings, tmp_path, test=[spec(recordings, modality, name)],
        conditions=["full", own, other],
    )  # fmt: skip
    full, replaced, untouched = (
        batch.media[0] for batch in served(module, "test", Encoder() if encoded else None)
    )
    attribute = {
        ("audio", True): "audio", ("video", True): "video",
        ("audio", False): "mel", ("video", False): "frames",
    }[modality, encoded]  # fmt: skip
    neutral: object = ClipMedia(PROCESSOR.blank(), PROCESSOR.silence())
    if encoded:
        neutral = Encoder()([neutral])[0]  # type: ignore[list-item]
    assert torch.equal(getattr(replaced, attribute), getattr(neutral, attribute))
    assert torch.equal(getattr(untouched, attribute), getattr(full, attribute))
    assert not torch.equal(getattr(full, attribute), getattr(replaced, attribute))
    for item in (full, replaced, untouched):  # and brings nothing that was not asked for
        present = [
            n for n in ("video", "audio", "frames", "mel") if getattr(item, n, None) is not None
        ]
        assert present == [attribute]


@pytest.mark.parametrize("encoded", [False, True])
def test_warnings_go_with_the_batch(
    recordings: Path, tmp_path: Path, encoded: bool, caplog: pytest.LogCaptureFixture
) -> None:
    files = ("short.mp4", "still.mp4", "clip.mp4")
    module = module_of(
        recordings, tmp_path, test=[spec(recordings, "video_audio", *files)],
        conditions=["full", "muted", "blanked"],
    )  # fmt: skip
    full, muted, blanked = served(module, "test", Encoder() if encoded else None)
    black = "the clip has 1 of 2 frames: black frames fill up"
    assert [m.warnings for m in full.media] == [(black, SILENCE), (SILENCE,), ()]
    assert [m.warnings for m in muted.media] == [(black,), (), ()]
    assert [m.warnings for m in blanked.media] == [(SILENCE,), (SILENCE,), ()]
    [line] = [r.getMessage() for r in caplog.records if "test:" in r.getMessage()]
    assert line == (
        f"test: 2 of 3 clips: 2 x {SILENCE}; 1 x the clip has N of N frames: black frames fill up"
    )


def test_ranks_serve_what_all_of_them_can_decode(recordings: Path, tmp_path: Path) -> None:
    """A clip near the time limit may fail on one rank and not on another."""
    clips = [Clip(recordings / f"{index}.wav") for index in range(3)]
    samples = [Sample(f"own/{clip.path.name}", clip, "?", "audio") for clip in clips]

    def gathered(own: Any) -> list[Any]:
        elsewhere = None if own is None else {(clips[1], "audio"): "1.wav: took too long"}
        return [own, elsewhere]

    store = ClipStore(tmp_path, PROCESSOR, gather=gathered)
    prepared = store.decode("train", samples, 0, 30.0, 0.0, None)
    assert prepared.failed == {(clips[1], "audio"): "1.wav: took too long"}
    assert prepared.broken == {clips[1]: "1.wav: took too long"}
    encoder = Encoder()
    store.encode(encoder, "towers")
    assert encoder.num_clips == 2 + 1  # and silence
