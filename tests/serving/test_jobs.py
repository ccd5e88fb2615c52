"""The queue in front of the model, keys, slow and endless bodies, and the end of a server."""

from __future__ import annotations

import http.client
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from benchmark_serve import FORM, form
from served import Client, served

from r1omni.cli import main
from r1omni.serving.config import KEY_VARIABLE, ServeConfig
from r1omni.serving.job import Job
from r1omni.serving.uploads import UploadLimits

CLIP = (Path(__file__).parents[2] / "examples" / "clips" / "a.mp4").read_bytes()
KEY = "0123456789abcdef"
LIMITS = UploadLimits(max_upload_mb=0.2)


@pytest.fixture(autouse=True)
def spools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where uploads lie meanwhile; nothing may be left there."""
    folder = tmp_path / "spools"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not [*folder.glob("r1omni-*")]


def config(**given: Any) -> ServeConfig:
    return ServeConfig(**{"port": 0, "limits": LIMITS, "job_limit_s": 20.0, **given})


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def endless(job: Job) -> None:
    """Works until it is to stop, as the model does between pieces of an answer."""
    while True:
        job.check()
        time.sleep(0.01)


def test_a_full_queue_refuses_and_jobs_are_cancelled(spools: Path) -> None:
    with served(config(queue=2), endless) as client:
        first = client.upload(CLIP)[1]["id"]
        until(lambda: client.job(first)["state"] == "running")
        second, third = (client.upload(CLIP)[1]["id"] for _ in range(2))
        code, headers, answer = client.ask("POST", "/analyze", form({}, CLIP), FORM)
        assert (code, answer["detail"]) == (429, "2 jobs are waiting; try again in 3 s")
        assert headers["retry-after"] == "3"
        assert b"r1omni_queue_length 2.0" in client.ask("GET", "/metrics")[2]
        assert len([*spools.glob("r1omni-*/*/*")]) == 3
        code, _, job = client.ask("DELETE", f"/jobs/{third}")
        assert (code, job["state"], job["error"]) == (202, "cancelled", "a.mp4: was cancelled")
        assert len([*spools.glob("r1omni-*/*/*")]) == 2
        assert client.ask("DELETE", f"/jobs/{first}")[0] == 202
        until(lambda: client.job(first)["state"] == "cancelled")
        until(lambda: client.job(second)["state"] == "running")
        assert len([*spools.glob("r1omni-*/*/*")]) == 1
        assert client.ask("DELETE", "/jobs/nobody")[0] == 404


def test_a_job_that_takes_too_long_or_fails_costs_itself_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def work(job: Job) -> None:
        if job.name == "defect.mp4":
            raise ZeroDivisionError("a secret of the server")
        if job.name == "endless.mp4":
            endless(job)

    with served(config(job_limit_s=1.0, keep_s=0.5), work) as client:
        code, answer = client.upload(CLIP, "endless.mp4", wait=1)
        assert (code, answer["detail"].split(";")[0]) == (504, "endless.mp4: took longer than 1 s")
        code, answer = client.upload(CLIP, "defect.mp4", wait=1)
        told = "defect.mp4: failed inside the server, whose log says why"
        assert (code, answer) == (500, {"detail": told})
        assert "a secret of the server" in caplog.text
        code, job = client.upload(CLIP, wait=1)
        assert (code, job["state"]) == (200, "done")
        until(lambda: client.ask("GET", f"/jobs/{job['id']}")[0] == 404)  # kept for half a second


def test_a_defect_of_a_route_tells_nobody_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    with served(config(), endless) as client:
        monkeypatch.setattr("r1omni.serving.api.below", lambda *_: 1 / 0)
        assert client.name(path="x") == (
            500, {"detail": "failed inside the server; its log says why"},
        )  # fmt: skip


def test_who_lacks_the_key_is_refused() -> None:
    with served(config(api_key=KEY, host="127.0.0.1"), endless) as client:
        stranger = Client(client.port)
        for headers in ({}, {"Authorization": f"Bearer {KEY}x"}, {"Authorization": f"Basic {KEY}"}):
            for path in ("/metrics", "/jobs/x", "/nowhere"):
                code, found, _ = stranger.ask("GET", path, headers=headers)
                assert (code, found["www-authenticate"]) == (401, "Bearer")
            assert stranger.ask("POST", "/analyze", form({}, CLIP * 40), FORM)[0] == 401
        assert client.ask("GET", "/metrics")[0] == 200
        assert stranger.ask("GET", "/healthz")[0] == stranger.ask("GET", "/openapi.json")[0] == 200


def head(*lines: str) -> bytes:
    """The beginning of a request that is written by hand."""
    first = ("POST /analyze HTTP/1.1", "Host: localhost", f"Content-Type: {FORM['Content-Type']}")
    return "\r\n".join([*first, *lines, "", ""]).encode()


def pieces(count: int) -> Iterator[bytes]:
    """A body that does not say how long it is."""
    yield form({}, CLIP)[:-60]
    for _ in range(count):
        yield bytes(2**16)
    yield b"\r\n--r1omni-benchmark-boundary--\r\n"


def test_bodies_without_length_without_end_and_without_sender(spools: Path) -> None:
    with served(config(queue=1, job_limit_s=1.0), endless) as client:
        code, _, answer = client.ask("POST", "/analyze", pieces(40), FORM)  # type: ignore[arg-type]
        assert (code, "limit of 0.2 MB" in answer["detail"]) == (413, True)
        connection = http.client.HTTPConnection("127.0.0.1", client.port)
        connection.putrequest("POST", "/analyze")
        for name, value in {**FORM, "Content-Length": "100000"}.items():
            connection.putheader(name, value)
        connection.endheaders(form({}, CLIP)[:1000])
        assert connection.getresponse().status == 408
        connection.close()
        with socket.create_connection(("127.0.0.1", client.port)) as line:
            line.sendall(head("Content-Length: 100000") + form({}, CLIP)[:999])
            until(lambda: [*spools.glob("r1omni-*/*")])
        until(lambda: not [*spools.glob("r1omni-*/*")])
        # The only place in the queue is free again.
        code, job = client.upload(CLIP)
        assert code == 202
        client.ask("DELETE", f"/jobs/{job['id']}")


def test_who_waits_and_goes_has_cancelled_and_the_end_cancels_all() -> None:
    names: list[str] = []
    states: list[Job] = []

    def work(job: Job) -> None:
        names.append(job.name)
        states.append(job)
        endless(job)

    with ThreadPoolExecutor(2) as pool:
        with served(config(grace_s=0.2), work) as client:
            with socket.create_connection(("127.0.0.1", client.port)) as line:
                body = form({"wait": 1}, CLIP, "gone.mp4")
                line.sendall(head(f"Content-Length: {len(body)}") + body)
                until(lambda: names == ["gone.mp4"])
            until(lambda: states[0].state == "cancelled")
            waits = [pool.submit(client.upload, CLIP, name, wait=1) for name in ("b.mp4", "c.mp4")]
            until(lambda: len(names) == 2 and b"_length 1.0" in client.ask("GET", "/metrics")[2])
        stopped = (503, {"detail": "the server stops; try again later"})
        assert [wait.result() for wait in waits] == [stopped, stopped]
        until(lambda: "model" not in {thread.name for thread in threading.enumerate()})


def test_wrong_use_is_told_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    short, good = tmp_path / "short", tmp_path / "good"
    short.write_text("secret\n")
    good.write_text(KEY + "\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words, told in (
            (("--host", "0.0.0.0"), "others reach it, and without a key anybody could upload"),
            (("--host", "0.0.0.0", "--api-key-file", short), "has at least 16 plain characters"),
            (("--api-key-file", tmp_path / "none"), "there is no such file"),
            (("--root", tmp_path / "none"), "there is no such folder"),
            (("--port", port), "cannot be listened at (Address already in use); choose another"),
            (("--host", "192.0.2.1", "--api-key-file", good), "check --host"),
        ):
            assert main(["serve", "--model", "nowhere", *map(str, words)]) == 2
            line = capfd.readouterr().err
            assert told in line and line.count("\n") == 1 and "secret" not in line
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    assert main(["serve", "--model", "nowhere", "--api-key-file", str(good)]) == 2
    assert "give one of them" in capfd.readouterr().err
