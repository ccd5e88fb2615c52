"""Long commands of r1omni side by side, as scripts run them: of this checkout, one thread each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

# Of this checkout, as the commands that it runs.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from r1omni.studies import side_by_side
from r1omni.studies.side_by_side import Command, Job, Spent, Stopped, duration

ROOT = Path(__file__).resolve().parent.parent
__all__ = ["ROOT", "Command", "Job", "SideBySide", "Spent", "Stopped", "duration"]


class SideBySide(side_by_side.SideBySide):
    """As there; commands run in this checkout."""

    def __init__(
        self, program: Sequence[str], num_jobs: int, expected_s: Callable[[str], float]
    ) -> None:
        environment = {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
        super().__init__(program, num_jobs, expected_s, environment, ROOT)
