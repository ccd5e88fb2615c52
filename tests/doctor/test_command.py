"""`r1omni doctor` as it is called: what it prints, and its exit status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1omni.cli import main
from r1omni.doctor import examine
from r1omni.doctor.checks import Finding
from r1omni.doctor.decoders import write_clip


@pytest.fixture
def sound_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit status of these tests is not to depend on the machine they run on."""

    def check() -> Iterator[Finding]:
        yield Finding("cores", "ok", "2 of 2")

    monkeypatch.setattr(examine, "check_environment", check)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "HumanOmni"
    folder.mkdir(parents=True)
    write_clip(folder / "1.mp4")
    turns = [{"from": "human", "value": "<video>\nWho?"}, {"from": "gpt", "value": "sad"}]
    listing = [{"video": "HumanOmni/1.mp4", "conversations": turns}]
    (folder / "train.json").write_text(json.dumps(listing))
    return folder.parent


def test_all_is_well(
    sound_machine: None, root: Path, fixtures_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = fixtures_dir / "humanomni_tiny" / "R1-Omni-tiny"
    assert main(["doctor", "--model", str(model), "--data", str(root)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    sections = [line for line in captured.out.splitlines() if line and not line.startswith(" ")]
    assert sections == [
        "machine", f"model {model}", f"data {root}",
        "doctor: nothing fails (checks: 14, notes: 1)",
    ]  # fmt: skip
    assert "  ok      forward pass            659 tokens in" in captured.out
    assert "  ok      HumanOmni train.json    1 entries, paths from" in captured.out


def test_what_fails_is_named(
    sound_machine: None, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "HumanOmni" / "1.mp4").unlink()
    gone = tmp_path / "gone"
    assert main(["doctor", "--model", str(gone), "--data", str(root)]) == 1
    captured = capsys.readouterr()
    failed = "2 checks fail: model folder, HumanOmni train.json"
    assert captured.err == f"r1omni: error: doctor: {failed}\n"
    assert f"{gone} is not a folder" in " ".join(captured.out.split())
    assert "what to do" in captured.out
    assert "fails   HumanOmni train.json: copy the missing clips" in captured.out


def test_towers_and_dtype_are_handed_on(
    sound_machine: None, fixtures_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = fixtures_dir / "humanomni_tiny"
    args = ["doctor", "--model", str(tiny / "R1-Omni-tiny"), "--dtype", "bfloat16"]
    assert main([*args, "--text-encoder", str(tiny / "bert-tiny")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"{tiny / 'bert-tiny'}, as given" in out
    assert "bfloat16 on cpu" in out
    assert main([*args, "--audio-tower", str(tmp_path)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert f"{tmp_path} was given as audio tower but holds no config.json" in out


@pytest.mark.parametrize(
    "args",
    [
        ["--data", "nowhere"],
        ["--data", __file__],
        ["--vision-tower", "x"],
        ["--dtype", "int8"],
        ["--modle", "x"],
    ],
)
def test_wrong_use(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *args]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
