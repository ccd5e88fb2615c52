"""IEMOCAP: utterances of dialogues, by session."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import field_layouts
import layouts
import pytest

from r1omni.data import DatasetSpec, load_dataset
from r1omni.media.audio import read_waveform
from r1omni.media.video import read_frames
from r1omni.types import Clip, Sample, UsageError


def iemocap(
    root: Path, split: str = "all", modality: object = None, **options: object
) -> list[Sample]:
    spec = DatasetSpec("iemocap", str(root), split, modality=modality, options=options)  # type: ignore[arg-type]
    return load_dataset(spec)


def refusal(root: Path, split: str = "all", modality: object = None, **options: object) -> str:
    with pytest.raises(UsageError) as caught:
        iemocap(root, split, modality, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("inner", ["", "IEMOCAP_full_release"])
def test_utterances_of_films(tmp_path: Path, inner: str) -> None:
    root = field_layouts.iemocap(tmp_path / inner)
    samples = iemocap(tmp_path)
    assert [(s.sample_id, s.label, s.group, s.sex) for s in samples[:5]] == [
        ("iemocap/Ses01F_impro01_F000", "angry", "session_1_female", "female"),
        ("iemocap/Ses01F_impro01_M001", "happy", "session_1_male", "male"),
        ("iemocap/Ses01F_impro01_F002", "happy", "session_1_female", "female"),
        ("iemocap/Ses01F_impro01_M003", "sad", "session_1_male", "male"),
        ("iemocap/Ses01F_impro01_F004", "neutral", "session_1_female", "female"),
    ]
    dialog = root / "Session1/dialog"
    assert samples[1].clip == Clip(
        dialog / "avi/DivX/Ses01F_impro01.avi", dialog / "wav/Ses01F_impro01.wav", 0.04, 0.08
    )
    assert {(s.modality, s.label_set, s.language) for s in samples} == {
        ("video_audio", "iemocap_4way", "en")
    }
    assert read_frames(samples[1].clip.path, 1, 0.04, 0.08).frames.shape == (1, 32, 32, 3)
    shutil.rmtree(dialog / "wav")
    assert iemocap(tmp_path)[0].clip.audio_path is None  # the film has sound, too


def test_sound_alone(tmp_path: Path) -> None:
    root = field_layouts.iemocap(tmp_path)
    first = root / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"
    sounds = iemocap(root, modality="audio")
    assert {s.modality for s in sounds} == {"audio"} and sounds[0].clip == Clip(first)
    assert read_waveform(first).waveform.shape == (3_200,)
    for session in range(1, 6):
        shutil.rmtree(root / f"Session{session}/dialog/avi")
    assert iemocap(root) == sounds
    assert "holds no Session1/dialog/avi, and modality video needs a picture" in refusal(
        root, modality="video"
    )
    shutil.rmtree(root / "Session1/sentences")
    whole = root / "Session1/dialog/wav/Ses01F_impro01.wav"
    assert iemocap(root)[1].clip == Clip(whole, None, 0.04, 0.08)


def test_protocols_and_scenarios(tmp_path: Path) -> None:
    field_layouts.iemocap(tmp_path, films=False)
    samples = iemocap(tmp_path)
    no_excited = iemocap(tmp_path, protocol="4way_no_excited")
    assert (len(samples), len(no_excited)) == (50, 40)
    assert {s.sample_id[-4:] for s in samples} - {s.sample_id[-4:] for s in no_excited} == {"F002"}
    improvised = iemocap(tmp_path, scenario="improvised")
    scripted = iemocap(tmp_path, scenario="scripted")
    assert {s.sample_id.split("_")[1] for s in improvised} == {"impro01"}
    assert {s.sample_id.split("_")[1] for s in scripted} == {"script01"}
    assert len(improvised) + len(scripted) == 50


def test_six_classes(tmp_path: Path) -> None:
    field_layouts.iemocap(tmp_path, films=False)
    samples = iemocap(tmp_path, protocol="6way")
    by_code = dict(zip(("F000", "M001", "F002", "M003", "F004", "M005"),
                       ("angry", "happy", "excited", "sad", "neutral", "frustrated"),
                       strict=True))  # fmt: skip
    assert len(samples) == 60 and {s.label_set for s in samples} == {"iemocap_6way"}
    assert all(s.label == s.target == by_code[s.sample_id[-4:]] for s in samples)
    improvised = iemocap(tmp_path, protocol="6way", scenario="improvised")
    assert Counter(s.label for s in improvised) == dict.fromkeys(by_code.values(), 5)
    # A table of one's own may have them, too, where it names the label set.
    layouts.write(tmp_path / "mine.csv", "path,label\na.wav,Excitement\nb.wav,frustration\n")
    spec = DatasetSpec("own", str(tmp_path / "mine.csv"), "all")
    with pytest.raises(UsageError, match="label 'Excitement' is none of the classes happy, sad"):
        load_dataset(spec)
    named = load_dataset(replace(spec, options={"label_set": "iemocap_6way"}))
    assert [s.label for s in named] == ["excited", "frustrated"]


def test_sessions_are_apart(tmp_path: Path) -> None:
    root = field_layouts.iemocap(tmp_path, films=False)

    def sessions(split: str, **options: object) -> set[str]:
        return {s.group.split("_")[1] for s in iemocap(root, split, **options) if s.group}

    held = {"fold": 5, "hold_out_val": True}
    assert sessions("test", **held) == {"5"} and sessions("val", **held) == {"1"}
    assert sessions("train", **held) == {"2", "3", "4"}
    assert sessions("train", fold=5) == {"1", "2", "3", "4"}
    shutil.rmtree(root / "Session5")
    assert "asks for session 5, and holds 1, 2, 3, 4; choose another" in refusal(
        root, "test", fold=5
    )
    assert "give the option fold, 1 to 5" in refusal(root, "train")
    assert "fold 6 does not exist; use 1 to 5" in refusal(root, "test", fold=6)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1.0 - 2.0]\tSes01F_impro01_F000\tbor\t[2.5, 2.5, 2.5]", "emotion 'bor' is none of ang,"),
        ("[1.0 - 2.0]\tSes01F_impro01_X000\tang\t[2.5, 2.5, 2.5]", "expected `[start - end]`, an"),
        ("[1.0 2.0]\tSes01F_impro01_F000\tang", "expected `[start - end]`, an utterance such as"),
    ],
)
def test_labels_are_never_guessed(tmp_path: Path, line: str, message: str) -> None:
    file = layouts.write(tmp_path / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt", line)
    text = refusal(tmp_path)
    assert text.startswith(f"{file}, line 1: ") and message in text
    assert "no sessions of IEMOCAP; looked for Session1/dialog" in refusal(file.parent)
