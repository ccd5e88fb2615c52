"""The same update on one process and on two that talk over gloo."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ranks_job import CASES, train_all

TESTS = Path(__file__).parents[1]
Moments = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def results(mini_world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Moments, Moments]:
    """The gradients' moments in each case, of one process and of two."""
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TESTS))
        train_all(mini_world, folder / "one.pt", num_ranks=1)
    source = TESTS.parent / "src"
    path = os.pathsep.join(map(str, (source, TESTS, Path(__file__).parent)))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         str(Path(__file__).parent / "ranks_job.py"), str(mini_world), str(folder / "two.pt")],
        env=dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS="1"),
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (torch.load(folder / f"{name}.pt", weights_only=True) for name in ("one", "two"))
    return one, two


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_update_like_one(results: tuple[Moments, Moments], case: str) -> None:
    one, two = (found[case] for found in results)
    assert one.norm() > 0
    assert (one - two).norm() < 1e-4 * one.norm()


def test_the_comparison_sees_a_difference(results: tuple[Moments, Moments]) -> None:
    one, _ = results
    for first, second in (("grpo", "dapo"), ("grpo", "scaled by the batch"), ("dapo", "dr_grpo")):
        assert (one[first] - one[second]).norm() > 1e-3 * one[first].norm()
