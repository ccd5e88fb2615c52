"""What was given and the parser would leave out without a word is refused by its key."""

from __future__ import annotations

import inspect
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1omni.cli import main
from r1omni.training import GRPOModule, SFTModule

CONFIGS = Path(__file__).parents[2] / "configs"
STARTS = {SFTModule: "mini/emer_sft.yaml", GRPOModule: "mini/r1omni.yaml"}


def options_of(kind: type) -> set[str]:
    return set(inspect.signature(kind).parameters)


def refusal(capfd: pytest.CaptureFixture[str], out: Path, *words: object) -> str:
    """The one line with which `fit` refuses these words; nothing may be written."""
    line = ["fit", *words, "--trainer.default_root_dir", out]
    assert main([str(word) for word in line]) == 2
    [told] = [text for text in capfd.readouterr().err.splitlines() if "error:" in text]
    assert not out.exists()
    return told


@pytest.mark.parametrize(("before", "after"), list(permutations(STARTS, 2)))
@pytest.mark.parametrize("by", ["overlay", "word"])
def test_a_change_of_class_drops_no_setting(
    before: type, after: type, by: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Of what the new class lacks, and of a setting that it has with other values.
    alone = options_of(before) - options_of(after)
    assert alone
    given: dict[str, Any] = {name: {} if name == "grpo" else 9 for name in alone}
    if before is GRPOModule:
        given["max_new_tokens"] = None
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(yaml.safe_dump({"model": {"init_args": given}}))
    path = f"r1omni.training.{after.__name__}"
    second.write_text(yaml.safe_dump({"model": {"class_path": path}}))
    change = ("--config", second) if by == "overlay" else ("--model.class_path", path)
    start = CONFIGS / STARTS[before]
    told = refusal(capfd, tmp_path / "run", "--config", start, "--config", first, *change)
    assert f"model.class_path is {path}, in place of r1omni.training.{before.__name__}" in told
    assert all(f"model.init_args.{name}" in told for name in given) and "take it out" in told


def test_a_change_of_strategy_drops_no_setting(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = [
        CONFIGS / STARTS[GRPOModule],
        CONFIGS / "overlay/fsdp.yaml",
        CONFIGS / "overlay/ddp.yaml",
    ]
    words = [word for file in files for word in ("--config", file)]
    told = refusal(capfd, tmp_path / "run", *words)
    assert "trainer.strategy.init_args.sharding" in told
