"""The Triton kernels without a GPU: Triton's interpreter runs them, line by line, with numpy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from all_checks import CHECKS

JOB = Path(__file__).with_name("interpreter_job.py")
SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, str]]:
    """What each check said, from one process for all of them."""
    # The interpreter divides by zero and meets NaN, as a device would, and numpy warns.
    result = subprocess.run(
        [sys.executable, "-W", "ignore::RuntimeWarning", str(JOB)],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", CHECKS)
def test_kernels_in_the_interpreter(name: str, results: dict[str, dict[str, str]]) -> None:
    assert not results[name]["failure"], results[name]["failure"]
