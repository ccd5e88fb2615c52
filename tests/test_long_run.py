"""scripts/long_run.py: growth of memory is seen, noise is not."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from processes import REPOSITORY, Running

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "long_run.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load()


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("long_run", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def lines(mib_a_step: float) -> list[dict[str, int]]:
    """A run of 300 steps from 1000 MiB on, with a peak every 25 steps."""
    found = []
    for step in range(1, 301):
        mib = 1000 + mib_a_step * step + (200 if step % 25 == 0 else 0)
        found.append({"step": step, "rss_bytes": round(mib * 2**20)})
    found[99]["completions_bytes"] = 7
    return found


def run(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, growth: float) -> int:
    monkeypatch.setattr(script, "train", lambda *arguments: lines(growth))
    monkeypatch.setattr(sys, "argv", ["long_run.py", "--out", str(tmp_path)])
    return int(script.main())


@pytest.mark.parametrize(("growth", "status"), [(0.0, 0), (0.2, 0), (0.25, 1)])
def test_growth_above_a_twentieth_is_a_failure(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    growth: float,
    status: int,
) -> None:
    assert run(script, monkeypatch, tmp_path, growth) == status


def test_the_report(script: ModuleType) -> None:
    # Step 50 and step 300 have peaks: the medians lie between steps 55 and 56, and 295 and 296.
    found = script.report(lines(0.25))
    assert (found["rss_mib_at_step_50"], found["rss_mib_at_the_end"]) == (1013.9, 1073.9)
    assert found["rss_ratio"] == round(1073.875 / 1013.875, 4)
    assert found["files"] == [{"step": 100, "completions_bytes": 7}]


def test_resident_memory_is_that_of_this_process() -> None:
    # In a process of its own: what other tests left behind is let go of at any time.
    process = Running(hold_memory, cwd=REPOSITORY, env=os.environ)
    assert process.wait() == 0, process.stderr


def hold_memory() -> None:
    resident_bytes = load().resident_bytes
    before = resident_bytes()
    held = bytearray(b"\1" * (64 * 2**20))
    assert resident_bytes() - before > 48 * 2**20
    del held
