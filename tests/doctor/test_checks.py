"""The table, and how failing checks become findings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from r1omni.doctor.checks import Finding, Table, attempt, failure, guarded
from r1omni.types import R1OmniError

LONG = "/a/path/with-hyphens/that/is/long/enough/to/need/a/line/of/its/own/model.safetensors"


def printed(capsys: pytest.CaptureFixture[str], width: int, *findings: Finding) -> tuple[str, str]:
    """What a table prints, and the line it raises, or ""."""
    table = Table(width)
    table.show("machine", findings)
    try:
        table.close()
        raised = ""
    except R1OmniError as error:
        raised = str(error)
    return capsys.readouterr().out, raised


def test_the_table_wraps_and_keeps_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    words = "word " * 40
    out, _ = printed(capsys, 80, Finding("a subject of several words", "ok", words))
    lines = out.splitlines()
    assert lines[0] == "machine"
    assert lines[1].startswith("  ok      a subject of several")
    assert lines[2].strip().startswith("words") and lines[2].index("words") == 10
    begins = {line.index("word", 34) for line in lines[1:4]}
    assert begins == {34}
    assert max(map(len, lines)) <= 80
    assert out.count("word ") + out.count("word\n") == 40


def test_a_path_is_never_broken(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = printed(capsys, 80, Finding("weights", "ok", f"{LONG} is whole"))
    assert LONG in out.replace(" ", "\n").split("\n")


def test_remedies_are_listed_worst_first_and_once(capsys: pytest.CaptureFixture[str]) -> None:
    findings = (
        Finding("GPU", "note", "none", "buy one"),
        Finding("cores", "ok", "2 of 2"),
        Finding("disk", "fails", "full", "make room"),
        Finding("memory", "note", "little", "buy one"),
        Finding("word", "fails", "the line says it all"),
    )
    out, raised = printed(capsys, 100, *findings)
    advice = out.split("what to do\n")[1].strip().splitlines()
    assert [line.split() for line in advice] == [
        "fails disk: make room".split(),
        "note GPU, memory: buy one".split(),
    ]
    assert raised == "doctor: 2 checks fail: disk, word"


def test_nothing_fails(capsys: pytest.CaptureFixture[str]) -> None:
    out, raised = printed(capsys, 100, Finding("cores", "ok", "2 of 2"))
    assert raised == ""
    assert "what to do" not in out
    assert out.endswith("doctor: nothing fails (checks: 1, notes: 0)\n")
    out, raised = printed(capsys, 100, Finding("disk", "fails", "full", "make room"))
    assert raised == "doctor: 1 check fails: disk"
    assert "nothing fails" not in out


@pytest.mark.parametrize(
    ("line", "found", "remedy"),
    [
        ("x.bin is cut off; copy it again", "x.bin is cut off", "copy it again"),
        ("bad; missing: a; give another", "bad; missing: a", "give another"),
        ("cannot be read (one; two)", "cannot be read (one; two)", ""),
        ("x.bin is missing", "x.bin is missing", ""),
    ],
)
def test_an_error_is_split_before_its_remedy(line: str, found: str, remedy: str) -> None:
    assert failure("weights", R1OmniError(line)) == Finding("weights", "fails", found, remedy)


def breaking(error: Exception) -> Iterator[Finding]:
    yield Finding("first", "ok", "fine")
    raise error


@pytest.mark.parametrize(
    ("error", "found", "remedy"),
    [
        (R1OmniError("gone; copy it"), "gone", "copy it"),
        (ImportError("no\nsuch module"), "ImportError: no such module", "scripts/setup.sh"),
        (RuntimeError("odd"), "RuntimeError: odd", "report it"),
    ],
)
def test_a_check_that_breaks_is_a_finding(error: Exception, found: str, remedy: str) -> None:
    first, second = guarded("second", breaking, error)
    assert first.status == "ok"
    assert (second.subject, second.status, second.found) == ("second", "fails", found)
    assert remedy in second.remedy

    def value() -> int:
        raise error

    tried = attempt("second", value)
    assert next(tried) == second
    with pytest.raises(StopIteration) as stopped:
        next(tried)
    assert stopped.value.value is None


def test_interrupting_ends_everything() -> None:
    def interrupted() -> Iterator[Finding]:
        yield Finding("first", "ok", "fine")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(guarded("x", interrupted))
