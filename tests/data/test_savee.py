"""SAVEE as its publisher ships it, and as copies have it."""

from __future__ import annotations

from pathlib import Path

import field_layouts
import layouts
import pytest

from r1omni.data import DatasetSpec, load_dataset
from r1omni.media.video import read_frames
from r1omni.types import Sample, UsageError


def savee(
    root: Path, split: str = "all", modality: object = None, **options: object
) -> list[Sample]:
    spec = DatasetSpec("savee", str(root), split, modality=modality, options=options)  # type: ignore[arg-type]
    return load_dataset(spec)


def test_films_and_their_sound(tmp_path: Path) -> None:
    samples = savee(field_layouts.savee(tmp_path))
    assert [(s.sample_id, s.label, s.group) for s in samples[:4]] == [
        ("savee/DC_a03", "angry", "speaker_DC"),
        ("savee/DC_n03", "neutral", "speaker_DC"),
        ("savee/DC_sa03", "sad", "speaker_DC"),
        ("savee/JE_a03", "angry", "speaker_JE"),
    ]
    assert {(s.sex, s.language, s.modality, s.label_set) for s in samples} == {
        ("male", "en", "video_audio", "savee")
    }
    assert len(samples) == 12
    assert read_frames(samples[0].clip.path, 1).frames.shape == (1, 32, 32, 3)
    assert [s.clip for s in savee(tmp_path, modality="audio")] == [s.clip for s in samples]


def test_copies(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One folder with the speaker in the names; a recording that has none is of something else."""
    field_layouts.savee(tmp_path / "AudioData", films=False)
    once = savee(tmp_path)
    assert {s.modality for s in once} == {"audio"}
    layouts.touch(tmp_path, "ALL/DC_a03.wav", "ALL/KL_su15.wav", "music/a1.wav")
    samples = savee(tmp_path)
    assert {s.sample_id for s in samples} - {s.sample_id for s in once} == {"savee/KL_su15"}
    assert "1 of 14 files are further copies" in caplog.text
    with pytest.raises(UsageError, match="no SAVEE recordings; looked for AudioVisualClip/DC"):
        savee(tmp_path / "music")
    layouts.touch(tmp_path, "happy/DC_d01.wav")
    with pytest.raises(UsageError, match="code d says disgust, and the folder happy says happy"):
        savee(tmp_path)


def test_speakers_are_apart(tmp_path: Path) -> None:
    field_layouts.savee(tmp_path)
    held = {"folds": 4, "fold": 4, "hold_out_val": True}
    groups = {split: {s.group for s in savee(tmp_path, split, **held)} for split in
              ("train", "val", "test")}  # fmt: skip
    assert groups == {
        "train": {"speaker_JE", "speaker_JK"}, "val": {"speaker_DC"}, "test": {"speaker_KL"},
    }  # fmt: skip
