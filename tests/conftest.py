"""Environment of every test, and where the recorded fixtures lie."""

from __future__ import annotations

import multiprocessing.util
import os
import signal
from pathlib import Path

# Before the first import of the libraries that read them.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ["HF_HUB_OFFLINE"] = "1"  # a test never downloads
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

# What a shell runs in its background ignores Ctrl-C; tests of Ctrl-C run there, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
# The folder of multiprocessing's sockets, whose paths have to be short: the one of the session, not
# below a folder that a test sets for its temporary files.
multiprocessing.util.get_temp_dir()
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


@pytest.fixture(scope="session")
def fixtures_dir() -> Path:
    """Recorded inputs and outputs; each folder's README or JSON says what made them."""
    return Path(__file__).parent / "fixtures"


@pytest.fixture(scope="session")
def mini_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mini-world of about a hundred clips in the publishers' layouts, and a fresh model.

    `world/` is the data, `init/` the model folder.
    """
    from r1omni.cli import main

    root = tmp_path_factory.mktemp("mini")
    world, init = root / "world", root / "init"
    assert main(["synthesize", "--out", str(world), "--clips", "60", "--num-workers", "2"]) == 0
    texts = [str(world / "HumanOmni" / f"{name}.json") for name in ("captions", "reasoning")]
    sizes = str(Path(__file__).parent.parent / "configs" / "mini" / "model.yaml")
    assert main(["create", "--sizes", sizes, "--texts", *texts, "--out", str(init)]) == 0
    return root
