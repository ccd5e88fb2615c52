"""Adapters on the language model: what they change, what they leave, and merging."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from short_prompts import prompts_of
from torch import Tensor

from r1omni.models import R1Omni
from r1omni.models.adapters import (
    ALL_MATRICES,
    LoRAConfig,
    adapters_off,
    add_adapters,
    merged_state,
)
from r1omni.models.omni import OmniModel
from r1omni.types import UsageError

SMALL = LoRAConfig(rank=4, alpha=8)


@pytest.fixture
def adapted(tiny_dir: Path) -> R1Omni:
    """The tiny model with fresh adapters."""
    omni = R1Omni.from_pretrained(tiny_dir / "R1-Omni-tiny")
    add_adapters(omni.model, SMALL)
    return omni


def train_a_little(model: OmniModel) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2, generator=generator)


@torch.no_grad()
def logits(omni: R1Omni) -> Tensor:
    return omni.model.logits(prompts_of(omni))


def test_fresh_adapters_change_nothing(adapted: R1Omni, tiny: R1Omni) -> None:
    assert torch.equal(logits(adapted), logits(tiny))


def test_trained_adapters_change_the_model_and_can_be_switched_off(
    adapted: R1Omni, tiny: R1Omni
) -> None:
    train_a_little(adapted.model)
    moved = logits(adapted)
    assert (moved - logits(tiny)).abs().max() > 0.1
    with adapters_off(adapted.model):
        assert torch.equal(logits(adapted), logits(tiny))
    assert torch.equal(logits(adapted), moved)
    with pytest.raises(RuntimeError, match="inside"), adapters_off(adapted.model):
        raise RuntimeError("inside")
    assert torch.equal(logits(adapted), moved)


def test_only_adapters_are_trained(adapted: R1Omni) -> None:
    layers = adapted.model.config.language.num_hidden_layers
    language = adapted.model.language_model
    trained = [name for name, p in language.named_parameters() if p.requires_grad]
    assert len(trained) == layers * len(ALL_MATRICES) * 2
    assert all(".lora_A." in name or ".lora_B." in name for name in trained)


def test_merging(adapted: R1Omni, tiny: R1Omni) -> None:
    train_a_little(adapted.model)
    before = {name: p.detach().clone() for name, p in adapted.model.named_parameters()}
    merged = merged_state(adapted.model)
    assert all(torch.equal(before[name], p) for name, p in adapted.model.named_parameters())
    start = tiny.model.state_dict()
    assert {name: t.shape for name, t in merged.items()} == {n: t.shape for n, t in start.items()}
    changed = [name for name in merged if not torch.equal(merged[name], start[name])]
    assert len(changed) == adapted.model.config.language.num_hidden_layers * len(ALL_MATRICES)
    name = "language_model.layers.0.self_attn.q_proj"
    parts = dict(adapted.model.named_parameters())
    a, b = (parts[f"{name}.lora_{part}.default.weight"] for part in "AB")
    by_hand = start[f"{name}.weight"] + 8 / 4 * b @ a
    torch.testing.assert_close(merged[f"{name}.weight"], by_hand)


def test_a_saved_model_has_its_adapters_merged(adapted: R1Omni, tmp_path: Path) -> None:
    train_a_little(adapted.model)
    adapted.save_pretrained(tmp_path / "merged")
    again = R1Omni.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(again), logits(adapted), atol=1e-4, rtol=1e-4)


def test_a_part_of_the_matrices(tiny_dir: Path) -> None:
    omni = R1Omni.from_pretrained(tiny_dir / "R1-Omni-tiny")
    add_adapters(omni.model, LoRAConfig(targets=("q_proj", "v_proj")))
    names = [name for name, _ in omni.model.named_parameters() if ".lora_" in name]
    assert {name.split(".lora_")[0].rsplit(".", 1)[1] for name in names} == {"q_proj", "v_proj"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "lora.rank is 0"),
        ({"alpha": 0}, "lora.alpha is 0"),
        ({"targets": ()}, "lora.targets is empty"),
        ({"targets": ("q_proj", "lm_head")}, "lm_head"),
    ],
)
def test_settings_are_checked(settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LoRAConfig(**settings)
