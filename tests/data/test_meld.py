"""MELD as its publisher ships it, and as copies have it."""

from __future__ import annotations

from pathlib import Path

import field_layouts
import layouts
import pytest

from r1omni.data import DatasetSpec, load_dataset
from r1omni.types import Sample, UsageError


def meld(root: Path, split: str = "train", **options: object) -> list[Sample]:
    return load_dataset(DatasetSpec("meld", str(root), split, options=options))


@pytest.mark.parametrize("split", ["train", "dev", "test"])
@pytest.mark.parametrize("inner", ["", "MELD.Raw"])
def test_every_split(tmp_path: Path, split: str, inner: str) -> None:
    root = field_layouts.meld(tmp_path / inner)
    samples = meld(tmp_path, split)
    assert [(s.sample_id, s.label, s.group) for s in samples[:4]] == [
        (f"meld/{split}_dia0_utt0", "angry", "Phoebe"),
        (f"meld/{split}_dia0_utt1", "disgust", "Ross"),
        (f"meld/{split}_dia0_utt2", "sad", "Phoebe"),
        (f"meld/{split}_dia0_utt3", "happy", "Ross"),
    ]
    assert samples[0].clip.path == root / field_layouts.MELD_FOLDERS[split] / "dia0_utt0.mp4"
    assert samples[0].clip.path.is_file()
    assert {(s.modality, s.label_set, s.language, s.sex) for s in samples} == {
        ("video_audio", "meld", "en", None)
    }


def test_test_clips_of_the_second_name(tmp_path: Path) -> None:
    folder = field_layouts.meld(tmp_path) / field_layouts.MELD_FOLDERS["test"]
    (folder / "dia0_utt1.mp4").rename(folder / "final_videos_testdia0_utt1.mp4")
    layouts.touch(folder, "final_videos_testdia0_utt2.mp4")
    names = [s.clip.path.name for s in meld(tmp_path, "test")]
    assert names[:3] == ["dia0_utt0.mp4", "final_videos_testdia0_utt1.mp4", "dia0_utt2.mp4"]


def test_copies_of_other_names_and_what_is_refused(tmp_path: Path) -> None:
    root = field_layouts.meld(tmp_path)
    (root / "train/train_splits").rename(root / "mine")
    # `train` itself is a folder of clips in some copies; here it holds none, so they are not there.
    assert not meld(root)[0].clip.path.exists()
    (root / "train_sent_emo.csv").rename(root / "mine.csv")
    samples = meld(root, clips_dir="mine", labels_csv="mine.csv")
    assert samples[0].clip.path == root / "mine/dia0_utt0.mp4"
    for options, message in (
        ({}, "no table of split 'train' of MELD; looked for train_sent_emo.csv"),
        ({"labels_csv": "mine.csv", "clips_dir": "gone"}, "no folder with the clips of split"),
        ({"labels_csv": "mine.csv", "clips_dir": "mine.csv"}, "is no folder; correct the option"),
    ):
        with pytest.raises(UsageError, match=message):
            meld(root, **options)
    with pytest.raises(UsageError, match="has no split 'val'; use one of train, dev, test"):
        meld(root, "val")
    text = (root / "mine.csv").read_text().replace("disgust", "boredom")
    (root / "mine.csv").write_text(text)
    with pytest.raises(UsageError, match=r"mine\.csv, line 3: label 'boredom' is none of"):
        meld(root, clips_dir="mine", labels_csv="mine.csv")
