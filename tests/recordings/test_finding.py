"""Finding recordings below folders, and writing what is said about them line by line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts"))

from clean_media import clean_files  # noqa: E402
from r1omni.analysis.recordings import find_recordings, open_output, write_analyses  # noqa: E402

from r1omni.types import Analysis, R1OmniError, UsageError  # noqa: E402

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


class Speaker:
    """Stands for the model: says one word a window, and fails where a file's name says so."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def iter_analyses(self, path: Path, window_s: float) -> Iterator[Analysis]:
        for window in range(3):
            if window == 1:
                # Whoever kills the process now has lost nothing: it is in the file.
                assert json.loads(self.out.read_text().splitlines()[-1])["path"] == str(path)
                if path.name == "bad.mp4":
                    raise R1OmniError(f"{path}: is damaged; copy it again")
                if path.name == "stop.mp4":
                    raise KeyboardInterrupt
            yield Analysis(window * window_s, (window + 1) * window_s, "happy", {"happy": 1.0})


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_line_is_written_when_it_is_known(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    good, bad, gone = (tmp_path / f"{name}.mp4" for name in ("good", "bad", "gone"))
    with (
        pytest.raises(
            R1OmniError, match=r"^2 of 4 recordings could not be analyzed: no file; .*bad\.mp4: is"
        ),
        open_output(path, []) as out,
    ):
        write_analyses(Speaker(path), [good, bad, good], {gone: "no file"}, out, window_s=2.0)
    assert [Path(row["path"]).stem for row in rows(path)] == [
        "gone", "good", "good", "good", "bad", "bad", "good", "good", "good",
    ]  # fmt: skip
    errors = [row["error"] for row in rows(path) if "error" in row]
    assert errors == ["no file", f"{bad}: is damaged; copy it again"]
    assert rows(path)[2] == {
        "path": str(good), "start_s": 2.0, "end_s": 4.0, "label": "happy",
        "scores": {"happy": 1.0}, "reasoning": "", "text": "", "format_ok": False, "warnings": [],
    }  # fmt: skip


def test_what_was_written_stays_when_a_person_stops_it(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt), open_output(path, []) as out:
        write_analyses(Speaker(path), [tmp_path / "stop.mp4"], {}, out, window_s=2.0)
    assert len(rows(path)) == 1


# Answers once, then waits to be killed.
KILLED = """
import sys, time
from pathlib import Path
from r1omni.analysis.recordings import open_output, write_analyses
from r1omni.types import Analysis

class Slow:
    def iter_analyses(self, path):
        yield Analysis(0.0, 1.0, "happy")
        time.sleep(60)

with open_output(Path(sys.argv[1]), []) as out:
    write_analyses(Slow(), [Path("a.mp4")], {}, out)
"""


def test_what_was_written_stays_when_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    with subprocess.Popen([sys.executable, "-c", KILLED, path], env=environment) as process:
        deadline = time.monotonic() + 60
        while not (path.exists() and path.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
    assert [row["label"] for row in rows(path)] == ["happy"]


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    recording = tmp_path / "a.mp4"
    recording.write_bytes(b"mine")
    another = "choose another file"
    remedies = {tmp_path / "no/out.jsonl": "make the folder", tmp_path: another, recording: another}
    for path, remedy in remedies.items():
        with (
            pytest.raises(UsageError, match=f"^--out {path}: .*; {remedy}"),
            open_output(path, [recording]),
        ):
            pass
    assert recording.read_bytes() == b"mine"
    # A disk that is full, once the model has spoken.
    with (
        pytest.raises(R1OmniError, match=r"^/dev/full: cannot be written \(No space left"),
        open_output(Path("/dev/full"), []) as out,
    ):
        write_analyses(Speaker(tmp_path), [recording], {}, out, window_s=2.0)


def test_nothing_is_left_of_an_output_that_was_only_tried(tmp_path: Path) -> None:
    path, kept = tmp_path / "new.jsonl", tmp_path / "old.jsonl"
    kept.write_text("of an earlier run\n")
    for tried in (path, kept):
        with pytest.raises(R1OmniError, match="no model"), open_output(tried, []):
            raise R1OmniError("no model")
    assert not path.exists()
    assert kept.read_text() == "of an earlier run\n"
