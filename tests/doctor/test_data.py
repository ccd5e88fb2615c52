"""Checks of data roots: whole ones, subsets, and what is missing from them."""

from __future__ import annotations

import json
import os
import shutil
import wave
from pathlib import Path

import pytest

from r1omni.doctor import published
from r1omni.doctor.checks import Finding
from r1omni.doctor.data import check_data
from r1omni.doctor.decoders import write_clip

# Utterances of each letter of a small Emo-DB: two of each speaker.
EMODB = {"W": 5, "L": 3, "E": 1, "A": 3, "F": 3, "T": 2, "N": 3}
LABELS = ("1", "2", "3", "4", "5", "6", "7")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One short recording, which stands for all."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_clip(path)
    return path


@pytest.fixture(autouse=True)
def small_publishers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets of a few clips, so that a whole one is quickly written."""
    monkeypatch.setattr(published, "FOLDS", {"dfew": ((3, 7),) * 5, "mafw": ((2, 1),) * 5})
    classes = ("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear")
    monkeypatch.setattr(published, "DFEW_TEST_CLASSES", dict.fromkeys(classes, 1))
    monkeypatch.setattr(published, "EMER_ROWS", {"v2": 2, "v1": 1})
    names = dict(zip("WLEAFTN", published.EMODB_CLASSES, strict=True))
    monkeypatch.setattr(published, "EMODB_CLASSES", {names[x]: n for x, n in EMODB.items()})
    monkeypatch.setattr(published, "EMODB_SPEAKERS", dict.fromkeys(published.EMODB_SPEAKERS, 2))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_sound(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(b"\0\1" * 8_000)


def link(clip: Path, *paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(clip, path)


def write_dfew(root: Path, clip: Path, folds: int = 5) -> Path:
    link(clip, *(root / "Clip" / "original" / f"{number}.mp4" for number in range(1, 11)))
    for fold in range(1, folds + 1):
        train = "".join(f"{number},1\n" for number in (8, 9, 10))
        test = "".join(f"{number},{label}\n" for number, label in enumerate(LABELS, start=1))
        for split, rows in (("train", train), ("test", test)):
            folder = root / "EmoLabel_DataSplit" / f"{split}(single-labeled)"
            write(folder / f"set_{fold}.csv", f"video_name,label\n{rows}")
    return root


def write_mafw(root: Path, clip: Path) -> Path:
    link(clip, *(root / "data" / "clips" / f"0000{number}.mp4" for number in (1, 2, 3)))
    for fold in range(1, 6):
        folder = root / "Train & Test Set" / "single" / "no_caption" / f"set_{fold}"
        write(folder / "train.txt", "00001.mp4 anger\n00002.mp4 fear\n")
        write(folder / "test.txt", "00003.mp4 anxiety\n")
    return root


def write_ravdess(root: Path, clip: Path, kind: str = "01-01", suffix: str = ".mp4") -> Path:
    for actor in range(1, 25):
        for emotion in range(1, 9):
            for intensity in ("01",) if emotion == 1 else ("01", "02"):
                for take in ("01-01", "01-02", "02-01", "02-02"):
                    name = f"{kind}-{emotion:02d}-{intensity}-{take}-{actor:02d}{suffix}"
                    link(clip, root / f"Actor_{actor:02d}" / name)
    return root


def write_song(root: Path, clip: Path, kind: str) -> Path:
    """44 recordings of each of 23 actors: six emotions, and nobody sings as actor 18."""
    for actor in range(1, 25):
        for emotion in range(1, 7) if actor != 18 else ():
            for intensity in ("01",) if emotion == 1 else ("01", "02"):
                for take in ("01-01", "01-02", "02-01", "02-02"):
                    name = f"{kind}-{emotion:02d}-{intensity}-{take}-{actor:02d}.wav"
                    link(clip, root / f"Actor_{actor:02d}" / name)
    return root


def write_emodb(root: Path, per_class: dict[str, int], sound: Path) -> Path:
    """So many utterances of each letter, dealt to the speakers in turn."""
    speakers = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
    letters = "".join(letter * number for letter, number in per_class.items())
    for turn, letter in enumerate(letters):
        link(sound, root / f"{speakers[turn % 10]}a{turn:02d}{letter}a.wav")
    return root


def write_emer(root: Path, clip: Path) -> Path:
    link(clip, root.parent / "MER2023" / "train" / "sample_1.mp4")
    link(clip, root.parent / "MER2023" / "train" / "sample_2.mp4")
    write(
        root / "dataset-v2" / "final-EMER-reason.csv",
        "name,chinese,english\nsample_1,,He is angry.\nsample_2,,She is sad.\n",
    )
    return root


def entry(video: str, question: str = "<video>\n<audio>\nWhat is felt?") -> dict[str, object]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": "sad"}]
    return {"video": video, "conversations": turns}


def examined(root: Path) -> dict[str, Finding]:
    findings = list(check_data(root))
    assert len({finding.subject for finding in findings}) == len(findings)
    return {finding.subject: finding for finding in findings}


def statuses(found: dict[str, Finding]) -> dict[str, str]:
    return {subject: finding.status for subject, finding in found.items()}


def test_everything_as_published(clip: Path, tmp_path: Path) -> None:
    write_dfew(tmp_path / "dfew", clip)  # letters of any case
    write_mafw(tmp_path / "MAFW", clip)
    write_ravdess(tmp_path / "Ravdess", clip)
    write_emer(tmp_path / "EMER", clip)
    write_sound(tmp_path / "sound.wav")
    write_emodb(tmp_path / "Emo-DB" / "wav", EMODB, tmp_path / "sound.wav")
    write(tmp_path / "HumanOmni" / "a.json", json.dumps([entry("MAFW/data/clips/00001.mp4")]))
    found = examined(tmp_path)
    assert set(statuses(found).values()) == {"ok"}
    assert found["DFEW fold 1"].found == "train 3, test 7, every clip there"
    assert found["MAFW fold 5"].found == "train 2, test 1, every clip there"
    assert found["RAVDESS"].found == "1,440 of speech by 24 of 24 actors, every clip there"
    assert found["EMER v2"].found == "2 explained clips, every clip there"
    assert found["EmoDB"].found == (
        "20 utterances by 10 of 10 speakers, 3 of them of boredom, which no protocol has, every "
        "clip there"
    )
    assert f"1 entries, paths from {tmp_path}," in found["HumanOmni a.json"].found
    assert found["DFEW clip"].found == "8.mp4: 1.2 s, 64 x 64 px; most were not opened"


def test_counts_that_differ_are_notes(clip: Path, tmp_path: Path) -> None:
    root = write_dfew(tmp_path / "DFEW", clip, folds=1)
    test = root / "EmoLabel_DataSplit" / "test(single-labeled)" / "set_1.csv"
    test.write_text(test.read_text().replace("7,7\n", "7,6\n"))
    found = examined(tmp_path)
    assert set(statuses(found).values()) == {"ok", "note"}
    assert "disgust 2 instead of 1, fear 0 instead of 1" in found["DFEW fold 1"].found
    assert "folds 2, 3, 4, 5" in found["DFEW folds"].found
    assert "MAFW, RAVDESS, EMER, HumanOmni, EmoDB" in found["other sets"].found
    test.write_text(test.read_text().replace("7,6\n", ""))
    found = examined(tmp_path)
    assert found["DFEW fold 1"].status == "note"
    assert "published: train 3, test 7" in found["DFEW fold 1"].found


def test_actors_that_are_missing(clip: Path, tmp_path: Path) -> None:
    root = write_ravdess(tmp_path / "RAVDESS", clip)
    shutil.rmtree(root / "Actor_24")
    finding = examined(tmp_path)["RAVDESS"]
    assert finding.status == "note"
    assert "1,380 of speech by 23 of 24 actors" in finding.found
    assert "published: 1,440" in finding.found
    assert "neutral 92 instead of 96" in finding.found and "5 classes more" in finding.found


def test_a_deleted_clip(clip: Path, tmp_path: Path) -> None:
    root = write_dfew(tmp_path / "DFEW", clip)
    (root / "Clip" / "original" / "9.mp4").unlink()
    finding = examined(tmp_path)["DFEW fold 3"]
    assert finding.status == "fails"  # one of three
    assert "train 1 (9.mp4)" in finding.found
    assert str(root / "Clip" / "original") in finding.remedy
    (root / "Clip" / "original" / "9.mp4").touch()  # a download that failed
    assert examined(tmp_path)["DFEW fold 3"].status == "fails"


@pytest.mark.parametrize(("lost", "status"), [(1, "note"), (2, "fails")])
def test_up_to_one_in_a_hundred_may_be_missing(
    lost: int, status: str, clip: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "HumanOmni"
    link(clip, *(folder / "videos" / f"{number}.mp4" for number in range(lost, 100)))
    entries = [entry(f"videos/{number}.mp4") for number in range(100)]
    # Asked twice about each: clips are counted, not questions.
    write(folder / "train.json", json.dumps(entries + entries))
    finding = examined(tmp_path)["HumanOmni train.json"]
    assert finding.status == status
    assert f"200 entries, paths from {folder}" in finding.found
    assert f"train {lost} (0.mp4" in finding.found


def test_names_are_listed_shortly(clip: Path, tmp_path: Path) -> None:
    write(tmp_path / "HumanOmni" / "a.json", json.dumps([entry(f"{n}.mp4") for n in range(9)]))
    finding = examined(tmp_path)["HumanOmni a.json"]
    assert "train 9 (0.mp4, 1.mp4, 2.mp4 and 6 more)" in finding.found
    assert "HumanOmni clip" not in examined(tmp_path)


def test_a_separate_sound_file_counts(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "HumanOmni"
    link(clip, folder / "1.mp4")
    write(folder / "a.json", json.dumps([entry("1.mp4") | {"audio": "1.wav"}]))
    finding = examined(tmp_path)["HumanOmni a.json"]
    assert finding.status == "fails" and "1.wav" in finding.found


def test_broken_files(clip: Path, tmp_path: Path) -> None:
    root = write_dfew(tmp_path / "DFEW", clip)
    labels = root / "EmoLabel_DataSplit" / "train(single-labeled)" / "set_2.csv"
    labels.write_text("video_name,label\n1,9\n")
    write(tmp_path / "HumanOmni" / "a.json", "[{")
    (tmp_path / "HumanOmni" / "b.json").write_text(json.dumps([entry("../x.mp4")]))
    (tmp_path / "RAVDESS").mkdir()
    (tmp_path / "EMER").mkdir()
    write(tmp_path / "MAFW" / "readme.txt", "nothing yet")
    found = examined(tmp_path)
    failed = {subject for subject, status in statuses(found).items() if status == "fails"}
    assert failed == {
        "DFEW fold 2 train", "MAFW", "RAVDESS", "EMER", "HumanOmni a.json", "HumanOmni b.json",
    }  # fmt: skip
    assert "set_2.csv, line 2: label '9'" in found["DFEW fold 2 train"].found
    assert "malformed JSON" in found["HumanOmni a.json"].found
    assert "MAFW/Train & Test Set" in found["MAFW"].remedy
    assert found["DFEW fold 1"].status == found["DFEW clip"].status == "ok"


def test_no_clips_is_said_once(clip: Path, tmp_path: Path) -> None:
    root = write_dfew(tmp_path / "DFEW", clip)
    shutil.rmtree(root / "Clip")
    found = examined(tmp_path)
    assert statuses(found) == {"DFEW": "fails", "other sets": "note"}
    assert "no folder with clips" in found["DFEW"].found


def test_clips_that_do_not_open(clip: Path, tmp_path: Path) -> None:
    clips = write_mafw(tmp_path / "MAFW", clip) / "data" / "clips"
    for number in (1, 2, 3):
        path = clips / f"0000{number}.mp4"
        data = path.read_bytes()
        path.unlink()  # a link: the other tests' clip must stay whole
        path.write_bytes(data[:500] if number < 2 else data)
    finding = examined(tmp_path)["MAFW clip"]
    assert finding.status == "note"
    assert "00001.mp4: is no recording" in finding.found and "00002.mp4: 1.2 s" in finding.found
    (clips / "00002.mp4").write_bytes(b"not a recording at all")
    finding = examined(tmp_path)["MAFW clip"]
    assert finding.status == "fails" and "none of 2 tried" in finding.found


def test_the_root_may_be_one_set_itself(clip: Path, tmp_path: Path) -> None:
    for write_set, title in ((write_dfew, "DFEW fold 1"), (write_mafw, "MAFW fold 1"),
                             (write_ravdess, "RAVDESS"), (write_emer, "EMER v2")):  # fmt: skip
        root = write_set(tmp_path / title / "of any name", clip)
        found = examined(root)
        assert found[title].status == "ok"
        assert set(statuses(found).values()) == {"ok"}
    root = tmp_path / "instructions"
    link(clip, root / "1.mp4")
    write(root / "more.jsonl", json.dumps(entry("1.mp4")) + "\n")
    assert statuses(examined(root)) == {"HumanOmni more.jsonl": "ok", "HumanOmni clip": "ok"}


@pytest.mark.parametrize(
    ("kind", "suffix", "found"),
    [
        ("03-01", ".wav", "1,440 of speech by 24 of 24 actors, sound alone, every clip there"),
        ("02-01", ".MP4", "1,440 of speech by 24 of 24 actors, the picture alone, every clip"),
        ("03-02", ".wav", "1,012 of song by 23 of 24 actors, sound alone, every clip there"),
    ],
)
def test_archives_of_ravdess(
    clip: Path, tmp_path: Path, kind: str, suffix: str, found: str
) -> None:
    write_sound(tmp_path / "sound.wav")
    file = tmp_path / "sound.wav" if suffix == ".wav" else clip
    folder = tmp_path / "any name"
    song = kind.endswith("02")
    root = write_song(folder, file, kind) if song else write_ravdess(folder, file, kind, suffix)
    findings = examined(root)
    assert found in findings["RAVDESS"].found
    assert set(statuses(findings).values()) == {"ok"}
    (root / "Actor_24").rename(tmp_path / "Actor_24")
    (root / "Actor_24").symlink_to(tmp_path / "Actor_24")
    finding = examined(root)["RAVDESS"]
    assert finding.status == "fails" and "'Actor_24' leads outside" in finding.found


def test_song_beside_speech(clip: Path, tmp_path: Path) -> None:
    write_sound(tmp_path / "sound.wav")
    root = write_ravdess(tmp_path / "RAVDESS", tmp_path / "sound.wav", "03-01", ".wav")
    write_song(root, tmp_path / "sound.wav", "03-02")
    (root / "Actor_24" / "03-02-01-01-01-01-24.wav").unlink()
    link(tmp_path / "sound.wav", root / "Actor_18" / "03-02-07-01-01-01-18.wav")
    finding = examined(root)["RAVDESS"]
    assert finding.status == "note" and finding.found == (
        "1,440 of speech and 1,012 of song by 24 of 24 actors, sound alone, every clip there; "
        "published: 1,012 of song; neutral 91 instead of 92, disgust 1 instead of 0; "
        "actor_24 43 instead of 44, actor_18 1 instead of 0"
    )


def test_emodb_differs_from_what_is_published(clip: Path, tmp_path: Path) -> None:
    write_sound(tmp_path / "sound.wav")
    root = write_emodb(tmp_path / "any name", EMODB | {"W": 4, "L": 0}, tmp_path / "sound.wav")
    finding = examined(root)["EmoDB"]
    assert finding.status == "note"
    assert finding.found.startswith("16 utterances by 10 of 10 speakers, every clip there; ")
    assert "published: 20; angry 4 instead of 5, boredom 0 instead of 3; speaker" in finding.found
    (root / "17a01Wa.wav").touch()
    finding = examined(root)["EmoDB"]
    assert finding.status == "fails" and "speaker 17 is none of 03, 08" in finding.found


def test_nothing_there(tmp_path: Path) -> None:
    write(tmp_path / "config.json", "{}")
    found = examined(tmp_path)
    assert list(found) == ["data"]
    assert found["data"].status == "fails" and str(tmp_path) in found["data"].found
    for name in ("DFEW/", "MAFW/", "RAVDESS/", "EMER/", "HumanOmni/", "EmoDB/", "synthesize"):
        assert name in found["data"].remedy


def test_sound_alone_opens(clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "HumanOmni"
    link(clip, folder / "1.mp4")
    write(folder / "a.json", json.dumps([entry("1.mp4", "<audio>\nHow does it sound?")]))
    assert examined(tmp_path)["HumanOmni clip"].found.startswith("1.mp4: 1.2 s;")
