"""A user's own label file, as people write it: separators, cases, slashes, splits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import layouts
import pytest

from r1omni.data import DatasetSpec, load_dataset
from r1omni.data.labels_io import SOUND_SUFFIXES, VIDEO_SUFFIXES, is_recording
from r1omni.types import Clip, Sample, UsageError

ROWS = 'path,label,start,split\na.mp4,Joy,1.5,train\n"b,c.mp4",sad,,test\n'


def own(root: Path, split: str = "all", **options: object) -> list[Sample]:
    return load_dataset(DatasetSpec("own", str(root), split, options=dict(options)))


def refusal(root: Path, split: str = "all", **options: object) -> str:
    with pytest.raises(UsageError) as caught:
        own(root, split, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["labels.csv", "Labels.CSV", "data.tsv", "LABELS.TSV"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("header", [str.lower, str.upper, str.title])
def test_tables_as_spreadsheets_write_them(
    tmp_path: Path, name: str, separator: str, header: object
) -> None:
    table = ROWS.replace(",", separator).replace(f"b{separator}c", "b,c")
    first, _, rest = table.partition("\n")
    text = f"\ufeff{header(first)}\n{rest}\n".replace("\n", "\r\n")  # type: ignore[operator]
    (tmp_path / name).write_bytes(text.encode())
    samples = own(tmp_path)
    assert [s.clip for s in samples] == [
        Clip(tmp_path / "a.mp4", start_s=1.5),
        Clip(tmp_path / "b,c.mp4"),
    ]
    assert [s.label for s in samples] == ["happy", "sad"]
    assert own(tmp_path, "test") == own(tmp_path / name, "TEST") == samples[1:]


def test_line_ends_and_odd_characters_inside_a_field(tmp_path: Path) -> None:
    reason = "First.\u2028Then\x0b he \x85 shouts.\nSo it is."
    layouts.write(
        tmp_path / "labels.csv",
        f'path,label,reasoning\na.mp4,angry,"{reason}"\nb.mp4,angry,One\x0cline.\nc.mp4,bored,\n',
    )
    assert "line 5: label 'bored'" in refusal(tmp_path)
    layouts.write(
        tmp_path / "labels.csv",
        f'path,label,reasoning\na.mp4,angry,"{reason}"\nb.mp4,angry,One\x0cline.\n',
    )
    targets = [s.target for s in own(tmp_path)]
    assert "\u2028Then\x0b he \x85 shouts.\nSo" in str(targets[0])
    assert "One\x0cline." in str(targets[1])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name;label\na.mp4;joy\n", "line 1: no column path; found name, label"),
        ("", "no column path; found nothing"),
        ("a.mp4,joy\n", "name the columns in the first line"),
        ("path,label,Path\na.mp4,joy,b.mp4\n", "line 1: the column 'path' is there twice"),
        ("path,label\na,b.mp4,joy\n", "line 2: 3 fields, expected 2 (path, label); put a field"),
        ('path,label\n"a\\"b.mp4",joy\n', "line 2: malformed CSV"),
        ("path,label,start\na.mp4,joy,nan\n", "'start' holds 'nan', expected seconds"),
        ("path,label,end\na.mp4,joy,-inf\n", "'end' holds '-inf', expected seconds"),
        ("path;label;start\na.mp4;joy;1,5\n", "'start' holds '1,5', expected seconds"),
        ("path,label\na.mp4,joy\n./a.mp4,sad\n", "lists own/a.mp4 twice"),
        ("path,label\na.mp4,joy\nA/../a.mp4,sad\n", "line 3: path 'A/../a.mp4' holds `..`"),
        ("path,label\na.mp4,joy\nlink.mp4,sad\n", "one clip twice, as own/a.mp4 and as own/link"),
        ("path,label\na.mp4,joy\n{root}/a.mp4,sad\n", "one clip twice"),
        ("path,label\nin/b.mp4,joy\nin\\b.mp4,sad\n", "one clip twice"),
        (
            "path,label\nD:\\clips\\a.mp4,joy\n",
            "line 2: path 'D:\\\\clips\\\\a.mp4' is one of Windows",
        ),
    ],
)
def test_what_is_wrong_with_a_table(tmp_path: Path, text: str, said: str) -> None:
    layouts.touch(tmp_path, "a.mp4", "in/b.mp4")
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    layouts.write(tmp_path / "labels.csv", text.format(root=tmp_path))
    assert said in refusal(tmp_path)


def test_files_that_are_no_table(tmp_path: Path) -> None:
    (tmp_path / "labels.xlsx").write_bytes(b"PK\x03\x04")
    assert "labels.xlsx: is no table that can be read" in refusal(tmp_path / "labels.xlsx")
    (tmp_path / "labels.csv").write_bytes("path,label\na.mp4,joy\n".encode("utf-16"))
    assert "is not UTF-8 text" in refusal(tmp_path) and "save it as UTF-8" in refusal(tmp_path)


def test_columns_of_json_in_any_case(tmp_path: Path) -> None:
    layouts.write(tmp_path / "labels.json", '[{"Path": "a.mp4", "LABEL": "joy"}]')
    assert own(tmp_path)[0].label == "happy"
    layouts.write(tmp_path / "labels.json", '[{"Path": "a.mp4", "path": "b.mp4"}]')
    assert "entry 1: the column 'path' is there twice" in refusal(tmp_path)


def test_backslashes_separate_folders(tmp_path: Path) -> None:
    layouts.touch(tmp_path, "in/a.mp4", "in\\c.mp4")
    layouts.write(tmp_path / "labels.csv", "path,label\nin\\a.mp4,joy\nin\\c.mp4,sad\n")
    # A file that really has the name is taken.
    assert [s.clip.path for s in own(tmp_path)] == [tmp_path / "in/a.mp4", tmp_path / "in\\c.mp4"]


# Splits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["path,label\na.mp4,joy\n", "path,label,split\na.mp4,joy,\n"])
def test_a_split_that_the_file_does_not_name(tmp_path: Path, text: str) -> None:
    layouts.write(tmp_path / "labels.csv", text)
    for split in ("train", "test", "val"):
        for message in (refusal(tmp_path, split), refusal(tmp_path, split, file="labels.csv")):
            assert f"labels.csv: which rows are the split {split!r}?" in message
            assert "split: all" in message and f"{split}.csv" in message
    assert len(own(tmp_path)) == 1
    # A file that is called like the split is the split.
    layouts.write(tmp_path / "Test.csv", text.replace("a.mp4", "b.mp4"))
    assert own(tmp_path, "test")[0].sample_id == "own/b.mp4"
    assert own(tmp_path / "Test.csv", "test")[0].sample_id == "own/b.mp4"


def test_rows_without_a_split_are_in_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    layouts.write(
        tmp_path / "labels.csv",
        "path,label,split\na.mp4,joy,Train\nb.mp4,joy,\nc.mp4,joy,test\nd.mp4,joy, \n",
    )
    names = {split: [s.clip.path.stem for s in own(tmp_path, split)] for split in ("train", "test")}
    assert names == {"train": ["a"], "test": ["c"]}
    assert "2 of 4 rows have no split and are in none" in caplog.text
    assert "Its column split names Train, test" in refusal(tmp_path, "val")
    assert len(own(tmp_path)) == 4


def test_humanomnis_only_file_is_no_split_by_chance(tmp_path: Path) -> None:
    layouts.humanomni(tmp_path)
    for name in ("mix.yaml", "train.json"):
        (tmp_path / name).unlink()
    for split in ("train", "test"):
        with pytest.raises(UsageError, match=f"which instruction file is split '{split}'"):
            load_dataset(DatasetSpec("humanomni", str(tmp_path), split))
    assert len(load_dataset(DatasetSpec("humanomni", str(tmp_path), "all"))) == 4
    # Neither is one that is named.
    named = DatasetSpec("humanomni", str(tmp_path), "more", options={"file": "more.jsonl"})
    assert len(load_dataset(named)) == len(load_dataset(replace(named, split="train"))) == 4
    with pytest.raises(UsageError, match=r"more.jsonl: which entries are the split 'test'\? An"):
        load_dataset(replace(named, split="test"))


# Suffixes and modality --------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [*VIDEO_SUFFIXES, *SOUND_SUFFIXES])
@pytest.mark.parametrize("case", [str.lower, str.upper])
def test_one_recording_of_every_suffix(tmp_path: Path, suffix: str, case: object) -> None:
    path = tmp_path / f"talk{case(suffix)}"  # type: ignore[operator]
    path.touch()
    assert is_recording(path)
    sound = suffix in SOUND_SUFFIXES
    [sample] = own(path, "predict")
    assert sample.modality == ("audio" if sound else "video_audio")
    layouts.write(tmp_path / "labels.csv", f"path,label\n{path.name},joy\n")
    [row] = own(tmp_path)
    assert row.modality == sample.modality
    for modality in ("video_audio", "video"):
        for root in (path, tmp_path):
            spec = DatasetSpec("own", str(root), "all", modality=modality)  # type: ignore[arg-type]
            if sound:
                with pytest.raises(UsageError, match=rf"{path.name} is a sound file.*modality: "):
                    load_dataset(spec)
            else:
                assert load_dataset(spec)[0].modality == modality


@pytest.mark.parametrize("name", ["dfew", "mafw", "emer", "humanomni", "own"])
def test_every_data_set_of_sound_alone(name: str, tmp_path: Path) -> None:
    """The same lists over sound files: audio prompts, or a refusal where the picture is asked."""
    spec = layouts.EVERY[name](tmp_path)
    for path in list(tmp_path.rglob("*.mp4")) + list(tmp_path.rglob("*.avi")):
        path.rename(path.with_suffix(".WAV"))
    for file in tmp_path.rglob("*"):
        if name in ("humanomni", "own") and file.suffix in (".json", ".jsonl", ".csv"):
            text = file.read_text().replace(".mp4", ".WAV").replace("<video>", "")
            file.write_text(text)
    samples = load_dataset(spec)
    assert {s.modality for s in samples} == {"audio"}
    assert {s.clip.path.suffix for s in samples} == {".WAV"}
    for modality in ("video", "video_audio"):
        options = {**spec.options}
        asked = DatasetSpec(name, spec.root, spec.split, modality=modality, options=options)
        if name == "humanomni":  # the tags of its questions decide
            for file in tmp_path.rglob("*.json"):
                file.write_text(file.read_text().replace("<audio>", "<video>"))
        with pytest.raises(UsageError, match="is a sound file by its name"):
            load_dataset(asked)


def test_humanomni_may_name_sound_alone(tmp_path: Path) -> None:
    entry = layouts.conversation("a.wav", "<audio>\nHow?", "sad")
    entry["audio"] = entry.pop("video")
    layouts.write(tmp_path / "train.json", layouts.json.dumps([entry]))
    [sample] = load_dataset(DatasetSpec("humanomni", str(tmp_path)))
    assert (sample.clip, sample.modality) == (Clip(tmp_path / "a.wav"), "audio")
