"""What loaders refuse, each with one line that says where and what to do."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import layouts
import pytest

from r1omni.data import DatasetSpec, load_dataset
from r1omni.data.registry import _LOADERS, dataset_names, options_in_force, register
from r1omni.data.sampling import select
from r1omni.media.audio import read_waveform
from r1omni.media.container import MediaError
from r1omni.media.timeline import read_duration_s
from r1omni.media.video import read_frames
from r1omni.types import Clip, Sample, UsageError

sys.path.insert(0, str(Path(__file__).parents[1] / "media"))

from clips import write_clip

TRAIN = "EmoLabel_DataSplit/train(single-labeled)/set_1.csv"


def refusal(name: str, root: Path, split: str | None = None, **options: object) -> str:
    split = split or ("all" if name == "own" else "train")
    with pytest.raises(UsageError) as caught:
        load_dataset(DatasetSpec(name, str(root), split=split, options=dict(options)))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_unknown_names(tmp_path: Path) -> None:
    layouts.dfew(tmp_path)
    assert f"use one of {', '.join(dataset_names())}" in refusal("dfw", tmp_path)
    assert "known are clips_dir, fold, labels_csv" in refusal("dfew", tmp_path, folds=1)
    assert "no split 'val'" in refusal("dfew", tmp_path, "val")
    assert "fold 6 does not exist" in refusal("dfew", tmp_path, fold=6)
    assert "protocol '9way'" in refusal("ravdess", tmp_path, "test", protocol="9way")


@pytest.mark.parametrize("name", dataset_names())
def test_a_split_that_is_not_there(name: str, tmp_path: Path) -> None:
    spec = layouts.EVERY[name](tmp_path)
    others = {"mer2025": [{"labels": "ovmerd"}], "own": [{"file": "labels.csv"}],
              "humanomni": [{"file": "mix.yaml"}]}.get(name, [])  # fmt: skip
    for options in ({}, *others):
        with pytest.raises(UsageError, match="split 'tset'") as caught:
            load_dataset(replace(spec, split="tset", options={**spec.options, **options}))
        assert "\n" not in str(caught.value)


def loads(*samples: object, **options: object) -> str:
    """Import path of a loader that returns what is given, whatever the root."""

    def loader(
        root: Path,
        *,
        split: str,
        instruction: object = None,
        modality: object = None,
        size: int = 1,
    ) -> list[object]:
        return list(samples)

    globals()["loader_of_a_test"] = options.get("loader", loader)
    return f"{__name__}:loader_of_a_test"


def test_loaders_by_import_path(tmp_path: Path) -> None:
    good = Sample("mine/a", Clip(tmp_path / "a.mp4"), "What?", label="happy", label_set="dfew")
    spec = DatasetSpec(loads(good), str(tmp_path), options={"size": 2})
    assert load_dataset(spec) == [good]
    assert spec.short_name == "loader_of_a_test"
    assert options_in_force(spec) == {"size": 2}

    assert "option size is 'x'; it must be: int" in refusal(spec.name, tmp_path, size="x")
    assert "known are size" in refusal(spec.name, tmp_path, sise=1)
    twice = [good, replace(good, sample_id="mine/b")]
    assert "lists one clip twice, as mine/a and as mine/b" in refusal(loads(*twice), tmp_path)
    several = loads(loader=register("of_a_test", conversations=True)(globals()["loader_of_a_test"]))
    assert load_dataset(DatasetSpec(several, str(tmp_path))) == twice
    assert load_dataset(DatasetSpec("of_a_test", str(tmp_path))) == twice
    _LOADERS.pop("of_a_test")

    assert "has to return a list of Sample" in refusal(loads(good, "b"), tmp_path)
    assert "modality 'sight'" in refusal(loads(replace(good, modality="sight")), tmp_path)  # type: ignore[arg-type]
    other = replace(twice[1], clip=Clip(tmp_path / "b.mp4"), label_set=None)
    assert "the label sets None, dfew; give" in refusal(loads(good, other), tmp_path)
    outside = loads(replace(good, label="calm"))
    assert "outside the label set dfew (calm 1)" in refusal(outside, tmp_path)
    assert "cannot import module 'no_such_module'" in refusal("no_such_module:load", tmp_path)
    assert "has no function 'no_loader'" in refusal(f"{__name__}:no_loader", tmp_path)
    assert "has no parameter instruction, modality, root, split" in refusal(
        f"{__name__}:write_clip_at", tmp_path
    )


def write_clip_at(path: Path) -> None:
    """No loader."""


def test_missing_folder_and_files(tmp_path: Path) -> None:
    assert "nowhere: the dfew dataset is not there" in refusal("dfew", tmp_path / "nowhere")
    assert "no label file of split 'train', fold 3" in refusal(
        "dfew", layouts.dfew(tmp_path / "d"), fold=3
    )
    for path in (tmp_path / "d/Clip/original").iterdir():
        path.unlink()
    assert "no folder with clips" in refusal("dfew", tmp_path / "d")
    (tmp_path / "e").mkdir()
    for name in ("mafw", "emer", "humanomni", "own"):
        assert str(tmp_path / "e") in refusal(name, tmp_path / "e")
    assert "no RAVDESS recordings" in refusal("ravdess", tmp_path / "e", "test")
    assert "no Emo-DB recordings" in refusal("emodb", tmp_path / "e", "test")
    layouts.ravdess(tmp_path / "r")
    assert "no published train split" in refusal("ravdess", tmp_path / "r")
    assert "no speech is there" in refusal("ravdess", tmp_path / "r", "test", actors=[24])


def test_empty_split(tmp_path: Path) -> None:
    layouts.dfew(tmp_path)
    layouts.write(tmp_path / TRAIN, "video_name,label\n")
    assert "split 'train' of dfew holds no samples" in refusal("dfew", tmp_path)


def test_labels_outside_the_taxonomy(tmp_path: Path) -> None:
    layouts.dfew(tmp_path)
    layouts.write(tmp_path / TRAIN, "video_name,label\n1,1\n2,8\n")
    message = refusal("dfew", tmp_path)
    assert f"{TRAIN}, line 3: label '8'" in message
    mafw = layouts.mafw(tmp_path / "m")
    train = mafw / "Train & Test Set/single/no_caption/set_2/train.txt"
    layouts.write(train, "00025.mp4 anger\n00100.mp4 calm\n")
    assert "train.txt, line 2: label 'calm'" in refusal("mafw", mafw, fold=2)
    layouts.write(tmp_path / "o/labels.csv", "path,label\na.mp4,happy\nb.mp4,bored\n")
    assert "labels.csv, line 3: label 'bored'" in refusal("own", tmp_path / "o")
    layouts.touch(tmp_path / "r", "Actor_01/01-01-09-01-01-01-01.mp4")
    assert "emotion code 09" in refusal("ravdess", tmp_path / "r", "test")


def test_malformed_rows(tmp_path: Path) -> None:
    layouts.dfew(tmp_path)
    layouts.write(tmp_path / TRAIN, "video_name,label\n1,1\n2\n")
    assert "line 3: 1 fields, expected 2" in refusal("dfew", tmp_path)
    layouts.write(tmp_path / TRAIN, "name,label\n1,1\n")
    assert "no column video_name" in refusal("dfew", tmp_path)
    layouts.write(tmp_path / TRAIN, "video_name,label\n1,1\n1,2\n")
    assert "lists dfew/1 twice" in refusal("dfew", tmp_path)
    (tmp_path / TRAIN).write_bytes(b"video_name,label\n\xff\xfe,1\n")
    assert "is not UTF-8 text" in refusal("dfew", tmp_path)
    own = tmp_path / "o"
    layouts.write(own / "labels.jsonl", '{"path": "a.mp4", "label": "happy"}\n{"path":\n')
    assert "line 2: malformed JSON" in refusal("own", own)
    layouts.write(own / "labels.jsonl", '{"label": "happy"}\n')
    assert "line 1: the column 'path' is empty" in refusal("own", own)
    layouts.write(own / "labels.jsonl", '{"path": "a.mp4", "label": "sad", "start": "x"}\n')
    assert "'start' holds 'x', expected seconds" in refusal("own", own)
    human = tmp_path / "h"
    layouts.write(human / "train.json", '[{"video": "a.mp4", "conversations": []}]')
    assert "entry 1" in refusal("humanomni", human)
    layouts.write(human / "mix.yaml", "datasets: [unclosed")
    assert "malformed YAML" in refusal("humanomni", human, file="mix.yaml")


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret.mp4", "inner/../../secret.mp4"])
def test_paths_outside_the_root(tmp_path: Path, name: str) -> None:
    layouts.touch(tmp_path, "secret.mp4")
    layouts.write(tmp_path / "o/labels.csv", f"path,label\n{name},happy\n")
    message = refusal("own", tmp_path / "o")
    assert "labels.csv, line 2: path" in message
    human = [layouts.conversation(name, "<video>\nWhat?", "sad")]
    layouts.write(tmp_path / "h/train.json", layouts.json.dumps(human))
    assert "outside" in refusal("humanomni", tmp_path / "h") or "leaves" in message
    layouts.mafw(tmp_path / "m")
    train = tmp_path / "m/Train & Test Set/single/no_caption/set_2/train.txt"
    layouts.write(train, f"{name} anger\n")
    if name.startswith("../"):
        assert "leaves the data root" in refusal("mafw", tmp_path / "m", fold=2)
    layouts.emer(tmp_path / "e")
    layouts.write(
        tmp_path / "e/EMER/final-EMER-reason.csv", f"name,chinese,english\n{name},,So angry.\n"
    )
    (tmp_path / "e/EMER/dataset-v2/final-EMER-reason.csv").unlink()
    assert "final-EMER-reason.csv, line 2: path" in refusal("emer", tmp_path / "e/EMER")


def test_absolute_path_inside_the_root_is_fine(tmp_path: Path) -> None:
    layouts.write(tmp_path / "labels.csv", f"path,label\n{tmp_path}/a.mp4,happy\n")
    samples = load_dataset(DatasetSpec("own", str(tmp_path), "all"))
    assert samples[0].clip.path == tmp_path / "a.mp4"


def test_symbolic_links(tmp_path: Path) -> None:
    layouts.touch(tmp_path, "secret.mp4", "o/real.mp4")
    (tmp_path / "o/out.mp4").symlink_to(tmp_path / "secret.mp4")
    (tmp_path / "o/in.mp4").symlink_to("real.mp4")
    layouts.write(tmp_path / "o/labels.csv", "path,label\nin.mp4,happy\n")
    assert len(load_dataset(DatasetSpec("own", str(tmp_path / "o"), "all"))) == 1
    (tmp_path / "link").symlink_to(tmp_path / "o")  # the root itself may be a link
    assert len(load_dataset(DatasetSpec("own", str(tmp_path / "link"), "all"))) == 1
    layouts.write(tmp_path / "o/labels.csv", "path,label\nin.mp4,happy\nout.mp4,happy\n")
    assert "line 3: path 'out.mp4' leads outside" in refusal("own", tmp_path / "o")
    layouts.dfew(tmp_path / "real")
    (tmp_path / "d").mkdir()
    layouts.write(tmp_path / "d" / TRAIN, "video_name,label\n1,1\n")
    (tmp_path / "d/Clip").symlink_to(tmp_path / "real/Clip")
    assert "leads outside" in refusal("dfew", tmp_path / "d")


@pytest.mark.parametrize(
    "name",
    [
        "..\\secret.mp4",
        "a/..\\../secret.mp4",
        "..",
        "a.mp4\0/../../secret.mp4",
        "\ud800.mp4",  # no file can have this name
    ],
)
@pytest.mark.parametrize("column", ["path", "audio"])
def test_hostile_names_in_every_column(tmp_path: Path, name: str, column: str) -> None:
    layouts.touch(tmp_path, "secret.mp4")
    row = {"path": "a.mp4", "label": "happy", column: name}
    layouts.write(tmp_path / "o/labels.jsonl", json.dumps(row) + "\n")
    message = refusal("own", tmp_path / "o")
    assert message.startswith(f"{tmp_path}/o/labels.jsonl, line 1: path ")
    assert "use a path inside" in message or "rename the file" in message


def test_the_label_file_stays_inside_the_root(tmp_path: Path) -> None:
    layouts.write(tmp_path / "labels.csv", "path,label\na.mp4,happy\n")
    (tmp_path / "o").mkdir()
    assert "leaves the data root" in refusal("own", tmp_path / "o", file="../labels.csv")
    outside = str(tmp_path / "labels.csv")
    assert "leads outside" in refusal("own", tmp_path / "o", file=outside)
    (tmp_path / "o/labels.csv").symlink_to(outside)
    assert "leads outside" in refusal("own", tmp_path / "o")


@pytest.mark.parametrize("target", ["there", "not there"])
def test_links_of_links_and_linked_clips(tmp_path: Path, target: str) -> None:
    layouts.touch(tmp_path, "outside/there.mp4")
    layouts.dfew(tmp_path / "d")
    folder = tmp_path / "d/Clip/original"
    (folder / "1.mp4").unlink()
    (folder / "hop.mp4").symlink_to(tmp_path / f"outside/{target}.mp4")
    (folder / "1.mp4").symlink_to("hop.mp4")
    assert "leads outside" in refusal("dfew", tmp_path / "d")
    layouts.write(tmp_path / "o/labels.csv", "path,label\ninner/there.mp4,happy\n")
    (tmp_path / "o/inner").symlink_to(tmp_path / "outside")
    assert "line 2: path 'inner/there.mp4' leads outside" in refusal("own", tmp_path / "o")


def test_a_link_that_turns_in_a_circle_is_a_clip_that_is_not_there(tmp_path: Path) -> None:
    layouts.write(tmp_path / "labels.csv", "path,label\na.mp4,happy\n")
    (tmp_path / "a.mp4").symlink_to("b.mp4")
    (tmp_path / "b.mp4").symlink_to("a.mp4")
    [sample] = load_dataset(DatasetSpec("own", str(tmp_path), "all"))
    with pytest.raises(MediaError, match=r"a\.mp4: cannot be read"):
        read_frames(sample.clip.path, 1)


@pytest.mark.parametrize(
    "name",
    [
        "concat:secret.mp4|secret.mp4",
        "concat:{root}/secret.mp4",
        "file:{root}/secret.mp4",
        "file:///{root}/secret.mp4",
        "subfile,,start,0,end,9999,,:{root}/secret.mp4",
        "http://localhost:9/secret.mp4",
        "pipe:0",
        "crypto:secret.mp4",
        "secret%d.mp4",
        "~/secret.mp4",
    ],
)
def test_names_that_ffmpeg_would_follow_are_plain_names(tmp_path: Path, name: str) -> None:
    name = name.format(root=tmp_path)
    write_clip(tmp_path / "o/secret.mp4", num_frames=2, sound=False)
    write_clip(tmp_path / "o/secret1.mp4", num_frames=2, sound=False)
    write_clip(tmp_path / "secret.mp4", num_frames=2, sound=False)
    row = {"path": name, "label": "happy"}
    layouts.write(tmp_path / "o/labels.jsonl", json.dumps(row) + "\n")
    [sample] = load_dataset(DatasetSpec("own", str(tmp_path / "o"), "all"))
    assert sample.clip.path == tmp_path / "o" / name
    for read in (read_waveform, read_duration_s, lambda path: read_frames(path, 1)):
        with pytest.raises(MediaError, match="cannot be read"):
            read(sample.clip.path)
    # A file that really has the name is read, and no other.
    write_clip(tmp_path / "real.mkv", num_frames=3, width=32, height=32, sound=False)
    sample.clip.path.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "real.mkv").rename(sample.clip.path)
    assert read_frames(sample.clip.path, 1).frames.shape == (1, 32, 32, 3)


def test_sampling(tmp_path: Path) -> None:
    layouts.dfew(tmp_path)
    samples = load_dataset(DatasetSpec("dfew", str(tmp_path)))
    assert select(samples, "first:2", 0) == samples[:2]
    assert select(samples, "end:1", 0) == samples[-1:]
    assert select(samples, "end:34%", 0) == samples[-2:]
    assert select(samples, "random:99", 0) == samples
    assert select(samples, "2", 5) == select(samples, "random:2", 5)
    assert len(select(samples, "50%", 1)) == 2
    assert {tuple(select(samples, "random:1", seed)) for seed in range(20)} == {
        (sample,) for sample in samples
    }
    for wrong in ("some", "first", "random:-1", "first:1.5", "0", "first:0%"):
        with pytest.raises(UsageError, match="sampling"):
            select(samples, wrong, 0)
