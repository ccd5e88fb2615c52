"""scripts/predict_memory.py against counted allocations, measured peaks, and its page."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from predict_memory import (
    GIB,
    MEASURED,
    OVERLAYS,
    PAPER,
    RELEASED,
    Memory,
    Step,
    measured,
    overlays,
)

from r1omni.models.sizes import config_from_sizes

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "memory.md"
SMALL = Step(
    prompts=4, micro_batch=4, group=4, completion=96, mixed=False, fused=False, on_gpu=False
)
SFT = replace(SMALL, group=0, prompts=16, micro_batch=16)
STEPS = {
    "sft": SFT,
    "sft, computed again": replace(SFT, checkpointing=True),
    "grpo": SMALL,
    "grpo, computed again": replace(SMALL, checkpointing=True),
    "grpo, two passes": replace(SMALL, micro_batch=2),
    "grpo in bfloat16": replace(SMALL, mixed=True),
    "grpo in bfloat16, computed again": replace(SMALL, mixed=True, checkpointing=True),
    "adapters": replace(SMALL, lora=8),
}


@pytest.fixture(scope="module")
def part() -> ModuleType:
    """scripts/gpu_parts/memory.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        file = ROOT / "scripts" / "gpu_parts" / "memory.py"
        spec = importlib.util.spec_from_file_location("gpu_part_memory", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def folder(part: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = part.noise.model_folder("mini", tmp_path_factory.mktemp("memory") / "mini", "cpu")
    return made


@pytest.mark.parametrize("name", STEPS)
def test_a_counted_training_takes_what_is_predicted(
    part: ModuleType, folder: Path, tmp_path: Path, name: str
) -> None:
    """Every allocation of two steps, the model's own among them; within 10 percent."""
    step, config = part.with_lengths(STEPS[name], folder)
    counted = part.train(step, folder, "cpu", tmp_path)["peak_gib"] * GIB
    assert Memory(config, step).peak() == pytest.approx(counted, rel=0.1)


def test_peaks_of_a_gpu_are_predicted() -> None:
    """Of files that were measured before the formula was written; within 5 percent."""
    config = config_from_sizes(RELEASED)
    for name, step in MEASURED.items():
        file = ROOT / "docs" / "benchmarks" / "gpu" / f"{name}.json"
        found = json.loads(file.read_text(encoding="utf-8"))["steps"][-1]["peak_gib"]
        assert Memory(config, step).peak() / GIB == pytest.approx(found, rel=0.05), name


def test_the_page_and_the_overlays_have_what_the_script_computes() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert measured() in page and overlays() in page
    config = config_from_sizes(RELEASED)
    for name, step in OVERLAYS.items():
        peak = Memory(config, step).peak() / GIB
        file = ROOT / "configs" / "overlay" / name.split(",")[0]
        text = file.read_text(encoding="utf-8")
        if file.name == name:
            assert f"{peak:.1f} GiB" in text and peak < float(name[4:6])
            given = yaml.safe_load(text)["model"]["init_args"]
            assert given["activation_checkpointing"] is step.checkpointing
            own = given.get("grpo", {}).get("micro_batch_size", PAPER.micro_batch)
            assert own == step.micro_batch


def test_what_is_computed_again_is_not_kept() -> None:
    config = config_from_sizes(RELEASED)
    whole, again = (Memory(config, replace(PAPER, checkpointing=given)) for given in (False, True))
    assert whole.always == again.always
    assert again.update["kept by layers"] < 0.05 * whole.update["kept by layers"]
    saved = whole.peak() - again.peak()
    assert saved > 15 * GIB
