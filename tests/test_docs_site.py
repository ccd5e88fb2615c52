"""The documentation builds as a site without a broken link, and its YAML is accepted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from r1omni.rewards import RewardSpec
from r1omni.training import GRPOConfig

ROOT = Path(__file__).parents[1]
PAPERS = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "s")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    pages = {file.parent.name for file in (tmp_path / "s").rglob("index.html")}
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} <= pages
    api = (tmp_path / "s" / "api" / "index.html").read_text(encoding="utf-8")
    for name in ("r1omni.R1Omni", "r1omni.ops.grpo_loss", "r1omni.kernels.linear_logprob"):
        assert f'id="{name}"' in api
    # From the walk through a step to the entry of what it names.
    step = (tmp_path / "s" / "one_step" / "index.html").read_text(encoding="utf-8")
    assert '../api/#r1omni.models.OmniModel.completion_logps"' in step
    first = (tmp_path / "s" / "index.html").read_text(encoding="utf-8")
    assert 'src="http' not in first and 'rel="stylesheet" href="http' not in first


@pytest.mark.parametrize("text", re.findall(r"`(\{[^`]+\})`", PAPERS))
def test_settings_of_papers_are_accepted(text: str) -> None:
    settings = yaml.safe_load(text)
    rewards = [RewardSpec(**entry) for entry in settings.pop("rewards", [])]
    GRPOConfig(**settings, **({"rewards": rewards} if rewards else {}))


def test_files_of_papers_are_there() -> None:
    files = re.findall(r"`(configs/[\w./]+)`", PAPERS)
    assert len(files) > 8 and [file for file in files if not (ROOT / file).exists()] == []
