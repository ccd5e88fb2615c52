"""The image without building it: what it copies and installs is there, and it would start."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from r1omni.commands import COMMANDS, serving
from r1omni.serving.config import KEY_VARIABLE, ServeConfig

ROOT = Path(__file__).parents[2]


def instructions() -> list[tuple[str, str]]:
    """Word and rest of every instruction, lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in joined]


def test_what_it_copies_and_installs_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    told = instructions()
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert ignore[ignore.index("*") - 1] != "!"
    kept = {line[1:] for line in ignore if line.startswith("!")}
    copied = {name for word, rest in told if word == "COPY" for name in rest.split()[:-1]}
    assert copied == kept and all((ROOT / name).exists() for name in copied)
    # What the build of the package reads.
    named = [project["readme"], *project["license-files"], "pyproject.toml"]
    assert copied >= {*named, "src", "constraints.txt"}
    [install] = [shlex.split(rest) for word, rest in told if word == "RUN" and "pip" in rest]
    [wanted] = [found for word in install if (found := re.fullmatch(r"\.\[(\w+)\]", word))]
    assert wanted[1] in project["optional-dependencies"]
    assert install[install.index("-c") + 1] in copied
    assert "ffmpeg" not in " ".join(rest for _, rest in told)


def test_it_starts_the_server_as_somebody_else_than_root(monkeypatch: pytest.MonkeyPatch) -> None:
    told = instructions()
    last = dict(told)
    assert last["FROM"] == "python:3.12-slim"
    assert f"--uid 10001 {last['USER']}" in dict(told)["RUN"] and last["USER"] != "root"
    words = [*json.loads(last["ENTRYPOINT"]), *json.loads(last["CMD"])]
    assert words[:3] == ["python", "-m", "r1omni"] and COMMANDS[words[3]] is serving.serve
    started: list[tuple[ServeConfig, str]] = []
    monkeypatch.setattr(
        "r1omni.serving.server.serve", lambda config, model, *_: started.append((config, model))
    )
    monkeypatch.setenv(KEY_VARIABLE, "0123456789abcdef")
    COMMANDS[words[3]](words[4:])
    [(config, model)] = started
    assert (model, str(config.port)) == ("/model", last["EXPOSE"])
    assert f"127.0.0.1:{config.port}/healthz" in last["HEALTHCHECK"]
