"""Every loader on its publisher's layout."""

from __future__ import annotations

from pathlib import Path

import layouts
import pytest

from r1omni.data import DatasetSpec, load_dataset
from r1omni.data.emer import last_emotion
from r1omni.text.prompt import R1OMNI_INSTRUCTION
from r1omni.types import Clip, Sample, UsageError


def load(name: str, root: Path, split: str = "train", **options: object) -> list[Sample]:
    return load_dataset(DatasetSpec(name, str(root), split=split, options=dict(options)))


@pytest.mark.parametrize(
    ("clips", "names"),
    [
        ("Clip/original", ("1", "2", "7")),
        ("clip", ("00001", "00002", "00007")),
        ("videos", ("1", "00002", "7")),
    ],
)
def test_dfew(tmp_path: Path, clips: str, names: tuple[str, ...]) -> None:
    samples = load("dfew", layouts.dfew(tmp_path, clips, names))
    assert [sample.label for sample in samples] == ["happy", "angry", "fear"]
    assert [sample.clip.path for sample in samples] == [
        tmp_path / clips / f"{name}.mp4" for name in names
    ]
    first = samples[0]
    assert (first.sample_id, first.dataset, first.target) == ("dfew/1", "dfew", "happy")
    assert first.instruction == R1OMNI_INSTRUCTION
    assert first.modality == "video_audio"
    assert [s.label for s in load("dfew", tmp_path, "test")] == ["sad"]


def test_padded_names_in_dfews_csv(tmp_path: Path) -> None:
    layouts.dfew(tmp_path)
    csv = "EmoLabel_DataSplit/train(single-labeled)/set_1.csv"
    layouts.write(tmp_path / csv, "video_name,label\n00002,3\n")
    assert load("dfew", tmp_path)[0].clip.path == tmp_path / "Clip/original/2.mp4"


def test_missing_clip_is_listed_all_the_same(tmp_path: Path) -> None:
    layouts.dfew(tmp_path)
    (tmp_path / "Clip/original/2.mp4").unlink()
    assert load("dfew", tmp_path)[1].clip.path == tmp_path / "Clip/original/2.mp4"


@pytest.mark.parametrize("split_folder", ["Train & Test Set", "Train_Test_Set", "split", "anno"])
@pytest.mark.parametrize("clips", ["data/clips", "clips"])
def test_mafw(tmp_path: Path, split_folder: str, clips: str) -> None:
    samples = load("mafw", layouts.mafw(tmp_path, split_folder, clips), fold=2)
    assert [(s.label, s.target) for s in samples] == [
        ("angry", "angry"),
        ("helplessness", "helpless"),
    ]
    assert samples[0].clip.path == tmp_path / clips / "00025.mp4"
    assert load("mafw", tmp_path, "test", fold=2)[0].target == "contemptuous"


def test_ravdess(tmp_path: Path) -> None:
    layouts.ravdess(tmp_path)
    samples = load("ravdess", tmp_path, "test")
    assert len(samples) == 24  # speech with sound only
    assert samples[0].group == "actor_01"
    assert {s.label for s in samples} >= {"neutral", "calm", "fear", "surprise"}
    without_calm = load("ravdess", tmp_path, "test", protocol="7way_no_calm")
    assert len(without_calm) == 21
    merged = load("ravdess", tmp_path, "test", protocol="7way_calm_as_neutral")
    assert [s.label for s in merged].count("neutral") == 6
    assert {s.group for s in load("ravdess", tmp_path, "test", actors=[2, 5])} == {
        "actor_02",
        "actor_05",
    }
    assert {s.group for s in load("ravdess", tmp_path, "test", fold=2)} == {"actor_05"}
    assert {s.group for s in load("ravdess", tmp_path, "train", fold=2)} == {
        "actor_01",
        "actor_02",
    }
    assert len(load("ravdess", tmp_path, "test", vocal="both")) == 48


def test_emer_takes_the_last_emotion_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    samples = load("emer", layouts.emer(tmp_path))
    assert [s.label for s in samples] == ["angry", "anxiety"]
    assert samples[0].target == (
        "<think>He frowns, so he is\nangry.</think>\n<answer>angry</answer>"
    )
    assert samples[1].target.endswith("<answer>anxious</answer>")
    assert samples[0].clip.path == tmp_path / "MER2023/train/sample_1.avi"
    assert "sample_3" in caplog.text


def test_emer_prefers_the_label_file(tmp_path: Path) -> None:
    root = layouts.emer(tmp_path)
    layouts.write(
        tmp_path / "MER2023/train-label.csv",
        "name,discrete,valence\nsample_1,sad,-1\nsample_2,worried,-1\nsample_3,neutral,0\n",
    )
    samples = load("emer", root)
    assert [s.label for s in samples] == ["sad", "anxiety", "neutral"]
    # A video that is nowhere is found missing when it is decoded.
    assert samples[2].clip.path == tmp_path / "MER2023/train/sample_3.mp4"
    own = layouts.write(tmp_path / "mine.csv", "name,discrete\nsample_1,happy\n")
    relabelled = load("emer", root, labels_csv=str(own))
    assert relabelled[0].label == "happy"


def test_emer_with_free_emotion_words(tmp_path: Path) -> None:
    root = layouts.emer(tmp_path)
    assert [s.open_labels for s in load("emer", root)] == [None, None]
    words = "name,openset\nsample_2,\"['worried', 'Tense, uneasy']\"\nsample_9,[]\n"
    layouts.write(tmp_path / "MER2023/track2_train_ovmerd.csv", words)
    open_labels = [s.open_labels for s in load("emer", root)]
    assert open_labels == [None, ("worried", "tense", "uneasy")]
    own = layouts.write(tmp_path / "mine.csv", "name,openset\nsample_1,angry\n")
    relabelled = load("emer", root, open_labels_csv=str(own))
    assert [s.open_labels for s in relabelled] == [("angry",), None]
    with pytest.raises(UsageError, match="open_labels_csv of emer names no file"):
        load("emer", root, open_labels_csv="nowhere.csv")


def test_samples_know_their_label_set(tmp_path: Path) -> None:
    assert {s.label_set for s in load("emer", layouts.emer(tmp_path))} == {"mer"}
    root = layouts.ravdess(tmp_path / "ravdess")
    protocol = "7way_calm_as_neutral"
    samples = load("ravdess", root, "test", protocol=protocol)
    assert {s.label_set for s in samples} == {f"ravdess_{protocol}"}


def test_emer_v1(tmp_path: Path) -> None:
    root = layouts.emer(tmp_path)
    samples = load("emer", root, version="v1", video_root=str(tmp_path / "MER2023"))
    assert [s.target for s in samples] == [
        "<think>A smile: joyful.</think>\n<answer>happy</answer>"
    ]


def test_last_emotion() -> None:
    assert last_emotion("He seems sad at first, then Happy!") == "happy"
    assert last_emotion("A tall man.") is None


@pytest.mark.parametrize("file", [None, "more.jsonl"])
def test_humanomni(tmp_path: Path, file: str | None) -> None:
    samples = load("humanomni", layouts.humanomni(tmp_path), file=file)
    assert [s.modality for s in samples] == ["video_audio", "video", "audio", "video_audio"]
    assert [s.instruction for s in samples] == [
        "Which emotion?",
        "What is seen?",
        "How?",
        "No tag here",
    ]
    assert [s.label for s in samples] == ["sad", None, "angry", "calm"]
    assert samples[1].target == "A man smiles."
    assert samples[0].clip.path == tmp_path / "DFEW/videos/1.mp4"


def test_humanomni_mixture(tmp_path: Path) -> None:
    samples = load("humanomni", layouts.humanomni(tmp_path), file="mix.yaml")
    assert [s.sample_id for s in samples] == [
        "humanomni/train/1",
        "humanomni/more/3",
        "humanomni/more/4",
    ]
    spec = DatasetSpec("humanomni", str(tmp_path / "train.json"), instruction="Say it.")
    assert {s.instruction for s in load_dataset(spec)} == {"Say it."}


def test_own_csv(tmp_path: Path) -> None:
    layouts.write(
        tmp_path / "labels.csv",
        "path,label,reasoning,start,end,split\n"
        "a.mp4,Joy,,,,train\n"
        'b.mp4,anger,"She shouts, loud.",1.5,4,train\n'
        "c.mp4,,,,,test\n",
    )
    samples = load("own", tmp_path)
    assert [s.label for s in samples] == ["happy", "angry"]
    assert samples[0].target == "happy"
    assert samples[1].target == "<think>She shouts, loud.</think>\n<answer>angry</answer>"
    assert (samples[1].clip.start_s, samples[1].clip.end_s) == (1.5, 4.0)
    unlabelled = load("own", tmp_path, "test")
    assert [(s.label, s.target) for s in unlabelled] == [(None, None)]
    assert len(load("own", tmp_path, "all")) == 3


@pytest.mark.parametrize("name", ["talk.mp4", "talk.MKV", "talk.wav"])
def test_own_single_recording(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    [sample] = load_dataset(DatasetSpec("own", str(tmp_path / name), "predict"))
    assert sample.sample_id == f"own/{name}"
    assert sample.clip == Clip(tmp_path / name)
    assert sample.label is None and sample.target is None


def test_own_jsonl(tmp_path: Path) -> None:
    layouts.write(
        tmp_path / "clips.jsonl",
        '{"path": "a.mp4", "label": "fear", "start": 0.5, "group": "anna"}\n'
        '{"path": "a.mp4", "label": "fear", "start": 2, "audio": "a.wav"}\n',
    )
    samples = load("own", tmp_path / "clips.jsonl", "all")
    assert [s.clip.start_s for s in samples] == [0.5, 2.0]
    assert samples[0].group == "anna"
    assert samples[1].clip.audio_path == tmp_path / "a.wav"


def test_instruction_and_modality_are_passed_on(tmp_path: Path) -> None:
    layouts.dfew(tmp_path)
    spec = DatasetSpec("dfew", str(tmp_path), instruction="Well?", modality="audio")
    assert {(s.instruction, s.modality) for s in load_dataset(spec)} == {("Well?", "audio")}
