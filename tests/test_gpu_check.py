"""scripts/gpu_check.py: its parts run on a CPU, and whatever becomes of one, the rest goes on."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from step_parts.picture import draw

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "docs" / "benchmarks" / "gpu" / "runs.json"
# Starts a child, says who it is, and waits.
SLOW = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_check", ROOT / "scripts" / "gpu_check.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch, forked_python: Path) -> None:
    """Parts are processes of the scripts; what they import is imported once."""
    monkeypatch.setattr(sys, "executable", str(forked_python))


def summary(folder: Path) -> dict[str, dict[str, Any]]:
    found = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert found["device"] == "cpu" and found["machine"]["torch"]
    return {part["name"]: part for part in found["parts"]}


def test_no_part_stops_the_others(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = {part.name: part for part in check.PARTS}
    injected = (
        check.Part("fails", ("-c", "print('so far'); raise SystemExit('it is broken')"), 60),
        check.Part("slow", ("-c", SLOW), 3),
        check.Part("absent", ("-c", "raise SystemExit('never run')"), 60, ("no_such_module",)),
    )
    monkeypatch.setattr(check, "PARTS", (*injected, own["grpo"], own["parity"]))
    (tmp_path / "fails.json").write_text('{"of": "an earlier run"}')
    with pytest.raises(SystemExit) as end:
        check.main(["--device", "cpu", "--out", str(tmp_path)])
    assert str(end.value) == (
        f"gpu_check: fails, slow did not pass; see the logs in {tmp_path.resolve()}"
    )
    found = summary(tmp_path)
    assert {name: part["status"] for name, part in found.items()} == {
        "fails": "failed", "slow": "stopped", "absent": "lacks no_such_module",
        "grpo": "passed", "parity": "passed",
    }  # fmt: skip
    assert found["fails"]["last_line"] == "it is broken"
    assert found["absent"]["last_line"] == "the part needs no_such_module: install it"
    assert not (tmp_path / "fails.json").exists()
    child = Path("/proc", found["slow"]["last_line"], "stat")
    assert not child.exists() or child.read_text().rsplit(")", 1)[1].split()[0] == "Z"
    grpo = json.loads((tmp_path / "grpo.json").read_text(encoding="utf-8"))
    assert grpo["size"] == "mini" and len(grpo["steps"]) == 3
    assert all(math.isfinite(value) for step in grpo["steps"] for value in step.values())
    assert all(step["time/generate"] > 0 and step["grad_norm"] > 0 for step in grpo["steps"])
    parity = json.loads((tmp_path / "parity.json").read_text(encoding="utf-8"))
    assert parity["failed"] == [] and parity["bfloat16"]["logits"] > 0


def test_kernels_are_only_collected_without_a_gpu(check: ModuleType, tmp_path: Path) -> None:
    check.main(["--device", "cpu", "--only", "kernels", "--out", str(tmp_path)])
    line = summary(tmp_path)["kernels"]["last_line"]
    assert "collected, not run" in line
    log = (tmp_path / "kernels.log").read_text(encoding="utf-8")
    assert "test_kernels_on_a_device" in log and "test_graphs_and_kernels" in log


def test_a_whole_step_is_counted_and_timed_without_a_gpu(check: ModuleType, tmp_path: Path) -> None:
    check.main(["--device", "cpu", "--only", "benchmark_step", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "benchmark_step.json").read_text(encoding="utf-8"))
    arms = found["cases"]["mini, 1"]["arms"]
    assert all(arm["expected"]["trunk"] > 0 for arm in arms.values())
    arms = {name: arm for name, arm in arms.items() if "seconds" in arm}
    assert set(arms) == {"ours", "release"}
    for arm in arms.values():
        assert arm["whole_s"]["min"] > 0
        assert arm["counted"]["trunk"] == arm["expected"]["trunk"]
        assert arm["counted"]["operations"] > sum(arm["expected"]["operations"].values()) * 0.9
        assert arm["times_least"] > 1 and arm["peak_gib"] > 0.1
    assert arms["ours"]["relative_to_ours"]["whole"]["median"] == 1
    assert found["machine"]["threads"] == 1 and found["machine"]["torch"]
    draw(found, tmp_path / "step.png")
    assert (tmp_path / "step.png").stat().st_size > 10_000
    first = [arm["first_step"]["grad_norm"] for arm in arms.values()]
    assert first[0] == pytest.approx(first[1], rel=1e-3) and first[0] > 0.01


def test_attention_is_compared_without_a_gpu(check: ModuleType, tmp_path: Path) -> None:
    check.main(["--device", "cpu", "--only", "attention", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "attention.json").read_text(encoding="utf-8"))["rows"]
    assert [row["way"] for row in rows] == ["ours", "copied keys"]
    assert all(row["forward_ms"] > 0 and row["backward_ms"] > 0 for row in rows)
    assert all(row["largest_difference"] < 1e-5 and row["same_twice"] for row in rows)


def test_time_and_packages(check: ModuleType, tmp_path: Path) -> None:
    """Nothing starts without time left; limits hold what was seen; names are of packages."""
    given = ["--device", "cpu", "--only", "sft, grpo", "--limit-s", "1", "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match="grpo, sft did not pass"):
        check.main(given)
    assert {part["status"] for part in summary(tmp_path).values()} == {"not started"}
    seen = json.loads(RUNS.read_text(encoding="utf-8"))["parts"]
    limits = {part.name: part.limit_s for part in check.PARTS}
    passed = [part for part in seen if part["status"] == "passed"]
    assert passed and all(part["seconds"] < limits[part["name"]] for part in passed)
    assert check.TOTAL_S <= 540 and max(limits.values()) < check.TOTAL_S
    needs = {name for part in check.PARTS for name in part.needs}
    assert {name for name in needs if importlib.util.find_spec(name) is None} == set()


def test_wrong_use_and_no_gpu(
    check: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words, told in (
        (["--only", "grpo,speed"], "no part is named 'speed'; use kernels, parity, grpo,"),
        (["--limit-s", "0"], "--limit-s is 0; it must be above 0"),
    ):
        with pytest.raises(SystemExit) as end:
            check.main([*words, "--device", "cpu", "--out", str(tmp_path / "out")])
        assert end.value.code == 2
        assert told in capsys.readouterr().err
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"^gpu_check: torch sees no GPU; [^\n]+$"):
        check.main(["--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
