"""The MER challenges and MERR: closed labels, free words, explanations."""

from __future__ import annotations

import json
from pathlib import Path

import field_layouts
import layouts
import pytest

from r1omni.data import DatasetSpec, load_dataset
from r1omni.types import Sample, UsageError

CLASSES = ["neutral", "angry", "happy", "sad", "anxiety", "surprise"]


def load(name: str, root: Path, split: str = "train", **options: object) -> list[Sample]:
    return load_dataset(DatasetSpec(name, str(root), split, options=options))


def refusal(name: str, root: Path, split: str = "train", **options: object) -> str:
    with pytest.raises(UsageError) as caught:
        load(name, root, split, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("split", ["train", "test1", "test2", "test3"])
def test_mer2023(tmp_path: Path, split: str) -> None:
    samples = load("mer2023", field_layouts.mer2023(tmp_path), split)
    assert [s.label for s in samples] == CLASSES
    assert {(s.label_set, s.language, s.modality) for s in samples} == {
        ("mer", "zh", "video_audio")
    }
    assert samples[4].target == "anxious"
    assert samples[0].clip.path.parent == tmp_path / split and samples[0].clip.path.is_file()
    # As the archives unpack, with labels of the tests in a folder of their own.
    inner = "mer2023train" if split == "train" else "mer2023test1&2"
    (tmp_path / inner).mkdir()
    (tmp_path / split).rename(tmp_path / inner / split)
    (tmp_path / "test-labels").mkdir()
    label = f"{split}-label.csv"
    (tmp_path / label).rename(tmp_path / ("test-labels" if split != "train" else inner) / label)
    moved = load("mer2023", tmp_path, split)
    assert [s.clip.path.name for s in moved] == [s.clip.path.name for s in samples]
    assert moved[0].clip.path.is_file()


def test_mer2023_says_what_is_missing(tmp_path: Path) -> None:
    assert "no label file of split 'test1' of mer2023; looked for test1-label.csv" in refusal(
        "mer2023", tmp_path, "test1"
    )
    assert "use one of train, test1, test2, test3" in refusal("mer2023", tmp_path, "test")
    mine = layouts.write(tmp_path / "mine.csv", "name,discrete\nsample_1,bored\n")
    layouts.touch(tmp_path, "clips/sample_1.mp4")
    options = {"labels_csv": "mine.csv", "clips_dir": "clips"}
    assert f"{mine}, line 2: label 'bored' is none of the classes" in refusal(
        "mer2023", tmp_path, **options
    )
    layouts.write(mine, "name,discrete\nsample_1,worried\n../x,happy\n")
    assert "line 3: path '../x' holds `..`" in refusal("mer2023", tmp_path, **options)


def test_mer2024(tmp_path: Path) -> None:
    samples = load("mer2024", field_layouts.mer2024(tmp_path))
    assert [s.label for s in samples] == CLASSES
    assert samples[0].clip.path == tmp_path / "video-labeled/samplenew3_00000000.mp4"
    assert "mer2024 has no split 'test'; use one of train" in refusal("mer2024", tmp_path, "test")
    assert "no label file of split 'train' of mer2024; looked for gone.csv" in refusal(
        "mer2024", tmp_path, labels_csv="gone.csv"
    )


def test_mer2025_closed_labels(tmp_path: Path) -> None:
    field_layouts.mer2025(tmp_path)
    assert [s.label for s in load("mer2025", tmp_path)] == CLASSES
    assert "no label file of split 'test' of mer2025; looked for track1_test_dis" in refusal(
        "mer2025", tmp_path, "test"
    )
    layouts.write(tmp_path / "track1_test_dis.csv", "name,discrete\nsample_00000001,sad\n")
    assert [s.label for s in load("mer2025", tmp_path, "test")] == ["sad"]


@pytest.mark.parametrize("labels", ["ovmerd", "mercaptionplus"])
def test_mer2025_free_words(tmp_path: Path, labels: str, caplog: pytest.LogCaptureFixture) -> None:
    samples = load("mer2025", field_layouts.mer2025(tmp_path), labels=labels)
    assert [(s.sample_id, s.label, s.open_labels, s.label_set) for s in samples] == [
        ("mer2025/sample_00000003", None, ("sad", "let down", "tense"), "all"),
        ("mer2025/sample_00000004", None, ("worried",), "all"),
    ]
    assert samples[1].target == ("<think>He frowns, and hurries.</think>\n<answer>worried</answer>")
    assert samples[0].target.endswith("<answer>sad, let down, tense</answer>")
    assert samples[0].clip.path.is_file() and "left out" not in caplog.text
    assert f"no split 'test' of the labels {labels}" in refusal(
        "mer2025", tmp_path, "test", labels=labels
    )
    words = tmp_path / f"track2_train_{labels}.csv"
    layouts.write(words, "name,openset\nsample_00000003,['sad']\nsample_9,['calm']\n")
    assert len(load("mer2025", tmp_path, labels=labels)) == 1
    assert "2 clips are left out, named in one of the tables of tracks 2 and 3" in caplog.text
    layouts.write(words, "name,openset\nsample_00000003,[]\n")
    assert "line 2: the column 'openset' holds '[]', expected words" in refusal(
        "mer2025", tmp_path, labels=labels
    )
    layouts.write(words, "name,openset\nsample_00000003,sad\nsample_00000003,calm\n")
    assert "line 3: names sample_00000003 again" in refusal("mer2025", tmp_path, labels=labels)


@pytest.mark.parametrize("grain", ["fine", "coarse"])
def test_merr(tmp_path: Path, grain: str, caplog: pytest.LogCaptureFixture) -> None:
    root = field_layouts.merr(tmp_path / "MERR")
    samples = load("merr", root, grain=grain)
    assert [s.label for s in samples] == ["happy", "anxiety", "contempt", "fear"]
    assert samples[1].target == (
        f"<think>The jaw drops, {grain}.</think>\n<answer>anxious</answer>"
    )
    assert {(s.label_set, s.language) for s in samples} == {("merr", "zh")}
    assert samples[0].clip.path == tmp_path / "MER2023/test3/samplenew_00000000.mp4"
    assert "1 clips of doubt are left out" in caplog.text
    path = root / f"MERR_{grain}_grained.json"
    told = json.loads(path.read_text())
    for broken, message in (
        ({"a": {"pseu_emotion": "bored", "caption": "x"}}, "label 'bored' is none of the classes"),
        ({"a": {"caption": "x"}}, "the column 'pseu_emotion' is empty"),
        ({"a": {"pseu_emotion": "sad"}}, "caption' is empty"),
        ({"a": 5}, "entry 'a': is a int, no object"),
        ([told], "holds a list, expected an object"),
    ):
        path.write_text(json.dumps(broken))
        assert message in refusal("merr", root, grain=grain)
    path.write_text("{")
    assert "line 1: malformed JSON" in refusal("merr", root, grain=grain)
    assert "video_root of merr names no folder" in refusal(
        "merr", root, grain=grain, video_root=str(tmp_path / "gone")
    )
