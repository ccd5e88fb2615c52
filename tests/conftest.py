"""Environment of every test, and where the recorded fixtures lie."""

from __future__ import annotations

import os
from pathlib import Path

# Before the first import of the libraries that read them.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ["HF_HUB_OFFLINE"] = "1"  # a test never downloads
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


@pytest.fixture(scope="session")
def fixtures_dir() -> Path:
    """Recorded inputs and outputs; each folder's README or JSON says what made them."""
    return Path(__file__).parent / "fixtures"
