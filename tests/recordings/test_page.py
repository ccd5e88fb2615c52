"""What the page of recordings holds; test_page_in_browser.py uses it."""

from __future__ import annotations

import base64
import gzip
import importlib.util
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from page_cases import FILM, some_recordings
from PIL import Image
from some_records import record, recording

from r1omni.media.previews import MAX_PEAKS, MAX_PICTURES, Outline, outline, pictures
from r1omni.media.timeline import scan_timeline
from r1omni.media.video import read_frames
from r1omni.recordings import page
from r1omni.recordings.formats import write_formats
from r1omni.types import UsageError


class _Blocks(HTMLParser):
    """The JSON of a page, its policy, and the code that it runs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.blocks: list[Any] = []
        self.scripts: list[str] = []
        self.policy = ""
        self.handlers: list[str] = []
        self._kind: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.handlers += [name for name in found if name.startswith("on") or name == "style"]
        if tag == "script":
            self._kind = found.get("type", "code")
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"] or ""

    def handle_endtag(self, tag: str) -> None:
        self._kind = None

    def handle_data(self, data: str) -> None:
        if self._kind == "application/json":
            self.blocks.append(json.loads(data))
        elif self._kind == "code":
            self.scripts.append(data)


def read(file: Path) -> _Blocks:
    return _Blocks(file.read_text(encoding="utf-8"))


def files_of(content: dict[str, Any]) -> dict[str, list[str]]:
    return json.loads(gzip.decompress(base64.b64decode(content["files"])))


def test_one_page_holds_all_and_can_load_nothing(tmp_path: Path) -> None:
    made = some_recordings(tmp_path / "clips & more")
    out = tmp_path / "out"
    assert page.write(iter(made), out) == [out / "index.html"]
    assert [file.name for file in out.iterdir()] == ["index.html"]
    found = read(out / "index.html")
    assert not found.handlers
    policy = dict(entry.split(" ", 1) for entry in found.policy.split("; "))
    assert policy["default-src"] == "'none'" and policy["media-src"] == "'self' file: data:"
    assert "unsafe" not in found.policy and "http" not in found.policy
    assert len(policy["script-src"].split()) == len(found.scripts) > 5
    text = (out / "index.html").read_text()
    assert "alert(1)</script>" not in text and "<b>rises" not in text and "<b>more" not in text
    rows, film, sound, gone, broken = found.blocks
    assert [row["name"] for row in rows] == [FILM, "sound.wav", "gone.mp4", "broken.mp4"]
    assert rows[0]["contradicted"] == rows[0]["unreadable"] == 1
    assert rows[0]["speakers"] == ["Anna", "Ben"]

    assert (out / unquote(film["media"])).resolve() == tmp_path / "clips & more" / FILM
    assert film["video"] and film["length"] == 4.0 and film["notes"] == []
    assert [r["label"] for r in film["records"]] == ["happy", "happy", "angry", None]
    first, second, _, last = film["records"]
    assert first["directScores"] == {"sad": 0.75, "happy": 0.25}
    assert second["warnings"] == ["the clip is dark"] and "</script>" in second["reasoning"]
    assert first["text"] == "" and last["text"] == "<think>and so"
    assert [piece[2] for piece in film["pieces"]] == [0, 1, 3, 2]  # speaker by speaker
    times = [film["pictures"][at][0] for at in second["pictures"]]
    assert len(times) == 4 and all(1 <= time < 2 for time in times)

    assert not sound["video"] and sound["pictures"] == []
    assert sound["records"][-1] == {"error": "stopped at 2.00 s"}
    highs = sound["sound"]["highs"]
    assert len(highs) == 200 and 8 < max(highs[:99]) < 12 and 76 < max(highs[101:]) < 84
    assert gone["media"] is None and gone["length"] == 2.0
    assert gone["notes"] == ["The recording is not where it was; put it back to play it here."]
    assert broken["records"] == [{"error": "is no recording"}] and broken["pieces"] == []


def test_the_buttons_save_what_the_writers_write(tmp_path: Path) -> None:
    made = some_recordings(tmp_path / "clips")
    page.write(made, tmp_path)
    write_formats(["csv", "textgrid", "eaf"], made, tmp_path)
    _, film, *_ = read(tmp_path / "index.html").blocks
    files = files_of(film)
    assert list(files) == ["CSV of answers", "CSV of segments", "TextGrid", "EAF"]
    assert not list(tmp_path.glob(".*"))
    for label in ("TextGrid", "EAF"):
        name, text = files[label]
        written = (tmp_path / name).read_text(encoding="utf-8")
        date = re.compile(r'DATE="[^"]+"')
        assert date.sub("", text) == date.sub("", written)
    for table, label in (("records", "CSV of answers"), ("segments", "CSV of segments")):
        lines = (tmp_path / f"{table}.csv").read_text(encoding="utf-8")
        head, own = files[label][1].split("\n", 1)
        assert lines.startswith(f"{head}\n{own}") and own.count("\n") >= 3


def test_formats_without_their_library_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    gone = ("praatio", "pympi")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in gone else found(name)
    )
    page.write(some_recordings(tmp_path / "clips")[:1], tmp_path)
    _, film = read(tmp_path / "index.html").blocks
    assert film["notes"] == ["For TextGrid and EAF, pip install 'r1omni[formats]'."]
    assert list(files_of(film)) == ["CSV of answers", "CSV of segments"]


def test_a_recording_that_was_not_answered_whole_says_so(tmp_path: Path) -> None:
    film = some_recordings(tmp_path / "clips")[0]
    page.write([recording(film.path, film.records, is_complete=False)], tmp_path)
    _, made = read(tmp_path / "index.html").blocks
    assert any(note.startswith("Not complete: analyze was stopped at") for note in made["notes"])


def test_recordings_are_embedded_up_to_a_size(tmp_path: Path) -> None:
    made = some_recordings(tmp_path / "clips")[:1]
    data = Path(made[0].path).read_bytes()
    page.write(made, tmp_path / "in", embed=True)
    _, film = read(tmp_path / "in/index.html").blocks
    assert film["media"] == f"data:video/mp4;base64,{base64.b64encode(data).decode()}"
    with Path(made[0].path).open("ab") as file:
        file.truncate(1_200_000)
    page.write(made, tmp_path / "beside", embed=1)
    _, film = read(tmp_path / "beside/index.html").blocks
    assert film["media"].startswith("../clips/") and "1 MB are more than 1 MB" in film["notes"][0]
    other = recording("x.avi", [])
    shutil.copy(made[0].path, tmp_path / "x.avi")
    page.write([recording(str(tmp_path / "x.avi"), [])], tmp_path / "avi", embed=2)
    _, avi = read(tmp_path / "avi/index.html").blocks
    assert avi["media"] is None and "Browsers do not play .avi files" in avi["notes"][0]
    assert other.records == ()
    with pytest.raises(UsageError, match="embed must be at least 0 MB, not -1"):
        page.write([], tmp_path, embed=-1)


def test_many_recordings_have_a_page_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MAX_RECORDINGS", 3)
    out = tmp_path / "out"
    written = page.write(some_recordings(tmp_path / "clips"), out)
    assert written == [out / "index.html", *(out / f"pages/0000{i}.html" for i in range(1, 5))]
    [rows] = read(out / "index.html").blocks
    assert [row["page"] for row in rows] == [f"pages/0000{i}.html" for i in range(1, 5)]
    text = written[2].read_text(encoding="utf-8")
    for link in ("../index.html", "00001.html", "00003.html"):
        assert f'href="{link}"' in text
    [own], sound = read(written[2]).blocks
    assert own["name"] == sound["name"] == "sound.wav"
    monkeypatch.setattr(page, "MAX_RECORDINGS", 40)
    monkeypatch.setattr(page, "MAX_BYTES", 20_000)
    assert len(page.write(some_recordings(tmp_path / "clips"), tmp_path / "two")) == 5


def test_pictures_are_frames_that_the_model_was_shown(tmp_path: Path) -> None:
    [film, *_] = some_recordings(tmp_path)
    path = Path(film.path)
    timeline = scan_timeline(path)
    spans = [(0.0, 2.0), (1.0, 3.0)]
    made, places = pictures(path, timeline, spans, num_frames=3)
    for span, own in zip(spans, places, strict=True):
        shown = read_frames(path, 3, *span)
        assert [made[at].time_s for at in own] == list(shown.timestamps_s)
        for at, frame in zip(own, shown.frames, strict=True):
            data = base64.b64decode(made[at].source.removeprefix("data:image/jpeg;base64,"))
            image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=float)
            assert image.shape == frame.shape
            assert abs(image - frame).mean() < 4
    many = [(0.01 * k, 0.01 * k + 1) for k in range(3 * MAX_PICTURES)]
    made, places = pictures(path, timeline, many, None)
    assert [len(own) for own in places[:6]] == [1, 0, 0, 1, 0, 0]


def test_the_outline_of_a_long_sound_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(some_recordings(tmp_path)[1].path)
    whole = outline(path, 2.0)
    monkeypatch.setattr("r1omni.media.previews._CHUNK_S", 0.25)
    assert outline(path, 2.0) == whole
    longer = outline(path, 60.0)
    assert isinstance(longer, Outline) and len(longer.highs) == MAX_PEAKS
    assert longer.step_s == 0.03 and max(longer.highs) > 76 and longer.highs[70:] == [0] * 1930
    assert outline(tmp_path / FILM, 4.0) != whole


def test_only_a_row_of_each_recording_stays_in_memory(tmp_path: Path) -> None:
    made = [recording(f"{i}.mp4", [record(0, 1, path=f"{i}.mp4")]) for i in range(3)]
    seen: list[str] = []

    def passing():
        for one in made:
            seen.append(one.path)
            yield one

    page.write(passing(), tmp_path)
    assert seen == ["0.mp4", "1.mp4", "2.mp4"]
    assert [row["name"] for row in read(tmp_path / "index.html").blocks[0]] == seen
