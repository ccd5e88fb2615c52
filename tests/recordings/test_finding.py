"""Which recordings words of a command line mean."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from clean_media import clean_files

from r1omni.recordings.finding import find_recordings, named_paths
from r1omni.types import UsageError

# Files that are no recordings, and none that a media player would take for one.
OTHERS = {
    "labels.csv": b"path,label\na.mp4,happy\n" * 50,
    "notes.txt": b"To be or not to be, that is the question.\n" * 50,
    "subtitles.srt": b"1\n00:00:01,000 --> 00:00:02,000\nHello.\n\n" * 9,
    "config.json": b"{}",
    "script.py": Path(__file__).read_bytes(),
    "zeros.bin": bytes(5000),
    "noise.bin": np.random.default_rng(0).bytes(5000),
    "array.npy": b"\x93NUMPY\x01\x00" + np.random.default_rng(1).bytes(5000),
    "list.m3u8": b"#EXTM3U\n#EXTINF:2,\nclip.mp4\n",
    "picture.png": b"\x89PNG\r\n\x1a\n" + bytes(500),
    "empty": b"",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Recordings in folders, among other files."""
    root = tmp_path / "data"
    for place in ("b/deep", ".hidden"):
        (root / place).mkdir(parents=True)
    files = clean_files()
    (root / "b/deep/clip.mp4").write_bytes(files["clip.mp4"])
    (root / "b/SOUND.WAV").write_bytes(files["clip.wav"])
    (root / "a.dat").write_bytes(files["clip.mkv"])  # by content, not by name
    (root / "broken.mp4").write_bytes(files["clip.mp4"][:1000])  # named as one: to be told
    (root / ".b.mp4").write_bytes(files["clip.mp4"])
    (root / ".hidden/c.mp4").write_bytes(files["clip.mp4"])
    (root / "b/back").symlink_to(root)
    for name, content in OTHERS.items():
        (root / name).write_bytes(content)
    return root


def test_recordings_below_a_folder(folder: Path, tmp_path: Path) -> None:
    found, missing, notes = find_recordings([folder])
    names = [str(path.relative_to(folder)) for path in found]
    assert names == ["a.dat", "broken.mp4", "b/SOUND.WAV", "b/deep/clip.mp4"]
    assert missing == {}
    assert notes == [f"{folder}: 4 recordings, {len(OTHERS)} other files are left out"]
    # Folders that are linked are followed, and what was named before is not repeated.
    (folder / "b/back").unlink()
    (tmp_path / "links").mkdir()
    (tmp_path / "links/to").symlink_to(folder / "b")
    found, _, _ = find_recordings([folder / "a.dat", folder, tmp_path / "links"])
    assert len(found) == 6 and found[0] == folder / "a.dat"
    assert found[4] == tmp_path / "links/to/SOUND.WAV"


def test_one_of_a_kind_is_told_as_one(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(clean_files()["clip.mp4"])
    (tmp_path / "a.txt").write_text("words")
    _, _, notes = find_recordings([tmp_path, tmp_path / "../" / tmp_path.name / "a.mp4"])
    assert notes == [
        f"{tmp_path}: 1 recording, 1 other file is left out",
        "1 recording is named twice, and analyzed once",
    ]


def test_a_recording_that_is_spelled_twice_is_analyzed_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    words = [Path("b/../a.dat"), folder / "a.dat", Path("a.dat"), Path("b/deep")]
    found, _, notes = find_recordings(words)
    assert found == [words[0], Path("b/deep/clip.mp4")]
    assert notes[-1] == "2 recordings are named twice, and analyzed once"


def test_paths_without_recordings(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    gone, none = tmp_path / "gone.mp4", tmp_path / "none"
    found, missing, _ = find_recordings([gone, folder / "a.dat", none])
    assert found == [folder / "a.dat"]
    assert list(missing) == [gone, none]
    with pytest.raises(
        UsageError, match=r"gone\.mp4: there is no such .*none: holds no recordings"
    ):
        find_recordings([gone, none])


def test_files_of_folders_are_tried_in_workers(folder: Path) -> None:
    """And messages are of one line, whatever a file is called."""
    odd = folder / "of two\nlines \udcff.mp4"
    odd.write_bytes(clean_files()["clip.mp4"])
    found, missing, _ = find_recordings([folder, folder / "gone\n.mp4"], num_workers=1)
    assert (found, missing) == find_recordings([folder, folder / "gone\n.mp4"])[:2]
    assert odd in found and all(line.isprintable() for line in missing.values())


def given(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_words_of_a_command_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = folder / "what [is] this?*.mp4"
    odd.write_bytes(b"")
    given(monkeypatch, b"one.mp4\n\ntwo words.mp4\r\nno \xff text.mp4")
    found = named_paths([str(odd), f"{folder}/b/*", "-", f"{folder}/**/*.mp4", "x?.mp4"])
    listed = [Path("one.mp4"), Path("two words.mp4"), Path("no \udcff text.mp4")]
    deep = [folder / "b/deep/clip.mp4", folder / "broken.mp4", odd]  # not again through b/back
    inside = [folder / "b/SOUND.WAV", folder / "b/back", folder / "b/deep"]
    assert found == [odd, *inside, *listed, *deep, Path("x?.mp4")]
    given(monkeypatch, b"of two\nlines.mp4\0b.mp4\0")  # find -print0
    assert named_paths(["-"]) == [Path("of two\nlines.mp4"), Path("b.mp4")]
    given(monkeypatch, b"\n")
    for words in (["-"], ["-", "-"]):
        with pytest.raises(UsageError, match="-"):
            named_paths(words)
