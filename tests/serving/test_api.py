"""The API with a model: its records, its refusals, its events and what it says of itself."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmark_serve import FORM, JSON, PLAYLIST, form
from jsonschema import Draft202012Validator
from served import Client, served

from r1omni.cli import main
from r1omni.models import R1Omni
from r1omni.models.folders import find_model_folder
from r1omni.serving.answering import Answerer
from r1omni.serving.config import ServeConfig
from r1omni.serving.description import NOTICE, record_schema
from r1omni.serving.uploads import UploadLimits

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "examples" / "mini-model"
CLIP = (ROOT / "examples" / "clips" / "a.mp4").read_bytes()
LIMITS = UploadLimits(max_upload_mb=0.2, max_seconds=10.0)


@pytest.fixture(scope="module")
def omni() -> R1Omni:
    return R1Omni.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def spools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where uploads lie meanwhile."""
    folder = tmp_path_factory.mktemp("spools")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        yield folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is served: a clip, a text, and links out of it."""
    folder = tmp_path_factory.mktemp("root")
    (folder / "day").mkdir()
    shutil.copy(ROOT / "examples" / "clips" / "b.mp4", folder / "day" / "b.mp4")
    (folder / "notes.txt").write_text("no recording\n" * 99)
    (folder / "out.mp4").symlink_to(ROOT / "examples" / "clips" / "a.mp4")
    (folder / "up").symlink_to(ROOT)
    (folder / "loop").symlink_to(folder / "loop")
    return folder


@pytest.fixture(scope="module")
def api(omni: R1Omni, root: Path, spools: Path) -> Iterator[Client]:
    config = ServeConfig(port=0, root=root, limits=LIMITS, job_limit_s=100, max_new_tokens=64)
    with served(config, Answerer(omni, find_model_folder(MODEL).digest())) as client:
        yield client
    assert not [*spools.glob("r1omni-*")]


def analyzed(capfd: pytest.CaptureFixture[str], *words: object, status: int = 0) -> list[Any]:
    capfd.readouterr()
    assert main(["analyze", *map(str, words), "--model", str(MODEL)]) == status
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


def test_records_are_those_of_analyze(
    api: Client, root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT / "examples" / "clips")
    words = ("--window-s", 1, "--max-new-tokens", 40, "--answer-mode", "both",
             "--media-ablation", "direct", "--label-set")  # fmt: skip
    known = analyzed(capfd, "a.mp4", *words, "dfew")
    assert len(known) > 1
    fields = {"window_s": 1, "max_new_tokens": 40, "answer_mode": "both", "label_set": "dfew",
              "media_ablation": "direct"}  # fmt: skip
    code, job = api.upload(CLIP, wait="true", **fields)
    assert (code, job["state"], job["progress"], job["error"]) == (200, "done", 1.0, None)
    assert job["records"] == known
    assert [*known[0]["ablation"]] == ["muted", "blanked"]
    validator = Draft202012Validator(record_schema())
    assert not [*validator.iter_errors(job["records"][0])]
    monkeypatch.chdir(root)
    known = analyzed(capfd, "day/b.mp4", "--max-new-tokens", 40)
    code, job = api.name(path="day/b.mp4", max_new_tokens=40, wait=True)
    assert (code, job["records"]) == (200, known)
    # What cannot be analyzed is refused when it is waited for, and its job has the same record.
    silent = analyzed(capfd, "notes.txt", status=1)
    assert api.name(path="notes.txt", wait=True) == (415, {"detail": silent[0]["error"]})


def test_events_are_the_pieces_of_answers_and_their_records(api: Client, spools: Path) -> None:
    code, headers, queued = api.ask(
        "POST", "/analyze", form({"window_s": 1.2, "max_new_tokens": 30}, CLIP, "x/ä.mp4"), FORM
    )
    assert (code, queued["state"]) == (202, "queued")
    assert headers["location"] == f"/jobs/{queued['id']}"
    events = api.events(queued["id"])
    job = api.job(queued["id"])
    records = [data for kind, data in events if kind == "record"]
    assert records == job["records"] and {record["path"] for record in records} == {"ä.mp4"}
    for record in records:
        pieces = [d["text"] for k, d in events if k == "text" and d["start_s"] == record["start_s"]]
        assert len(pieces) > 2 and "".join(pieces) == record["text"]
    assert events[-1] == ("end", {k: v for k, v in job.items() if k != "records"})
    assert [kind for kind, _ in api.events(queued["id"])] == ["record"] * len(records) + ["end"]
    assert api.ask("DELETE", f"/jobs/{queued['id']}")[0] == 204
    assert api.ask("GET", f"/jobs/{queued['id']}")[0] == 404
    assert not [*spools.glob("r1omni-*/*")]


CASES = {
    "text": (form({}, b"hello " * 99), FORM, 415, "a.mp4: is no recording"),
    "cut off": (form({}, CLIP[:2000]), FORM, 415, "or is truncated"),
    "0 bytes": (form({}, b""), FORM, 415, "the file is empty (0 bytes)"),
    "playlist": (form({}, PLAYLIST, "a.m3u8"), FORM, 415, "is a playlist (HLS)"),
    "large": (form({}, CLIP * 5), FORM, 413, "larger than the limit of 0.2 MB"),
    "no file": (form({"wait": "true"}, None), FORM, 422, "the form has no file"),
    "no end": (form({}, CLIP)[:-300], FORM, 400, "ends before its form does"),
    "no form": (b"--other\r\n\r\n", FORM, 400, "the body is no form"),
    "no boundary": (b"", {"Content-Type": "multipart/form-data"}, 415, "send a form"),
    "plain": (b"x", {"Content-Type": "text/plain"}, 415, "send a form"),
    "near option": (form({"window": 1}, CLIP), FORM, 422, "such field; did you mean window_s?"),
    "option": (form({"speed": 1}, CLIP), FORM, 422, "speed: there is no such field; there are mod"),
    "path": (form({"path": "a.mp4"}, None), FORM, 422, "path: goes in a body of JSON"),
    "path and file": (form({"path": "a.mp4"}, CLIP), FORM, 422, "path: goes in a body of JSON"),
    "file of JSON": (b'{"file": "a.mp4"}', JSON, 422, "file: there is no such field; there are"),
    "value": (
        form({"window_s": "nan"}, CLIP), FORM, 422,
        "window_s: must be a number above 0 and at most 1000000, not 'nan'",
    ),
    "no number": (b'{"path": "a", "hop_s": [1]}', JSON, 422, "hop_s: must be a number above 0"),
    "whole": (form({"max_new_tokens": "1.5"}, CLIP), FORM, 422, "must be a whole number at least"),
    "question": (form({"instruction": " "}, CLIP), FORM, 422, "instruction is empty; write"),
    "hop": (form({"hop_s": 1}, CLIP), FORM, 422, "hop_s needs window_s"),
    "ablation": (form({"media_ablation": "direct"}, CLIP), FORM, 422, "mode 'think' has none"),
    "label set": (form({"label_set": "x"}, CLIP), FORM, 422, "label_set 'x' is unknown"),
    "tokens": (form({"max_new_tokens": 65}, CLIP), FORM, 422, "this server writes at most 64"),
    "field": (form({"instruction": "x" * 2**15}, CLIP), FORM, 413, "more than 16384 bytes"),
    "twice": (
        form({"wait": 1, "xait": 1}, CLIP).replace(b"xait", b"wait"), FORM, 422, "is there once"
    ),
    "JSON": (b'{"path": ', JSON, 400, "the body is no JSON"),
    "deep": (b"[" * 100_000, JSON, 400, "the body is no JSON"),
    "list": (b"[1]", JSON, 422, "is no object"),
    "long": (b" " * 2**19, JSON, 413, "more than 262144 bytes"),
    "no path": (b"{}", JSON, 422, "path: Field required"),
    "up": (b'{"path": "../x.mp4"}', JSON, 403, "outside the folder"),
    "absolute": (b'{"path": "/etc/passwd"}', JSON, 403, "outside the folder"),
    "link": (b'{"path": "out.mp4"}', JSON, 403, "outside the folder"),
    "link of a folder": (b'{"path": "up/README.md"}', JSON, 403, "outside the folder"),
    "circle": (b'{"path": "loop"}', JSON, 404, "in the folder that is served"),
    "missing": (b'{"path": "x.mp4"}', JSON, 404, "no such file"),
    "folder": (b'{"path": "day"}', JSON, 404, "no such file"),
    "NUL": (b'{"path": "a\\u0000b"}', JSON, 404, "is no path"),
    "surrogate": (b'{"path": "\\ud800"}', JSON, 422, "path: Input should be a valid string"),
    "endless": (json.dumps({"path": "x" * 4000}).encode(), JSON, 404, "in the folder that is"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_done_is_told_in_one_line(api: Client, spools: Path, case: str) -> None:
    body, headers, status, told = CASES[case]
    code, _, answer = api.ask("POST", "/analyze", body, headers)
    assert (code, told in answer["detail"]) == (status, True), answer
    assert str(spools) not in answer["detail"]
    assert not [*spools.glob("r1omni-*/*")]


def test_other_names_other_pages_and_large_headers_are_refused(api: Client) -> None:
    for headers in (
        {"Host": "evil.example:80"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ):
        assert api.ask("GET", "/healthz", headers=headers)[0] == 403
    own = {"Host": f"localhost:{api.port}", "Origin": f"http://localhost:{api.port}"}
    assert api.ask("GET", "/healthz", headers=own)[0] == 200
    with socket.create_connection(("127.0.0.1", api.port)) as line:
        line.sendall(b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 2**15)
        assert line.recv(12) == b"HTTP/1.1 400"
    assert api.ask("GET", "/jobs/x")[0] == 404
    for path in ("/", "/jobs", "/docs"):
        code, _, answer = api.ask("GET", path)
        assert code == 404 and answer["detail"].startswith(f"{path}: there is nothing here; there")
        for there in ("POST /analyze", "GET or DELETE /jobs/{job_id},", "/openapi.json"):
            assert there in answer["detail"]
    assert api.ask("PUT", "/analyze")[0] == 405


def test_it_says_what_it_is_and_counts(api: Client) -> None:
    page = (ROOT / "docs" / "responsible_use.md").read_text(encoding="utf-8").replace("*", "")
    code, _, health = api.ask("GET", "/healthz")
    assert (code, health["status"], health["notice"]) == (200, "ok", NOTICE)
    assert NOTICE.split(" It is no")[0] in " ".join(page.split())
    _, _, described = api.ask("GET", "/openapi.json")
    schema = json.loads((ROOT / "src/r1omni/recordings/record.schema.json").read_text())
    described_record = described["components"]["schemas"]["Record"]
    assert described_record == {k: v for k, v in schema.items() if k != "$schema"}
    items = described["components"]["schemas"]["JobView"]["properties"]["records"]["items"]
    assert items == {"$ref": "#/components/schemas/Record"}
    assert described["info"]["description"] == NOTICE
    assert api.upload(CLIP, wait="true", max_new_tokens=1)[0] == 200
    counts = {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in api.ask("GET", "/metrics")[2].decode().splitlines()
        if not line.startswith("#")
    }
    assert counts['r1omni_requests_total{code="200"}'] >= 3
    assert counts["r1omni_queue_length"] == 0 and counts["r1omni_records_total"] >= 1
    assert counts['r1omni_job_seconds_count{state="done"}'] >= 1
