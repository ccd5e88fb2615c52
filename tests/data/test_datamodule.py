"""The data module on a few own recordings: decoding, encoding, conditions, failures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from r1omni.data import DatasetSpec, EmotionDataModule
from r1omni.data.batch import Batch
from r1omni.data.datamodule import EvaluationSet
from r1omni.data.loader_config import LoaderConfig
from r1omni.media.config import MediaConfig
from r1omni.media.processor import MediaProcessor
from r1omni.types import ClipFeatures, ClipMedia, Modality, R1OmniError, UsageError

PROCESSOR = MediaProcessor(
    MediaConfig(num_frames=2, image_size=16, num_mel_bins=8, audio_length_s=0.5)
)
LABELS = ("happy", "sad", "angry", "fear")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips of different tones, a broken one, and their lists."""
    root = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "media"))
        from clips import truncate, write_clip
    for index in range(len(LABELS)):
        write_clip(root / f"{index}.mp4", num_frames=6 + 2 * index, tone_hz=300.0 * (index + 1))
    truncate(write_clip(root / "broken.mp4"), 0.3)
    rows = "".join(f"{index}.mp4,{label}\n" for index, label in enumerate(LABELS))
    (root / "good.csv").write_text("path,label\n" + rows, encoding="utf-8")
    (root / "mixed.csv").write_text(f"path,label\n{rows}broken.mp4,happy\n", encoding="utf-8")
    return root


def spec(file: str = "good.csv", modality: Modality = "video_audio") -> DatasetSpec:
    return DatasetSpec("own", ".", split="all", modality=modality, options={"file": file})


def module_of(
    recordings: Path, cache: Path, *, loader: dict | None = None, **options
) -> EmotionDataModule:
    settings: dict = {"decode_workers": 0, "batch_size": 2, "eval_batch_size": 3}
    config = LoaderConfig(**(settings | {"cache_dir": str(cache)} | (loader or {})))
    return EmotionDataModule(root=str(recordings), loader=config, **options)


class Encoder:
    """Stands in for the towers: means of the frames and of the mel, and a count of clips."""

    def __init__(self) -> None:
        self.num_clips = 0

    def __call__(self, media: Sequence[ClipMedia]) -> list[ClipFeatures]:
        self.num_clips += len(media)
        return [
            ClipFeatures(
                None if item.frames is None else item.frames.float().mean(dim=(2, 3))[:, None],
                None if item.mel is None else item.mel.mean(dim=1)[None],
            )
            for item in media
        ]


def batches_of_test(module: EmotionDataModule, encoder: Encoder | None = None) -> list[list[Batch]]:
    """All batches of `test`, one list for every loader."""
    module.setup("test")
    module.prepare_clips(PROCESSOR)
    if encoder is not None:
        module.encode_clips(encoder, "towers")
    return [list(loader) for loader in module.test_dataloader()]


# Batches ----------------------------------------------------------------------------------------


def test_training_batches(recordings: Path, tmp_path: Path) -> None:
    module = module_of(recordings, tmp_path, train=[spec()])
    module.setup("fit")
    module.prepare_clips(PROCESSOR)
    loader = module.train_dataloader()
    batches = list(loader)
    assert [len(batch) for batch in batches] == [2, 2]
    assert sorted(s.label for batch in batches for s in batch.samples) == sorted(LABELS)
    for batch in batches:
        for sample, media in zip(batch.samples, batch.media, strict=True):
            decoded = PROCESSOR.load(sample.clip)
            assert torch.equal(media.frames, decoded.frames)
            assert torch.equal(media.mel, decoded.mel)
    assert module.broken == {}
    epochs = [[s.sample_id for batch in loader for s in batch.samples] for _ in range(6)]
    assert len({tuple(epoch) for epoch in epochs}) > 1  # shuffled anew


def test_datasets_are_trained_on_together(recordings: Path, tmp_path: Path) -> None:
    module = module_of(recordings, tmp_path, train=[spec(), spec(modality="audio")])
    module.setup("fit")
    module.prepare_clips(PROCESSOR)
    samples = [s for batch in module.train_dataloader() for s in batch.samples]
    assert len(samples) == 8
    assert sorted(s.modality for s in samples) == ["audio"] * 4 + ["video_audio"] * 4


@pytest.mark.parametrize(("batch_size", "wanted"), [(3, [3]), (4, [4]), (5, [4])])
def test_an_incomplete_batch_is_left_out_unless_it_is_the_only_one(
    recordings: Path, tmp_path: Path, batch_size: int, wanted: list[int]
) -> None:
    module = module_of(recordings, tmp_path, train=[spec()], loader={"batch_size": batch_size})
    module.setup("fit")
    module.prepare_clips(PROCESSOR)
    assert [len(batch) for batch in module.train_dataloader()] == wanted


def test_evaluation_keeps_every_sample_in_order(recordings: Path, tmp_path: Path) -> None:
    [batches] = batches_of_test(module_of(recordings, tmp_path, test=[spec()]))
    assert [len(batch) for batch in batches] == [3, 1]
    assert [s.label for batch in batches for s in batch.samples] == list(LABELS)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("modality", ["video_audio", "video", "audio"])
def test_a_batch_carries_the_media_its_prompts_ask_for(
    recordings: Path, tmp_path: Path, modality: Modality, encoded: bool
) -> None:
    module = module_of(recordings, tmp_path, test=[spec(modality=modality)])
    [batches] = batches_of_test(module, Encoder() if encoded else None)
    names = ("video", "audio") if encoded else ("frames", "mel")
    for media in (item for batch in batches for item in batch.media):
        assert isinstance(media, ClipFeatures if encoded else ClipMedia)
        assert (getattr(media, names[0]) is not None) == ("video" in modality)
        assert (getattr(media, names[1]) is not None) == ("audio" in modality)


# Conditions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoded", [False, True])
def test_conditions_change_one_medium_only(recordings: Path, tmp_path: Path, encoded: bool) -> None:
    module = module_of(recordings, tmp_path, test=[spec()], conditions=["full", "muted", "blanked"])
    encoder = Encoder() if encoded else None
    full, muted, blanked = (
        [item for batch in batches for item in batch.media]
        for batches in batches_of_test(module, encoder)
    )
    neutral: ClipMedia | ClipFeatures = ClipMedia(PROCESSOR.blank(), PROCESSOR.silence())
    video, audio = "frames", "mel"
    if encoded:
        neutral, video, audio = Encoder()([neutral])[0], "video", "audio"  # type: ignore[list-item]
    assert len(full) == len(muted) == len(blanked) == len(LABELS)
    for plain, silent, black in zip(full, muted, blanked, strict=True):
        assert torch.equal(getattr(silent, video), getattr(plain, video))
        assert torch.equal(getattr(silent, audio), getattr(neutral, audio))
        assert torch.equal(getattr(black, audio), getattr(plain, audio))
        assert torch.equal(getattr(black, video), getattr(neutral, video))
        assert not torch.equal(getattr(plain, audio), getattr(neutral, audio))
        assert not torch.equal(getattr(plain, video), getattr(neutral, video))


@pytest.mark.parametrize(
    ("modality", "condition", "present"),
    [("video", "muted", "frames"), ("audio", "blanked", "mel")],
)
def test_a_condition_brings_no_medium_that_was_not_asked_for(
    recordings: Path, tmp_path: Path, modality: Modality, condition: str, present: str
) -> None:
    module = module_of(
        recordings, tmp_path, test=[spec(modality=modality)], conditions=["full", condition]
    )
    full, changed = ([m for b in batches for m in b.media] for batches in batches_of_test(module))
    for plain, item in zip(full, changed, strict=True):
        assert (item.frames is None, item.mel is None) == (present == "mel", present == "frames")
        assert torch.equal(getattr(item, present), getattr(plain, present))


def test_validation_and_prediction_see_clips_as_they_are(recordings: Path, tmp_path: Path) -> None:
    module = module_of(
        recordings, tmp_path, val=[spec()], predict=[spec()], test=[spec()], conditions=["muted"]
    )
    for stage in ("validate", "predict"):
        module.setup(stage)
    module.prepare_clips(PROCESSOR)
    for split, loaders in (
        ("val", module.val_dataloader()),
        ("predict", module.predict_dataloader()),
    ):
        assert [item.condition for item in module.evaluation_sets(split)] == ["full"]
        [loader] = loaders
        silence = PROCESSOR.silence()
        assert not any(torch.equal(m.mel, silence) for batch in loader for m in batch.media)


def test_evaluation_sets_name_the_loaders_in_order(recordings: Path, tmp_path: Path) -> None:
    ravdess = DatasetSpec("ravdess", str(tmp_path), split="test", options={"protocol": "8way"})
    (tmp_path / "01-01-03-01-01-01-01.mp4").touch()
    module = module_of(recordings, tmp_path, test=[spec(), ravdess], conditions=["full", "muted"])
    module.setup("test")
    assert module.evaluation_sets("test") == [
        EvaluationSet("own", "all", "full"),
        EvaluationSet("own", "all", "muted"),
        EvaluationSet("ravdess", "ravdess", "full"),
        EvaluationSet("ravdess", "ravdess", "muted"),
    ]
    assert module.evaluation_sets("val") == []
    twice = module_of(recordings, tmp_path, test=[spec(modality="video"), spec(modality="audio")])
    batches = batches_of_test(twice)
    assert [item.name for item in twice.evaluation_sets("test")] == ["own_0", "own_1"]
    assert [loader[0].samples[0].modality for loader in batches] == ["video", "audio"]


# Caching ----------------------------------------------------------------------------------------


def test_a_clip_is_encoded_once_for_each_set_of_towers(recordings: Path, tmp_path: Path) -> None:
    first = Encoder()
    module = module_of(recordings, tmp_path, test=[spec(), spec(modality="audio")])
    [wanted, _] = batches_of_test(module, first)
    assert first.num_clips == len(LABELS) + 1  # each clip once, and black silence

    again = Encoder()
    [found, _] = batches_of_test(
        module_of(
            recordings, tmp_path, test=[spec(), spec("mixed.csv")], loader={"max_broken_ratio": 0.5}
        ),
        again,
    )
    assert again.num_clips == 1  # black silence alone
    for one, other in zip(wanted, found, strict=True):
        for a, b in zip(one.media, other.media, strict=True):
            assert torch.equal(a.video, b.video) and torch.equal(a.audio, b.audio)

    others = Encoder()
    module = module_of(recordings, tmp_path, test=[spec()])
    module.setup("test")
    module.prepare_clips(PROCESSOR)
    module.encode_clips(others, "other towers")
    assert others.num_clips == len(LABELS) + 1


def test_a_clip_is_decoded_once_for_each_setting(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches_of_test(module_of(recordings, tmp_path, test=[spec()]))
    decoded: list[Path] = []
    load = MediaProcessor.load

    def counted(self: MediaProcessor, clip, *arguments) -> ClipMedia:
        decoded.append(clip.path)
        return load(self, clip, *arguments)

    monkeypatch.setattr(MediaProcessor, "load", counted)
    batches_of_test(module_of(recordings, tmp_path, test=[spec()]))
    assert decoded == []
    module = module_of(recordings, tmp_path, test=[spec()])
    module.setup("test")
    module.prepare_clips(PROCESSOR.with_fit("squash"))
    assert sorted(path.name for path in decoded) == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]


def test_a_cache_that_was_emptied_meanwhile(recordings: Path, tmp_path: Path) -> None:
    module = module_of(recordings, tmp_path / "cache", test=[spec()])
    batches_of_test(module)
    for entry in (tmp_path / "cache").rglob("*.safetensors"):
        entry.unlink()
    with pytest.raises(R1OmniError, match=r"0\.mp4.*start the command again"):
        next(iter(module.test_dataloader()[0]))


# Failures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoded", [False, True])
def test_a_broken_clip_is_left_out_and_reported(
    recordings: Path, tmp_path: Path, encoded: bool
) -> None:
    module = module_of(
        recordings, tmp_path / "cache", test=[spec("mixed.csv")], loader={"max_broken_ratio": 0.2}
    )
    module.setup("test")
    module.prepare_clips(PROCESSOR, tmp_path / "run")
    report = tmp_path / "run" / "broken_clips_test.jsonl"
    if encoded:
        module.encode_clips(Encoder(), "towers")
    [(clip, reason)] = module.broken.items()
    assert clip.path == recordings / "broken.mp4" and "broken.mp4" in reason
    [row] = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    assert row["path"] == str(recordings / "broken.mp4") and row["reason"] == reason
    names = [s.clip.path.name for b in module.test_dataloader()[0] for s in b.samples]
    assert names == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]


def test_too_many_broken_clips_stop_the_run(recordings: Path, tmp_path: Path) -> None:
    module = module_of(recordings, tmp_path, train=[spec("mixed.csv")])  # the default: 1 %
    module.setup("fit")
    with pytest.raises(R1OmniError, match=r"1 of 5 clips.*broken\.mp4.*max_broken_ratio"):
        module.prepare_clips(PROCESSOR)


def test_unknown_condition(recordings: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"data\.conditions 'deaf'.*full, muted, blanked"):
        module_of(recordings, tmp_path, test=[spec()], conditions=["full", "deaf"])


@pytest.mark.parametrize(
    ("stage", "split"),
    [("fit", "train"), ("validate", "val"), ("test", "test"), ("predict", "predict")],
)
def test_a_stage_without_a_dataset(
    recordings: Path, tmp_path: Path, stage: str, split: str
) -> None:
    others = {name: [spec()] for name in ("train", "val", "test", "predict") if name != split}
    module = module_of(recordings, tmp_path, **others)
    with pytest.raises(UsageError, match=rf"data\.{split} names no dataset, but `{stage}`"):
        module.setup(stage)


def test_training_needs_no_validation(recordings: Path, tmp_path: Path) -> None:
    module = module_of(recordings, tmp_path, train=[spec()])
    module.setup("fit")
    module.prepare_clips(PROCESSOR)
    assert module.val_dataloader() == []


def test_the_root_is_that_of_the_module(recordings: Path, tmp_path: Path) -> None:
    module = module_of(
        recordings.parent,
        tmp_path,
        test=[DatasetSpec("own", recordings.name, split="all", options={"file": "good.csv"})],
    )
    module.setup("test")
    assert module.samples["test"][0][0].clip.path == recordings / "0.mp4"


def test_each_split_has_its_own_report(recordings: Path, tmp_path: Path) -> None:
    (recordings / "last.csv").write_text("path,label\n3.mp4,fear\n", encoding="utf-8")
    rows = "".join(f"{name}.mp4,sad\n" for name in (0, 1, 2, "broken"))
    (recordings / "rest.csv").write_text(f"path,label\n{rows}", encoding="utf-8")
    splits = {"train": [spec("rest.csv")], "val": [spec("last.csv")]}
    module = module_of(recordings, tmp_path / "c", loader={"max_broken_ratio": 0.25}, **splits)
    module.setup("fit")
    module.prepare_clips(PROCESSOR, tmp_path / "run")
    lines = {p.name: len(p.read_text().splitlines()) for p in (tmp_path / "run").iterdir()}
    assert lines == {"broken_clips_train.jsonl": 1, "broken_clips_val.jsonl": 0}
