"""eNTERFACE'05 with the irregularities that its publisher ships."""

from __future__ import annotations

from pathlib import Path

import field_layouts
import layouts
import pytest

from r1omni.data import DatasetSpec, load_dataset
from r1omni.types import Sample, UsageError


def enterface(root: Path, split: str = "all", **options: object) -> list[Sample]:
    return load_dataset(DatasetSpec("enterface", str(root), split, options=options))


def test_folders_say_subject_and_emotion(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = field_layouts.enterface(tmp_path / "enterface database")
    samples = enterface(tmp_path)
    assert [(s.sample_id, s.label, s.group, s.clip.path.name) for s in samples[2:6]] == [
        ("enterface/s3_an_1", "angry", "subject_3", "s_3_an_1.avi"),
        ("enterface/s3_su_3", "surprise", "subject_3", "s_3_su_3.avi"),
        ("enterface/s11_an_1", "angry", "subject_11", "s12_an_1.avi"),
        ("enterface/s11_su_3", "surprise", "subject_11", "s12_su_3.avi"),
    ]
    assert samples[9].clip.path.name == "s16_su_3avi.avi"
    assert {(s.sex, s.language, s.modality, s.label_set) for s in samples} == {
        (None, "en", "video_audio", "enterface")
    }
    assert len(samples) == 12
    assert "1 recordings are left out, in no folder of a sentence" in caplog.text
    assert "subject 6/anger" in caplog.text
    assert {s.sample_id for s in enterface(root)} == {s.sample_id for s in samples}


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("subject 1/fear/sentence 2/s1_di_2.avi", "the name says disgust, and the folder fear"),
        ("subject 1/joy/sentence 2/s1_ha_2.avi", "the folder joy is none of anger, disgust"),
        ("subject 1/anger/sentence 1/s1_an_1b.avi", "is a second recording of that sentence"),
    ],
)
def test_labels_are_never_guessed(tmp_path: Path, file: str, message: str) -> None:
    field_layouts.enterface(tmp_path)
    layouts.touch(tmp_path, file)
    with pytest.raises(UsageError) as caught:
        enterface(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / file)) and message in str(caught.value)


def test_nothing_there_and_links(tmp_path: Path) -> None:
    layouts.touch(tmp_path, "a/s1_an_1.avi")
    with pytest.raises(UsageError, match="no eNTERFACE'05 recordings; looked for subject 1/anger"):
        enterface(tmp_path / "a")
    field_layouts.enterface(tmp_path / "b")
    (tmp_path / "a/subject 1").symlink_to(tmp_path / "b/subject 1")
    with pytest.raises(UsageError, match="'subject 1' leads outside the data root"):
        enterface(tmp_path / "a")
