"""The wheel is the whole package and nothing else, works alone, and an sdist builds it again."""

from __future__ import annotations

import email
import os
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from processes import REPOSITORY, Running

PACKAGE = REPOSITORY / "src" / "r1omni"


def package_files() -> set[str]:
    """All files of the package as a wheel names them."""
    return {
        str(path.relative_to(PACKAGE.parent))
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def build(kind: str, out: Path) -> None:
    """Build the project in the working directory as pip does, without an environment of its own."""
    from setuptools import build_meta

    getattr(build_meta, f"build_{kind}")(str(out))


def analyze(unpacked: Path, out: Path) -> int:
    """`analyze` of the package in a folder, out of reach of the checkout."""
    sys.path[:] = [str(unpacked), *(p for p in sys.path if Path(p) != PACKAGE.parent)]
    from r1omni import cli

    assert Path(cli.__file__).is_relative_to(unpacked)
    assert cli.main(["--help"]) == 0
    examples = REPOSITORY / "examples"
    words = ["analyze", str(examples / "clips" / "a.mp4"), "--model", str(examples / "mini-model")]
    return cli.main([*words, "--format", "html", "--out", str(out)])


def built(kind: str, source: Path, out: Path) -> Path:
    process = Running(build, kind, out, cwd=source, env=os.environ)
    assert process.wait() == 0, process.stderr[-3000:]
    (file,) = out.iterdir()
    return file


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a build reads and of what it must leave alone; setuptools writes beside it."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy)
    shutil.copytree(PACKAGE, copy / "src/r1omni", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tests/test_wheel.py", "examples/grpo_minimal.py", "scripts/run_table.py"):
        (copy / name).parent.mkdir()
        shutil.copy(REPOSITORY / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", source, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        about = {name for name in names if ".dist-info/" in name}
        assert names - about == package_files()
        assert {"r1omni/py.typed", "r1omni/recordings/record.schema.json"} < names
        texts = {name.rpartition("/")[2]: file.read(name).decode() for name in about}
    assert "r1omni = r1omni.cli:main" in texts["entry_points.txt"]
    metadata = email.message_from_string(texts["METADATA"])
    assert metadata["License-Expression"] == "Apache-2.0" and "LICENSE" in texts
    assert {"world", "reports", "voices", "formats", "all"} <= {*metadata.get_all("Provides-Extra")}


def test_the_wheel_works_by_itself(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "unpacked")
    process = Running(
        analyze, tmp_path / "unpacked", tmp_path / "out", cwd=tmp_path, env=os.environ
    )
    assert process.wait() == 0, process.stderr[-3000:]
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "uPlot" in page and "a.mp4" in page


def test_an_sdist_builds_the_same_wheel(source: Path, wheel: Path, tmp_path: Path) -> None:
    for name in ("sdist", "wheel"):
        (tmp_path / name).mkdir()
    with tarfile.open(built("sdist", source, tmp_path / "sdist")) as file:
        file.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("r1omni-*")
    again = built("wheel", unpacked, tmp_path / "wheel")
    assert again.name == wheel.name
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert {n: one.read(n) for n in one.namelist()} == {
            n: other.read(n) for n in other.namelist()
        }
