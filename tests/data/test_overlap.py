"""Clips that are trained on are neither tested nor validated on."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import layouts
import pytest

from r1omni.data import DatasetSpec, EmotionDataModule, load_dataset
from r1omni.data import overlap as overlap_module
from r1omni.data.overlap import shared_clips
from r1omni.data.registry import dataset_names
from r1omni.types import Clip, Sample, UsageError

STAGES = [("fit", "val"), ("fit", "test"), ("validate", "val"), ("test", "test")]


def own(root: Path, *rows: str, split: str = "all") -> DatasetSpec:
    """A list of own clips below `root`; a row is `path` or `path,start,end`."""
    number = len(list(root.glob("*.csv")))
    lines = [row if "," in row else f"{row},," for row in rows]
    text = "path,start,end,label\n" + "".join(f"{line},happy\n" for line in lines)
    layouts.write(root / f"list{number}.csv", text)
    return DatasetSpec("own", str(root), split, options={"file": f"list{number}.csv"})


def listed(root: Path, *rows: str) -> list[Sample]:
    return load_dataset(own(root, *rows))


def write(root: Path, **contents: bytes) -> None:
    for name, content in contents.items():
        (root / f"{name}.mp4").write_bytes(content)


@pytest.mark.parametrize("name", dataset_names())
@pytest.mark.parametrize(("stage", "held"), STAGES)
def test_no_data_set_is_trained_and_judged_on(
    name: str, stage: str, held: str, tmp_path: Path
) -> None:
    spec = layouts.EVERY[name](tmp_path)
    module = EmotionDataModule(**{"train": [spec], held: [replace(spec, sampling="first:1")]})
    with pytest.raises(UsageError, match=f"data.train and data.{held} share 1 clips: {name}/"):
        module.setup(stage)
    apart = replace(spec, sampling="not first:1")
    module = EmotionDataModule(**{"train": [apart], held: [replace(spec, sampling="first:1")]})
    module.setup(stage)


def test_the_other_side_need_not_be_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, a=b"a", b=b"b")
    spec, elsewhere = own(tmp_path, "a.mp4"), DatasetSpec("dfew", str(tmp_path / "nowhere"))
    for stage, module in (
        ("test", EmotionDataModule(train=[elsewhere], test=[spec])),
        ("fit", EmotionDataModule(train=[spec], test=[elsewhere])),
    ):
        caplog.clear()
        module.setup(stage)
        assert "could not be compared" in caplog.text and "nowhere" in caplog.text


def test_what_is_wrong_with_the_other_side_is_told_now(tmp_path: Path) -> None:
    """Not when the training is over: its data is there, and has no such split or option."""
    write(tmp_path, a=b"a", b=b"b")
    spec, other = own(tmp_path, "a.mp4"), own(tmp_path, "b.mp4")
    for wrong, line in (
        (replace(other, options={**other.options, "fold": 1, "folds": 2}), "fold"),
        (replace(other, options={**other.options, "label_sett": "dfew"}), "label_sett"),
        (replace(other, name="dfeww"), "dfeww"),
    ):
        with pytest.raises(UsageError, match=line):
            EmotionDataModule(train=[spec], test=[wrong]).setup("fit")


def test_validation_on_clips_of_the_test_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, a=b"a", b=b"b", c=b"c")
    train, held = own(tmp_path, "a.mp4"), own(tmp_path, "b.mp4", "c.mp4")
    for stage in ("fit", "test"):
        caplog.clear()
        EmotionDataModule(train=[train], val=[held], test=[held]).setup(stage)
        assert "data.val and data.test share 2 clips: own/b.mp4 is own/b.mp4" in caplog.text


@pytest.mark.parametrize(("stage", "held"), STAGES)
def test_two_data_sets_that_hold_one_clip(stage: str, held: str, tmp_path: Path) -> None:
    """Neither path nor name says so: the content alone does."""
    dfew = layouts.dfew(tmp_path / "DFEW")
    (dfew / "Clip/original/2.mp4").write_bytes(b"film" * 50_000)
    layouts.write(tmp_path / "mine/list.csv", "path,label\nother name.mkv,happy\n")
    shutil.copy(dfew / "Clip/original/2.mp4", tmp_path / "mine/other name.mkv")
    module = EmotionDataModule(
        train=[DatasetSpec("dfew", str(dfew))],
        **{held: [DatasetSpec("own", str(tmp_path / "mine/list.csv"), "all")]},
    )
    with pytest.raises(UsageError) as caught:
        module.setup(stage)
    told = str(caught.value)
    assert "\n" not in told and "; take them out of one, or hold clips out: sampling" in told
    assert told.startswith(
        f"data.train and data.{held} share 1 clips: own/other name.mkv is dfew/2 "
        f"({tmp_path}/mine/other name.mkv has the content of {dfew}/Clip/original/2.mp4); "
    )


TRAIN = {"folds": 3, "fold": 1}


@pytest.mark.parametrize(
    ("train", "test", "shared"),
    [
        # Other clips of the same actors: song beside speech.
        (("train", {**TRAIN}), ("test", {**TRAIN, "vocal": "song"}), 0),
        (("train", {**TRAIN}), ("test", {"folds": 3, "fold": 2, "vocal": "song"}), 1),
        (("train", {**TRAIN}), ("test", {"vocal": "song"}), 2),
        (("all", {"vocal": "song"}), ("test", {**TRAIN}), 1),
        (("all", {"actors": [1, 2]}), ("all", {"actors": [2, 5], "vocal": "song"}), 1),
        # Nobody says that speakers are apart, or both name the same ones.
        (("all", {}), ("test", {"vocal": "song"}), 0),
        (("all", {"actors": [1, 2]}), ("all", {"actors": [1, 2], "vocal": "song"}), 0),
    ],
)
def test_speakers_that_folds_keep_apart(
    train: tuple[str, dict[str, object]],
    test: tuple[str, dict[str, object]],
    shared: int,
    tmp_path: Path,
) -> None:
    layouts.ravdess(tmp_path)
    sides = [
        [DatasetSpec("ravdess", str(tmp_path), split, options=options)]
        for split, options in (train, test)
    ]
    module = EmotionDataModule(train=sides[0], test=sides[1])
    if not shared:
        module.setup("fit")
        return
    with pytest.raises(UsageError, match=rf"data.test share {shared} speakers: actor_0\d \(rav"):
        module.setup("fit")


def test_a_list_of_the_clips_of_a_data_set_has_its_speakers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As `describe-voices` writes them, in another folder than the clips."""
    clips = layouts.ravdess(tmp_path / "clips")
    rows = "path,label,group\nActor_02/01-02-01-01-01-01-02.mp4,happy,actor_02\n"
    layouts.write(tmp_path / "voices/labels.csv", rows)
    options = {"video_root": str(clips)}
    table = DatasetSpec("own", str(tmp_path / "voices"), "all", options=options)
    tested = {
        who: DatasetSpec("ravdess", str(clips), "test", options={"actors": [who]}) for who in (1, 2)
    }
    EmotionDataModule(train=[table], test=[tested[1]]).setup("fit")
    with pytest.raises(UsageError, match=r"share 1 speakers: actor_02 \(own/Actor_02/01-02.* and"):
        EmotionDataModule(train=[table], test=[tested[2]]).setup("fit")
    # The same name elsewhere is somebody else.
    layouts.touch(tmp_path / "voices", "Actor_02/01-02-01-01-01-01-02.mp4")
    elsewhere = replace(table, options={})
    EmotionDataModule(train=[elsewhere], test=[tested[2]]).setup("fit")
    train = replace(tested[1], split="all")
    EmotionDataModule(train=[train], val=[table], test=[tested[2]]).setup("fit")
    assert "data.val and data.test share 1 speakers: actor_02" in caplog.text


def grouped(root: Path, name: str, *rows: str) -> DatasetSpec:
    """A table of own clips with speakers; a row is `path,split,group`."""
    for row in rows:
        clip = root / row.partition(",")[0]
        clip.write_bytes(f"{clip}".encode())
    text = "path,split,group,label\n" + "".join(f"{row},happy\n" for row in rows)
    layouts.write(root / name, text)
    return DatasetSpec("own", str(root), "train", options={"file": name})


SPEAKERS = ("a.mp4,train,Ann", "b.mp4,train,Bo", "c.mp4,test,Ann", "d.mp4,test,Cy")


@pytest.mark.parametrize(("stage", "held"), STAGES)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_speaker_of_own_tables_is_in_one_split(
    stage: str, held: str, kind: str, tmp_path: Path
) -> None:
    train = grouped(tmp_path, "list.csv", *SPEAKERS)
    if kind == "jsonl":
        _, *lines = (tmp_path / "list.csv").read_text().splitlines()
        keys = ("path", "split", "group", "label")
        rows = [json.dumps(dict(zip(keys, line.split(","), strict=True))) for line in lines]
        layouts.write(tmp_path / "list.jsonl", "\n".join(rows))
        train = replace(train, options={"file": "list.jsonl"})
    test = replace(train, split="test")
    line = (
        rf"data.train and data.{held} share 1 speakers: Ann \(own/a.mp4 and own/c.mp4\); .*"
        r"shared_speakers: true"
    )
    with pytest.raises(UsageError, match=line):
        EmotionDataModule(**{"train": [train], held: [test]}).setup(stage)
    for side in range(2):  # either place may say so
        sides = [train, test]
        sides[side] = replace(sides[side], options={**sides[side].options, "shared_speakers": True})
        EmotionDataModule(**{"train": [sides[0]], held: [sides[1]]}).setup(stage)


def test_speakers_of_two_own_tables(tmp_path: Path) -> None:
    first = replace(grouped(tmp_path, "one.csv", "a.mp4,,Ann", "b.mp4,,Bo"), split="all")
    second = replace(grouped(tmp_path, "two.csv", "c.mp4,,Bo"), split="all")
    with pytest.raises(UsageError, match=r"share 1 speakers: Bo \(own/b.mp4 and own/c.mp4\)"):
        EmotionDataModule(train=[first], test=[second]).setup("fit")
    # In another folder a name is somebody else, and a part by `sampling` is one of clips.
    (tmp_path / "far").mkdir()
    (tmp_path / "near").mkdir()
    near = replace(grouped(tmp_path / "near", "one.csv", "a.mp4,,Bo", "b.mp4,,Bo"), split="all")
    far = replace(grouped(tmp_path / "far", "two.csv", "c.mp4,,Bo"), split="all")
    EmotionDataModule(train=[near], test=[far]).setup("fit")
    halves = [replace(near, sampling=f"{word}first:1") for word in ("", "not ")]
    EmotionDataModule(train=halves[:1], test=halves[1:]).setup("fit")


@pytest.mark.parametrize(
    ("more", "line"),
    [({"folds": 2, "fold": 1}, "folds 2 keep speakers apart"), ({}, "no row has a speaker")],
)
def test_shared_speakers_without_effect_are_refused(
    more: dict[str, object], line: str, tmp_path: Path
) -> None:
    spec = grouped(tmp_path, "list.csv", "a.mp4,,", "b.mp4,,")
    options = {**spec.options, "shared_speakers": True, **more}
    with pytest.raises(UsageError, match=line):
        load_dataset(replace(spec, options=options))


def linked(root: Path) -> None:
    (root / "b.mp4").symlink_to("a.mp4")


def hard_linked(root: Path) -> None:
    os.link(root / "a.mp4", root / "b.mp4")


def copied(root: Path) -> None:
    shutil.copy(root / "a.mp4", root / "b.mp4")


@pytest.mark.parametrize("again", [linked, hard_linked, copied])
@pytest.mark.parametrize("size", [9, 65_536, 200_000])
def test_another_name_of_a_clip(again: Callable[[Path], None], size: int, tmp_path: Path) -> None:
    write(tmp_path, a=b"x" * size, c=b"x" * (size - 1) + b"y", d=b"z")
    again(tmp_path)
    [found] = shared_clips(listed(tmp_path, "a.mp4"), listed(tmp_path, "d.mp4", "b.mp4", "c.mp4"))
    assert (found.first.sample_id, found.second.sample_id) == ("own/a.mp4", "own/b.mp4")
    assert f"{tmp_path}/b.mp4 has the content of {tmp_path}/a.mp4" in str(found)


def test_another_spelling_of_the_root(tmp_path: Path) -> None:
    write(tmp_path, a=b"a")
    (tmp_path / "link").symlink_to(tmp_path)
    spec = own(tmp_path, "./a.mp4")
    other = replace(spec, root=f"{tmp_path}/../{tmp_path.name}/link")
    assert len(shared_clips(load_dataset(spec), load_dataset(other))) == 1


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("a.mp4,0,2", "a.mp4,2,4", False),
        ("a.mp4,0,2", "a.mp4,1.9,4", True),
        ("a.mp4,,2", "a.mp4,2,", False),
        ("a.mp4,3,", "a.mp4,,3.5", True),
        ("a.mp4", "a.mp4,7,8", True),
    ],
)
def test_spans_of_one_recording(one: str, other: str, shared: bool, tmp_path: Path) -> None:
    write(tmp_path, a=b"a")
    for first, second in ((one, other), (other, one)):
        assert len(shared_clips(listed(tmp_path, first), listed(tmp_path, second))) == shared


def test_many_spans_are_each_compared(tmp_path: Path) -> None:
    """Against the definition, span by span."""
    chance = random.Random(0)

    def spans(count: int) -> list[Sample]:
        starts = [chance.uniform(0, 500) for _ in range(count)]
        clips = (Clip(tmp_path / "a.mp4", None, s, s + chance.uniform(0.1, 4)) for s in starts)
        return [Sample(str(number), clip, "") for number, clip in enumerate(clips)]

    first, second = spans(40), spans(60)
    wanted = {
        two.sample_id for one in first for two in second
        if one.clip.start_s < two.clip.end_s and two.clip.start_s < one.clip.end_s
    }  # fmt: skip
    found = shared_clips(first, second)
    assert {entry.second.sample_id for entry in found} == wanted
    assert 5 < len(wanted) < 55
    assert all(
        entry.first.clip.start_s < entry.second.clip.end_s
        and entry.second.clip.start_s < entry.first.clip.end_s
        for entry in found
    )


def test_a_shared_sound_file(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4", "s.wav"):
        (tmp_path / name).write_bytes(name.encode())
    one, other = (Sample(n, Clip(tmp_path / n, tmp_path / "s.wav"), "") for n in ("a.mp4", "b.mp4"))
    assert [str(found.second_path) for found in shared_clips([one], [other])] == [
        str(tmp_path / "s.wav")
    ]


def test_only_files_of_a_size_found_on_both_sides_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, a=b"1", b=b"22", c=b"333", d=b"4444", e=b"ee", empty=b"", blank=b"")
    read: list[tuple[str, int | None]] = []
    digest = overlap_module.digest

    def counted(path: str, limit: int | None = None) -> str | None:
        read.append((Path(path).name, limit))
        return digest(path, limit)

    monkeypatch.setattr(overlap_module, "digest", counted)
    train = listed(tmp_path, "a.mp4", "b.mp4", "empty.mp4", "lost.mp4")
    assert shared_clips(train, listed(tmp_path, "c.mp4", "d.mp4", "e.mp4", "blank.mp4")) == []
    assert sorted(read) == [("b.mp4", 65_536), ("e.mp4", 65_536)]
    # A file that is not there is still known by its name.
    assert len(shared_clips(train, listed(tmp_path, "./lost.mp4"))) == 1
