"""`doctor --data --every-clip --json`: what is wrong with recordings, and what is counted."""

from __future__ import annotations

import json
import shutil
import sys
import wave
from pathlib import Path

import pytest

from r1omni.cli import main
from r1omni.data.overlap import HEAD_BYTES
from r1omni.doctor.recordings import look, same_contents
from r1omni.types import Clip

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

from field_layouts import FIELD, film, sound
from layouts import emer


def write_wave(path: Path, rate_hz: int, samples: bytes) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate_hz, 0, "NONE", ""))
        file.writeframes(samples)


def test_what_is_wrong_with_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FIELD["cremad"].write(tmp_path / "CREMA-D")
    shutil.rmtree(tmp_path / "CREMA-D" / "VideoFlash", ignore_errors=True)
    folder = tmp_path / "CREMA-D" / "AudioWAV"
    names = [f"{name}.wav" for name in (
        "1001_DFA_NEU_XX", "1001_IEO_ANG_HI", "1002_DFA_NEU_XX", "1002_IEO_DIS_HI",
        "1003_DFA_NEU_XX", "1003_IEO_FEA_HI",
    )]  # fmt: skip
    for number, path in enumerate(sorted(folder.glob("*.wav"))):
        sound(path, number)
    assert all((folder / name).is_file() for name in names)
    cut, silent, low, first, copy, gone = (folder / name for name in names)
    cut.write_bytes(b"RIFF and no more")
    write_wave(silent, 16_000, bytes(6_400))
    write_wave(low, 8_000, low.read_bytes()[44:])
    shutil.copy(first, copy)
    gone.unlink()
    report = tmp_path / "made" / "doctor.json"
    words = ["doctor", "--data", str(tmp_path), "--every-clip", "--num-workers", "1"]
    assert main([*words, "--json", str(report)]) == 1
    told = json.loads(report.read_text())
    found = told["sets"]["CREMA-D"]
    assert found["unreadable"].keys() == {str(cut)}
    assert found["silent"] == [str(silent)] and found["no_sound"] == []
    assert found["other_rate"] == {str(low): 8_000}
    assert found["rates_hz"] == {"16000": found["opened"] - 2, "8000": 1}
    assert found["duplicates"] == [sorted([str(first), str(copy)])]
    split = found["splits"]["CREMA-D"]["all"]
    # A clip that is not there is in no list of CREMA-D, whose names are its labels.
    assert split["clips"] == found["opened"] == len(list(folder.glob("*.wav")))
    assert split["missing"] == [] and sum(split["speakers"].values()) == split["clips"]
    assert split["published"]["angry"] == 1271
    assert split["differs"]["neutral"]["published"] == 1087
    assert split["differs"]["neutral"]["found"] == split["classes"]["neutral"]
    assert "Cao et al. 2014" in found["source"]
    said = {finding["subject"]: finding for finding in told["findings"]}
    assert said["CREMA-D recordings"]["status"] == "fails"
    for subject, name in (("silent", silent), ("rates", low), ("duplicates", copy)):
        assert name.name in said[f"CREMA-D {subject}"]["found"]
    assert "silent" in capsys.readouterr().out


def test_missing_sound_and_what_is_not_asked_for(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", 1)
    whole = json.loads(look("video_audio", Clip(tmp_path / "a.mp4"))[1:])
    assert whole["has_sound"] is True and whole["is_silent"] is False and whole["rate_hz"] > 0
    picture = json.loads(look("video", Clip(tmp_path / "a.mp4"))[1:])
    assert picture == {"rate_hz": None, "is_silent": False, "has_sound": None}
    sound(tmp_path / "b.wav", 1)
    assert look("video", Clip(tmp_path / "b.wav")).startswith(f"{tmp_path}/b.wav: ")


def test_files_of_one_content(tmp_path: Path) -> None:
    long = bytes(HEAD_BYTES)
    contents = {"a": b"x", "b": b"y", "c": b"x", "d": long + b"1", "e": long + b"2"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "f").symlink_to("b")  # one file under two names
    (tmp_path / "g").write_bytes(long + b"2")
    groups = same_contents(tmp_path / name for name in "gfedcba")
    assert [[path.name for path in group] for group in groups] == [["a", "c"], ["e", "g"]]


def test_explanations_in_another_script(tmp_path: Path) -> None:
    emer(tmp_path)
    [file] = (tmp_path / "EMER").rglob("final-EMER-reason.csv")
    report = tmp_path / "doctor.json"
    main(["doctor", "--data", str(tmp_path), "--json", str(report)])
    before = json.loads(report.read_text())["sets"]["EMER"]["splits"]["EMER v2"]["train"]
    assert before["other_script"] == []
    name, *_ = file.read_text(encoding="utf-8").splitlines()[1].split(",")
    file.write_text(f"name,chinese,english\n{name},,他看起来很开心因此情绪状态是 angry\n", "utf-8")
    main(["doctor", "--data", str(tmp_path), "--json", str(report)])
    told = json.loads(report.read_text())
    split = told["sets"]["EMER"]["splits"]["EMER v2"]["train"]
    assert len(split["other_script"]) == 1
    assert "EMER texts" in {finding["subject"] for finding in told["findings"]}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--every-clip"], "--every-clip is of data; give --data"),
        (["--data", ".", "--num-workers", "2"], "give --every-clip as well"),
        (["--data", ".", "--json", "."], "is a folder; name a file"),
        (["--data", ".", "--every-clip", "--num-workers", "0"], "at least 1"),
    ],
)
def test_refusals(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *words]) == 2
    assert line in capsys.readouterr().err
