"""Environment of every test, and where the recorded fixtures lie."""

from __future__ import annotations

import multiprocessing.util
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

# Before the first import of the libraries that read them.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ["HF_HUB_OFFLINE"] = "1"  # a test never downloads
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

from tracking_store import KEPT, copy_new_stores

TESTS = Path(__file__).parent
# Files that take longest begin first: the last one would leave the other workers without work.
_LONGEST = (
    "training/test_ranks.py", "training/test_option_matrix.py", "training/test_cut_points.py",
    "test_benchmark_step.py", "test_extending.py", "test_predict_memory.py", "test_cli.py",
    "test_artefacts.py", "test_gpu_check.py", "test_end_to_end.py", "training/test_launch.py",
    "training/test_sharded.py", "studies/test_fold_runs.py", "judging/test_judge_in_training.py",
)  # fmt: skip

# What a shell runs in its background ignores Ctrl-C; tests of Ctrl-C run there, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
# The folder of multiprocessing's sockets, whose paths have to be short: the one of the session, not
# below a folder that a test sets for its temporary files.
multiprocessing.util.get_temp_dir()
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {TESTS / name: number for number, name in enumerate(_LONGEST)}
    assert all(file.is_file() for file in place)
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session", autouse=True)
def _tracking_store(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A new store of MLflow is a copy, here and in processes that tests start."""
    os.environ[KEPT] = str(tmp_path_factory.mktemp("tracking") / "kept.db")
    if "mlflow" in sys.modules:  # a test that was collected needs it
        copy_new_stores()


@pytest.fixture(scope="session")
def fixtures_dir() -> Path:
    """Recorded inputs and outputs; each folder's README or JSON says what made them."""
    return TESTS / "fixtures"


@pytest.fixture(scope="session")
def mini_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mini-world of about a hundred clips in the publishers' layouts, and a fresh model.

    `world/` is the data, `init/` the model folder. It is made once; every worker has a copy.
    """
    from filelock import FileLock

    own = tmp_path_factory.getbasetemp()
    # The workers of a run have one folder above their own.
    above = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with FileLock(above / "mini_made.lock"):
        if not (above / "mini_made").exists():
            _make_mini_world(own / "mini_made_here")
            (own / "mini_made_here").rename(above / "mini_made")
    root = tmp_path_factory.mktemp("mini") / "mini"  # tests write into it
    shutil.copytree(above / "mini_made", root)
    return root


def _make_mini_world(root: Path) -> None:
    from r1omni.cli import main

    world, init = root / "world", root / "init"
    assert main(["synthesize", "--out", str(world), "--clips", "60", "--num-workers", "2"]) == 0
    texts = [str(world / "HumanOmni" / f"{name}.json") for name in ("captions", "reasoning")]
    sizes = str(TESTS.parent / "configs" / "mini" / "model.yaml")
    assert main(["create", "--sizes", sizes, "--texts", *texts, "--out", str(init)]) == 0


@pytest.fixture(scope="session")
def forked_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A `python` in a folder `bin`, whose imports are made already: `forked_python.py`."""
    from forked_python import write_python

    python, running = write_python(tmp_path_factory.mktemp("python"))
    yield python
    os.kill(running.pid, signal.SIGKILL)
