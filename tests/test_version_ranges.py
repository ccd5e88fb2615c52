"""scripts/version_ranges.py: what is installed, what is counted, and the page of it."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import version_ranges
from packaging.requirements import Requirement
from version_ranges import counted, environment, for_users, lowest, requirements, used
from versions_page import write_versions
from written_pages import MARK

from processes import REPOSITORY
from r1omni.types import UsageError

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_requirement_has_a_lowest_version_that_the_exact_ones_are_not_below() -> None:
    lines = for_users(PROJECT)
    names = {Requirement(line).name for line in lines}
    assert {"torch", "scipy", "matplotlib", "praatio", "fastapi", "praat-parselmouth"} < names
    assert not {"pytest", "mkdocs-material", "cosmic-ray", "r1omni"} & names
    tools = {Requirement(line).name for line in requirements(PROJECT, "dev")}
    assert {"pytest", "mkdocs-material", "fastapi"} < tools and "r1omni" not in tools
    exact = dict(
        line.split("==")
        for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    )
    known = {name.lower().replace("_", "-"): version for name, version in exact.items()}
    for line in lines:
        name, _, version = lowest(line).partition("==")
        requirement = Requirement(line)
        assert requirement.specifier.contains(version), line
        assert requirement.specifier.contains(known[name.lower().replace("_", "-")]), line


def test_lowest() -> None:
    assert lowest("torch>=2.9,<2.15") == "torch==2.9"
    assert lowest("a[b,c]==1.2.*") == "a==1.2"
    with pytest.raises(UsageError, match="'a<2' has no lowest version; give it one"):
        lowest("a<2")


def test_what_cannot_be_installed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    own, failed = environment(Path(sys.executable), tmp_path / "env", [], [])
    assert failed is None
    (tmp_path / "env/kept").touch()
    # One that was made of the same is taken, one that was made of something else is made anew.
    assert environment(Path(sys.executable), tmp_path / "env", [], []) == (own, None)
    assert (tmp_path / "env/kept").exists()
    environment(Path(sys.executable), tmp_path / "env", [], ["pip>1"])
    assert not (tmp_path / "env/kept").exists()
    python, failed = environment(Path(sys.executable), tmp_path / "env", ["no-such-thing>=1"], [])
    assert python.is_file() and not (tmp_path / "env/made_of.txt").exists()
    assert failed is not None and "no-such-thing>=1" in failed and "\n" not in failed
    entry = version_ranges.described(own, "newest", ["pip"], None)
    assert entry["versions"].keys() == {"pip"} and sys.version.startswith(entry["python"])


def test_outcomes_are_counted(tmp_path: Path) -> None:
    (tmp_path / "tests.xml").write_text(
        '<testsuites><testsuite><testcase classname="tests.test_a" name="one"/>'
        '<testcase classname="tests.test_a" name="two[x]"><failure message="no"/></testcase>'
        '<testcase classname="tests.test_b" name="three"><error message="no"/></testcase>'
        '<testcase classname="tests.test_b" name="four"><skipped/></testcase>'
        "</testsuite></testsuites>"
    )
    assert counted(tmp_path / "tests.xml") == {
        "num_passed": 1, "num_failed": 2, "num_skipped": 1,
        "failed": ["tests.test_a::two[x]", "tests.test_b::three"],
    }  # fmt: skip


def of_suite(kind: str, python: str, tests: list[str], **more: Any) -> dict[str, Any]:
    return {
        "kind": kind, "python": python, "date": "2026-11-27", "not_installed": None,
        "versions": {"torch": "2.9.0"}, "tests": tests, "num_passed": 3, "num_failed": 0,
        "num_skipped": 1, "failed": [], "minutes": 2.5, "passed": True, **more,
    }  # fmt: skip


def test_the_page_of_what_was_found(tmp_path: Path) -> None:
    results, page = tmp_path / "versions.json", tmp_path / "versions.md"

    def entered(entry: dict[str, Any]) -> str:
        write_versions(results, page, entry)
        return page.read_text(encoding="utf-8")

    part = of_suite("newest", "3.13.0", ["tests/media"], failed=["tests.a::b"], num_failed=1)
    text = entered(part)
    assert "| newest | 3.13.0 | 2026-11-27 | a part: `tests/media` | 3 | 1 | 1 | 2.5 |" in text
    assert "- `tests.a::b`" in text
    page.write_text(f"{text}By hand.\n", encoding="utf-8")
    text = entered(of_suite("newest", "3.13.0", ["tests"]))
    assert "| the whole suite | 3 | 0 | 1 | 2.5 |" in text and "tests.a::b" not in text
    # A part does not take the place of the whole; what cannot be installed does.
    assert entered(part) == text
    text = entered(of_suite("lowest", "3.11.7", ["tests"]))
    assert text.index("| lowest | 3.11.7") < text.index("| newest | 3.13.0")
    assert "| torch | 2.9.0 | 2.9.0 |" in text
    none = {"kind": "lowest", "python": "3.11.7", "date": "2026-11-28", "not_installed": "no av",
            "versions": {}, "passed": False}  # fmt: skip
    text = entered(none)
    assert "**lowest, Python 3.11.7** cannot be installed: no av" in text
    wheel = {**none, "kind": "wheel", "not_installed": None, "file": "r.whl", "kib": 9}
    text = entered({**wheel, "help_s": 0.5, "analyze_s": 9.0, "labels": ["sad"], "failed": []})
    assert "| 3.11.7 | 2026-11-28 | `r.whl`, 9 KiB | 0.5 s | `analyze` labelled 1 clips" in text
    assert "| 0.5 s | broke |" in entered({**wheel, "help_s": 0.5, "failed": ["broke"]})
    assert text.endswith(f"{MARK}\n\nBy hand.\n")
    assert json.loads(results.read_text())["newest-3.13"]["tests"] == ["tests"]


def test_a_command_that_fails_is_told(tmp_path: Path) -> None:
    command = tmp_path / "r1omni"
    command.write_text("#!/bin/sh\n[ $1 = --help ] || { echo one >&2; echo two >&2; exit 1; }\n")
    command.chmod(0o755)
    found = used(command, tmp_path)
    assert found["passed"] is False and found["failed"] == ["two"] and found["help_s"] >= 0
    command.write_text(
        '#!/bin/sh\nif [ $1 = analyze ]; then shift 7; mkdir "$1"; '
        "printf 'path,label\\na,sad\\nb,\\n' >\"$1/records.csv\"; fi\n"
    )
    found = used(command, tmp_path)
    assert found["failed"] == ["records.csv has labels ['sad', '']"] and not found["passed"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--python", "nowhere"], "--python nowhere: there is no such interpreter"),
        (["--wheel", "--only", "lowest"], "leave --only and --tests out"),
        (["--only", "all"], "invalid choice"),
    ],
)
def test_wrong_use(
    words: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["version_ranges.py", *words])
    with pytest.raises(SystemExit) as end:
        version_ranges.main()
    assert end.value.code == 2 and told in capsys.readouterr().err
