"""The recorded tiny checkpoint, loaded once, and copies of it to break."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

from r1omni.models import R1Omni


@pytest.fixture(scope="session")
def tiny_dir(fixtures_dir: Path) -> Path:
    """The folder that holds the checkpoint, its towers, a clip and the recorded values."""
    return fixtures_dir / "humanomni_tiny"


@pytest.fixture(scope="session")
def tiny(tiny_dir: Path) -> R1Omni:
    """The recorded checkpoint; tests must not change it."""
    return R1Omni.from_pretrained(tiny_dir / "R1-Omni-tiny")


@pytest.fixture(scope="session")
def expected(tiny_dir: Path) -> dict[str, Tensor]:
    """What the published code computes from the checkpoint."""
    return load_file(tiny_dir / "expected.safetensors")


@pytest.fixture(scope="session")
def recorded(tiny_dir: Path) -> dict[str, Any]:
    """The instruction and prompts that belong to `expected`."""
    values: dict[str, Any] = json.loads((tiny_dir / "expected.json").read_text(encoding="utf-8"))
    return values


@pytest.fixture
def copied(tiny_dir: Path, tmp_path: Path) -> Path:
    """A copy of the model folder with its towers beside it, free to be changed."""
    for folder in sorted(tiny_dir.iterdir()):
        if folder.is_dir():
            shutil.copytree(folder, tmp_path / folder.name)
    return tmp_path / "R1-Omni-tiny"


@pytest.fixture
def edit_config() -> Callable[..., None]:
    """Change keys of a folder's config.json; None removes a key."""

    def edit(folder: Path, **changes: object) -> None:
        path = folder / "config.json"
        values = json.loads(path.read_text(encoding="utf-8")) | changes
        kept = {key: value for key, value in values.items() if value is not None}
        path.write_text(json.dumps(kept), encoding="utf-8")

    return edit
