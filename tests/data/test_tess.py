"""TESS as its publisher ships it, and as copies have it."""

from __future__ import annotations

from pathlib import Path

import field_layouts
import layouts
import pytest

from r1omni.data import DatasetSpec, load_dataset
from r1omni.media.audio import read_waveform
from r1omni.types import Sample, UsageError


def tess(root: Path, split: str = "all", **options: object) -> list[Sample]:
    return load_dataset(DatasetSpec("tess", str(root), split, options=options))


def test_every_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    samples = tess(field_layouts.tess(tmp_path))
    assert [(s.sample_id, s.label, s.group) for s in samples[:3]] == [
        ("tess/OAF_back_angry", "angry", "speaker_OAF"),
        ("tess/OAF_back_disgust", "disgust", "speaker_OAF"),
        ("tess/OAF_back_fear", "fear", "speaker_OAF"),
    ]
    [bite] = [s for s in samples if "bite" in s.sample_id]  # its name lacks a letter
    assert (bite.label, bite.group) == ("neutral", "speaker_OAF")
    assert [s.label for s in samples if s.sample_id.endswith("_ps")] == ["surprise"] * 2
    assert {(s.sex, s.language, s.modality, s.label_set) for s in samples} == {
        ("female", "en", "audio", "tess")
    }
    assert read_waveform(samples[0].clip.path).waveform.shape == (3_200,)
    layouts.touch(tmp_path, "TESS Toronto emotional speech set data/OAF_Sad/OAF_back_sad.wav")
    assert {s.sample_id for s in tess(tmp_path)} == {s.sample_id for s in samples}
    assert "1 of 16 files are further copies" in caplog.text


def test_two_speakers_make_two_folds(tmp_path: Path) -> None:
    field_layouts.tess(tmp_path)
    choice = {"folds": 2, "fold": 1}
    assert {s.group for s in tess(tmp_path, "test", **choice)} == {"speaker_OAF"}
    assert {s.group for s in tess(tmp_path, "train", **choice)} == {"speaker_YAF"}
    with pytest.raises(UsageError, match=r"has 2 speakers .* too few for folds 3"):
        tess(tmp_path, "test", folds=3, fold=1)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("OAF_happy/OAF_back_sad.wav", "the name's sad says sad, and the folder OAF_happy says"),
        ("angry/YAF_back_ps.wav", "the name's ps says surprise, and the folder angry says angry"),
    ],
)
def test_labels_are_never_guessed(tmp_path: Path, file: str, message: str) -> None:
    layouts.touch(tmp_path, file)
    with pytest.raises(UsageError) as caught:
        tess(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / file)) and message in str(caught.value)
