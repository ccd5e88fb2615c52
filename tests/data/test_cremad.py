"""CREMA-D as its publisher ships it, and as copies have it."""

from __future__ import annotations

from pathlib import Path

import field_layouts
import layouts
import pytest

from r1omni.data import DatasetSpec, load_dataset
from r1omni.media.audio import read_waveform
from r1omni.media.video import read_frames
from r1omni.types import Sample, UsageError


def cremad(root: Path, modality: object = None, **options: object) -> list[Sample]:
    spec = DatasetSpec("cremad", str(root), "all", modality=modality, options=options)  # type: ignore[arg-type]
    return load_dataset(spec)


def test_films(tmp_path: Path) -> None:
    samples = cremad(field_layouts.cremad(tmp_path))
    assert [(s.sample_id, s.label, s.target, s.intensity) for s in samples[-3:]] == [
        ("cremad/1006_DFA_NEU_XX", "neutral", "neutral", None),
        ("cremad/1006_IEO_DIS_HI", "disgust", "disgust", "high"),
        ("cremad/1006_IEO_HAP_LO", "happy", "happy", "low"),
    ]
    assert {(s.modality, s.label_set, s.language) for s in samples} == {
        ("video_audio", "cremad", "en")
    }
    told = {(f"actor_{actor}", sex) for actor, sex in field_layouts.CREMAD_ACTORS.items()}
    assert {(s.group, s.sex) for s in samples} == told
    assert read_frames(samples[0].clip.path, 1).frames.shape == (1, 32, 32, 3)
    assert read_waveform(samples[0].clip.path).waveform.shape[0] > 0
    # Prompts of sound show the same clips, so that no run takes them for others.
    assert [s.clip for s in cremad(tmp_path, "audio")] == [s.clip for s in samples]


def test_sound_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    field_layouts.cremad(tmp_path, films=False)
    samples = cremad(tmp_path)
    assert {s.modality for s in samples} == {"audio"} and len(samples) == 11
    layouts.touch(tmp_path, "AudioMP3/1001_DFA_NEU_XX.mp3", "1040_ITH_SAD_X.wav", "notes_a.wav")
    more = cremad(tmp_path)
    assert [s.sample_id for s in more[-1:]] == ["cremad/1040_ITH_SAD_X"]
    assert more[0].clip.path == tmp_path / "AudioWAV/1001_DFA_NEU_XX.wav"
    assert "1 of 13 files are further copies by their names" in caplog.text
    with pytest.raises(UsageError, match="holds sound alone by its names, and modality video"):
        cremad(tmp_path, "video")
    # One film makes it a set of films, and its sound is then read from it.
    field_layouts.film(tmp_path / "VideoFlash/1001_DFA_NEU_XX.flv", 0)
    assert [s.clip.path.suffix for s in cremad(tmp_path)] == [".flv"]
    assert [s.clip.path.suffix for s in cremad(tmp_path, "audio")[:2]] == [".flv", ".wav"]


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("AudioWAV/1092_DFA_ANG_XX.wav", "actor 1092 is none of 1001 to 1091; rename"),
        ("AudioWAV/1001_DFA_JOY_XX.wav", "emotion code JOY is none of ANG, DIS, FEA, HAP, NEU,"),
        ("AudioWAV/1001_DFA_ANG_ME.wav", "level code ME is none of LO, MD, HI, XX"),
        ("Happy/1001_DFA_ANG_XX.wav", "the code ANG says angry, and the folder Happy says happy"),
    ],
)
def test_labels_are_never_guessed(tmp_path: Path, file: str, message: str) -> None:
    layouts.touch(tmp_path, file)
    with pytest.raises(UsageError) as caught:
        cremad(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / file)) and message in str(caught.value)
    (tmp_path / file).unlink()
    with pytest.raises(UsageError, match=r"no CREMA-D recordings; looked for VideoFlash/1001"):
        cremad(tmp_path)
    with pytest.raises(UsageError, match="has no published train split; give the options folds"):
        load_dataset(DatasetSpec("cremad", str(tmp_path)))
