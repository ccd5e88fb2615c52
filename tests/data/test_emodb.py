"""Emo-DB as its publisher ships it, and as copies have it."""

from __future__ import annotations

from pathlib import Path

import layouts
import pytest

from r1omni.data import DatasetSpec, load_dataset
from r1omni.media.audio import read_waveform
from r1omni.types import Sample, UsageError


def emodb(root: Path, split: str = "all", **options: object) -> list[Sample]:
    return load_dataset(DatasetSpec("emodb", str(root), split, options=options))


def refusal(root: Path, split: str = "all", **options: object) -> str:
    with pytest.raises(UsageError) as caught:
        emodb(root, split, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".wav", ".WAV", ".flac"])
@pytest.mark.parametrize("folders", [None, layouts.EMODB_FOLDERS])
def test_every_layout(tmp_path: Path, folders: dict[str, str] | None, suffix: str) -> None:
    samples = emodb(layouts.emodb(tmp_path, folders=folders, suffix=suffix))
    assert len(samples) == 4 * 7  # boredom is left out
    assert [(s.sample_id, s.label, s.target) for s in samples[:7]] == [
        ("emodb/03a01Aa", "fear", "fear"),
        ("emodb/03a01Ea", "disgust", "disgust"),
        ("emodb/03a01Fa", "happy", "happy"),
        ("emodb/03a01Na", "neutral", "neutral"),
        ("emodb/03a01Ta", "sad", "sad"),
        ("emodb/03a01Wa", "angry", "angry"),
        ("emodb/03b10Wc", "angry", "angry"),
    ]
    assert {(s.modality, s.label_set) for s in samples} == {("audio", "emodb_6way_no_boredom")}
    assert {(s.group, s.sex) for s in samples} == {
        ("speaker_03", "male"), ("speaker_08", "female"), ("speaker_09", "female"),
        ("speaker_10", "male"),
    }  # fmt: skip
    assert read_waveform(samples[0].clip.path).waveform.shape == (3_200,)


def test_four_classes_and_splits(tmp_path: Path) -> None:
    layouts.emodb(tmp_path)
    samples = emodb(tmp_path, "test", protocol="4way")
    assert {s.label for s in samples} == {"angry", "happy", "neutral", "sad"}
    assert (len(samples), {s.label_set for s in samples}) == (4 * 5, {"emodb_4way"})
    assert "no published train split; give the options folds and fold" in refusal(tmp_path, "train")
    spec = DatasetSpec("emodb", str(tmp_path), "all", modality="video_audio")
    with pytest.raises(UsageError, match="is a sound file by its name, and modality video_audio"):
        load_dataset(spec)


def test_copies_and_small_letters(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    layouts.emodb(tmp_path, speakers=("16",))
    once = emodb(tmp_path)
    assert "copies" not in caplog.text
    layouts.touch(tmp_path, "more/by_class/Wut/16a01Wa.flac", "more/16a01fa.wav", "16_notes.wav")
    assert {s.sample_id for s in emodb(tmp_path)} == {s.sample_id for s in once}
    assert "2 of 10 files are further copies by their names" in caplog.text


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("Happy/03a01Wa.wav", "the letter W says angry, and the folder Happy says happy; move"),
        (
            "Surprise/x/03a01Wa.wav",
            "says angry, and the folder Surprise says surprise; move",
        ),
        ("boredom/03a01Na.wav", "the letter N says neutral, and the folder boredom says boredom"),
        ("wav/03a01Xa.wav", "emotion letter X is none of W, L, E, A, F, T, N; rename"),
        ("wav/04a01Wa.wav", "speaker 04 is none of 03, 08, 09"),
    ],
)
def test_labels_are_never_guessed(tmp_path: Path, file: str, message: str) -> None:
    layouts.emodb(tmp_path)  # where a copy of the same name says otherwise
    layouts.touch(tmp_path, file)
    text = refusal(tmp_path)
    assert text.startswith(str(tmp_path / file)) and message in text


def test_linked_folders(tmp_path: Path) -> None:
    root = layouts.emodb(tmp_path / "emodb")
    (root / "Angry").symlink_to("wav")  # inside: read where it lies
    assert len(emodb(root)) == 28
    layouts.emodb(tmp_path / "elsewhere")
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "wav").symlink_to(tmp_path / "elsewhere" / "wav")
    assert "'wav' leads outside the data root" in refusal(alone)
    (tmp_path / "link").symlink_to(root)
    assert len(emodb(tmp_path / "link")) == 28
