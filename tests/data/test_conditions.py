"""Sounds that are swapped and frames that are shuffled, the same for any batch and any rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from r1omni.data import DatasetSpec, EmotionDataModule
from r1omni.data.conditions import frame_order, sound_donors
from r1omni.data.loader_config import LoaderConfig
from r1omni.media.config import MediaConfig
from r1omni.media.processor import MediaProcessor
from r1omni.types import Clip, ClipFeatures, ClipMedia, Sample, UsageError

PROCESSOR = MediaProcessor(
    MediaConfig(num_frames=4, image_size=16, num_mel_bins=8, audio_length_s=0.5)
)
LABELS = ("happy", "happy", "sad", "angry")


def sample(index: int, label: str | None, clip: str | None = None) -> Sample:
    return Sample(f"own/{index}", Clip(Path(clip or f"{index}.mp4")), "?", label=label)


# Pure -------------------------------------------------------------------------------------------


def test_a_sound_is_of_another_label_and_the_order_of_the_set_does_not_matter() -> None:
    samples = [sample(i, label) for i, label in enumerate(LABELS * 25)]
    donors = sound_donors(samples, seed=3)
    for own, donor in zip(samples, donors, strict=True):
        assert donor is not None and donor.label != own.label
    assert sound_donors(samples, seed=3) == donors
    assert sound_donors(samples, seed=4) != donors
    assert sound_donors(samples[::-1], seed=3)[::-1] == donors
    # Every label lends to the others, and no few samples lend to all.
    lent = [d.sample_id for d in donors if d is not None]
    assert {d.label for d in donors if d} == set(LABELS)
    assert max(map(lent.count, lent)) < 8


def test_who_cannot_lend_a_sound_and_who_needs_none() -> None:
    own, other = sample(0, "happy"), sample(1, "sad")
    mute = replace(sample(2, "sad"), modality="video")
    assert sound_donors([own, other, mute], 0) == [other, own, None]
    with pytest.raises(UsageError, match="no clip of the test set of own/0 has a"):
        sound_donors([own, mute], 0)
    with pytest.raises(UsageError, match="test set of own/0"):  # silence is no sound
        sound_donors([own, other], 0, silent={other.clip})
    with pytest.raises(UsageError, match="test set of own/0"):  # the same clip under another label
        sound_donors([own, sample(1, "sad", clip="0.mp4")], 0)
    with pytest.raises(UsageError, match="own/5 has no label"):
        sound_donors([own, other, sample(5, None)], 0)


@pytest.mark.parametrize("num_frames", [1, 2, 3, 8])
def test_frames_never_keep_their_order(num_frames: int) -> None:
    plain = list(range(num_frames))
    orders = [frame_order(num_frames, 0, f"own/{i}") for i in range(40)]
    assert all(sorted(order) == plain for order in orders)
    assert [order == plain for order in orders] == [num_frames == 1] * 40
    assert orders == [frame_order(num_frames, 0, f"own/{i}") for i in range(40)]
    if num_frames == 8:
        assert orders != [frame_order(num_frames, 1, f"own/{i}") for i in range(40)]


# Through the data module --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips of different tones, and one without sound."""
    root = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "media"))
        from clips import write_clip
    for index in range(len(LABELS)):
        write_clip(root / f"{index}.mp4", num_frames=8, tone_hz=300.0 * (index + 1))
    write_clip(root / "4.mp4", num_frames=8, sound=False)
    rows = [f"{index}.mp4,{label}\n" for index, label in enumerate((*LABELS, "fear"))]
    (root / "labels.csv").write_text("path,label\n" + "".join(rows), encoding="utf-8")
    (root / "one.csv").write_text("path,label\n" + "".join(rows[:2]), encoding="utf-8")
    return root


def module_of(
    root: Path, cache: Path, batch_size: int, conditions: Sequence[str], file: str = "labels.csv"
) -> EmotionDataModule:
    spec = DatasetSpec("own", ".", split="all", options={"file": file})
    loader = LoaderConfig(decode_workers=0, eval_batch_size=batch_size, cache_dir=str(cache))
    module = EmotionDataModule(root=str(root), test=[spec], conditions=[*conditions], loader=loader)  # type: ignore[list-item]
    module.setup("test")
    module.prepare_clips(PROCESSOR)
    return module


def encode(media: Sequence[ClipMedia]) -> list[ClipFeatures]:
    """Stands in for the towers, frame by frame."""
    return [ClipFeatures(m.frames.float().mean(dim=(2, 3)), m.mel) for m in media]  # type: ignore[union-attr]


@pytest.mark.parametrize("encoded", [False, True])
def test_what_swapped_and_shuffled_change(
    recordings: Path, tmp_path: Path, encoded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def served(batch_size: int, rank: tuple[int, int] = (0, 1)) -> list[dict]:
        module = module_of(recordings, tmp_path, batch_size, ["full", "swapped", "shuffled"])
        if encoded:
            module.encode_clips(encode, "towers")
        monkeypatch.setattr(EmotionDataModule, "_rank", lambda self: rank)
        return [
            {
                s.sample_id: (m.video, m.audio) if encoded else (m.frames, m.mel)
                for batch in loader
                for s, m in zip(batch.samples, batch.media, strict=True)
            }
            for loader in module.test_dataloader()
        ]

    full, swapped, shuffled = served(batch_size=8)
    labels = dict(zip(full, (*LABELS, "fear"), strict=True))
    for name, (picture, sound) in full.items():
        assert torch.equal(swapped[name][0], picture) and torch.equal(shuffled[name][1], sound)
        lenders = {n for n, (_, other) in full.items() if torch.equal(other, swapped[name][1])}
        assert lenders and all(labels[lender] not in (labels[name], "fear") for lender in lenders)
        order = frame_order(len(picture), 0, name)
        assert torch.equal(shuffled[name][0], picture[order])
        assert not torch.equal(shuffled[name][0], picture)
    # Whatever the batch, and whoever of two ranks serves it.
    parts = [served(2), *(served(1, (rank, 2)) for rank in range(2))]
    for part in parts:
        for whole, own in zip((full, swapped, shuffled), part, strict=True):
            for name, media in own.items():
                assert all(map(torch.equal, media, whole[name]))
    assert set(parts[1][1]) | set(parts[2][1]) == set(full)


def test_a_set_of_one_label_is_refused_before_anything_is_answered(
    recordings: Path, tmp_path: Path
) -> None:
    module = module_of(recordings, tmp_path, 2, ["full", "swapped"], file="one.csv")
    with pytest.raises(UsageError, match=r"data\.conditions: no clip of the test set of own/"):
        module.test_dataloader()
