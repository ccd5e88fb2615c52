"""docs/extending.md does what it says: files are written, changes made and commands run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "extending.md"
START = "Before you start"
# First line of a file, and of a change to one, in any of the languages' comments.
_NAMED = re.compile(r"# ([\w./]+)(?::.*)?\n")
_FILES = ("python", "yaml", "csv")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and its text."""

    language: str
    text: str

    @property
    def file(self) -> tuple[str, str]:
        """The file that the first line names, and the lines after it."""
        named = _NAMED.match(self.text)
        assert named is not None, f"no file is named: {self.text[:60]}"
        # A table has no comments, so the name is no part of it.
        return named[1], self.text if self.language in ("python", "yaml") else self.text[
            named.end() :
        ]


def sections() -> dict[str, list[Block]]:
    """Heading -> blocks, in the order of the page."""
    parts = re.split(r"^## (.+)\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {
        name: [Block(*pair) for pair in re.findall(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S)]
        for name, text in zip(parts[1::2], parts[2::2], strict=True)
    }
    assert parts[0].count("```") == 0
    return found


SECTIONS = sections()


def changed(text: str, change: str) -> str:
    """A file after a change of the page: lines with -, + or neither, in one place of the file."""
    lines = [(line[:1], line[1:]) for line in change.splitlines(keepends=True)]
    assert all(sign in (" ", "-", "+") for sign, _ in lines)
    before = "".join(line for sign, line in lines if sign != "+")
    after = "".join(line for sign, line in lines if sign != "-")
    assert before != after
    assert text.count(before) == 1, f"{text.count(before)} places have the lines\n{before}"
    return text.replace(before, after)


def run(script: str, folder: Path, python: Path) -> str:
    """What a block of commands prints, with this `python`; each has to succeed."""
    environment = {
        **os.environ,
        "R1OMNI": str(ROOT),
        "PYTHONPATH": str(ROOT / "src"),
        "OMP_NUM_THREADS": "1",
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def follow(blocks: list[Block], folder: Path, python: Path) -> None:
    """Do what the blocks say, in their order."""
    printed = ""
    for block in blocks:
        if block.language in _FILES:
            name, text = block.file
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        elif block.language == "diff":
            name, change = block.file
            path = folder / name
            path.write_text(changed(path.read_text(encoding="utf-8"), change), encoding="utf-8")
        elif block.language == "bash":
            printed = run(block.text, folder, python)
        else:
            assert block.language == "text"
            shown = block.text.splitlines()
            assert shown and [line for line in shown if line not in printed] == []


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, forked_python: Path) -> Path:
    """The folder that the page begins with."""
    folder = tmp_path_factory.mktemp("extending")
    follow(SECTIONS[START], folder, forked_python)
    return folder


@pytest.mark.parametrize("section", [name for name in SECTIONS if name != START])
def test_a_section_does_what_it_says(
    section: str, started: Path, forked_python: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "own"  # a section stands alone
    shutil.copytree(started, folder)
    follow(SECTIONS[section], folder, forked_python)


def test_every_section_is_followed_to_an_end() -> None:
    assert list(SECTIONS) == [START, "A reward", "A data set", "A loss", "Another model"]
    for name, blocks in SECTIONS.items():
        kinds = [block.language for block in blocks]
        assert "bash" in kinds and "yaml" in kinds, name
        assert name == START or kinds[-2:] == ["bash", "text"], name
