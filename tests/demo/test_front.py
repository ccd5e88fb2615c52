"""The page of `demo`, its routes and its command, without a browser and without a model."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from r1omni.cli import main
from r1omni.demo.front import Demo
from r1omni.demo.results import shown
from r1omni.recordings.records import Record
from r1omni.recordings.segments import recording_of
from r1omni.serving.config import ServeConfig
from serving.served import Client, served

CLIP = Path(__file__).parents[2] / "examples" / "clips" / "a.mp4"
MODEL = CLIP.parents[1] / "mini-model"
KEY = "a key of sixteen".replace(" ", "-")
_ADDRESS = re.compile(r"(?:https?:)?//[\w.-]+\.\w+")


def test_the_page_asks_nobody_else(tmp_path: Path) -> None:
    sound = tmp_path / "no-picture.wav"
    sound.write_bytes(b"")
    page = Demo([CLIP, sound]).page(ServeConfig())
    # Of addresses it has the one that names SVG or a licence, and asks for none.
    code = re.sub(r"/\*.*?\*/", "", page, flags=re.DOTALL)
    assert {a for a in _ADDRESS.findall(code) if "github.com/leeoniya" not in a} == set()
    policy = re.search(r'Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    sources = dict(part.split(" ", 1) for part in policy[1].replace("&#39;", "'").split("; "))
    assert sources["default-src"] == "'none'" and sources["connect-src"] == "'self'"
    assert sources["img-src"] == "data:" and sources["media-src"] == "blob:"
    assert "unsafe" not in sources["script-src"] and "http" not in policy[1]
    assert page.count('class="example"') == 2 and page.count("data:image/jpeg") == 1
    assert "not what anybody feels" in page


def test_only_the_page_is_there_without_the_key() -> None:
    config = ServeConfig(port=0, api_key=KEY)
    with served(config, lambda job: None, Demo([CLIP])) as client:
        stranger = Client(client.port)
        assert stranger.ask("GET", "/")[0] == 200
        for path in ("/examples/a.mp4", "/jobs/x/shown"):
            assert stranger.ask("GET", path)[0] == 401, path
        assert client.ask("GET", "/examples/a.mp4")[2] == CLIP.read_bytes()
        for path in ("/examples/b.mp4", "/examples/..%2fREADME.md", "/jobs/x/shown"):
            assert client.ask("GET", path)[0] == 404, path
        described = client.ask("GET", "/openapi.json")[2]["paths"]
        assert "/analyze" in described and not {"/", "/jobs/{job_id}/shown"} & set(described)


def test_answers_are_shown_when_drawing_fails(tmp_path: Path) -> None:
    import json

    record = Record("film.mp4", 0.0, 1.0, label="happy", scores={"happy": 1.0}, is_last=True)
    recording = recording_of("film.mp4", [record])
    for source, limit_s in ((CLIP, 60.0), (CLIP, 0.0)):
        made = json.loads(shown(recording, source, 4, limit_s))
        (content,) = made["contents"]
        assert content["name"] == content["path"] == made["rows"][0]["path"] == "film.mp4"
        assert content["records"][0]["label"] == "happy"
        assert bool(content["pictures"]) is bool(limit_s)
        assert content["media"] == ("" if limit_s else None)
    assert content["notes"] == ["No pictures and no waveform: drawing them failed."]
    assert str(CLIP.parent) not in json.dumps(made)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--examples", "nowhere"], "--examples nowhere: there is no such folder"),
        (["--examples", "."], "--examples .: holds no files"),
        (["--host", "0.0.0.0"], "--host 0.0.0.0: others reach it"),
        (["--max-seconds", "0"], "must be a number"),
        (["--port", "70000"], "must be a whole number"),
        ([], "demo: needs fastapi, which is not installed; run pip install 'r1omni[demo]'"),
    ],
)
def test_wrong_use_is_one_line(
    words: list[str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    find: Any = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "fastapi" else find(name, *a)
    )
    assert main(["demo", "--model", str(MODEL), *words]) == 2
    told = capsys.readouterr().err
    assert line in told and told.count("\n") == 1
