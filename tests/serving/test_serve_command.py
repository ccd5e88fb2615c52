"""The command in a process of its own: the lines of its page, requests side by side, its end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from benchmark_serve import left, load, port_of

from processes import REPOSITORY, Running
from r1omni.cli import main

PAGE = (REPOSITORY / "docs" / "serve.md").read_text(encoding="utf-8")


def run(words: list[str], folder: str) -> int:
    """The command, with its temporary files in a folder; the fork knows the one it began with."""
    tempfile.tempdir = folder
    return main(words)


def first_line(server: Running) -> str:
    """What the server says when it is ready."""
    end = time.monotonic() + 120
    while server.poll() is None and time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError):  # the process is not there yet
            if "\n" in server.stderr:
                break
        time.sleep(0.05)
    return server.stderr


def test_it_serves_what_its_page_says_and_ends_on_sigterm(tmp_path: Path) -> None:
    [line] = re.findall(r"^    r1omni (serve .*)$", PAGE, re.MULTILINE)
    words = [*shlex.split(line), "--port", "0", "--max-upload-mb", "2", "--grace-s", "0.1"]
    words += ["--root", "examples/clips"]
    server = Running(run, words, str(tmp_path), cwd=REPOSITORY, env=os.environ)
    try:
        port = port_of(first_line(server))
        lines = re.findall(r"^    (curl .*)$", PAGE, re.MULTILINE)
        assert len(lines) == 3
        answers = []
        for line in lines:
            own = [
                word.replace("localhost:8000", f"127.0.0.1:{port}") for word in shlex.split(line)
            ]
            assert own[0] == "curl"
            done = subprocess.run(own, capture_output=True, cwd=REPOSITORY, check=True, timeout=120)
            answers.append(json.loads(done.stdout))
        assert answers[0]["status"] == "ok"
        assert [record["path"] for record in answers[1]["records"]] == ["a.mp4"]
        assert answers[2]["state"] == "queued" and answers[2]["records"] == []
        found = load(port, 24, 8)
        assert found["unexpected"] == [] and found["codes"]["recording"] == {"200": 18}
        assert sum(sum(of.values()) for of in found["codes"].values()) == 24
        assert len(left(tmp_path)) == 1 and not [*tmp_path.glob("r1omni-*/*")]
    finally:
        os.kill(server.pid, signal.SIGTERM)
    assert server.wait(60) == 143
    assert left(tmp_path) == [] and "Traceback" not in server.stderr
    assert server.stderr.splitlines()[-1] == "r1omni: error: terminated"
