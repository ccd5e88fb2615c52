"""What is trained, at which rate, and how the rate runs."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from r1omni.models.checkpoint import load_model
from r1omni.models.folders import find_model_folder
from r1omni.models.omni import OmniModel
from r1omni.training.optimization import (
    PARTS,
    OptimizerConfig,
    apply_settings,
    build_optimizer,
    choose_trained,
    parameter_groups,
)
from r1omni.types import UsageError

PEAK = 2e-4


@pytest.fixture
def model(fixtures_dir: Path) -> OmniModel:
    return load_model(find_model_folder(fixtures_dir / "humanomni_tiny" / "R1-Omni-tiny"))


def trainable(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def below(model: nn.Module, *modules: str) -> set[str]:
    return {name for name, _ in model.named_parameters() if name.split(".")[0] in modules}


def part_of(group: dict) -> str:
    """The part a group of parameters belongs to."""
    return str(group["name"]).removesuffix("_no_decay")


# What is trained --------------------------------------------------------------------------------


def test_parts_are_the_whole_model(model: OmniModel) -> None:
    modules = [name for names in PARTS.values() for name in names]
    assert sorted(modules) == sorted(name for name, _ in model.named_children())


@pytest.mark.parametrize(
    ("parts", "modules"),
    [
        (["projectors"], ("video_projector", "audio_projector", "gate")),
        (["language_model"], ("language_model", "lm_head")),
        (["vision_tower"], ("vision_tower",)),
        (
            ["text_tower", "projectors"],
            ("text_tower", "video_projector", "audio_projector", "gate"),
        ),
        (
            ["projectors", "language_model"],
            ("video_projector", "audio_projector", "gate", "language_model", "lm_head"),
        ),
    ],
)
def test_choose_trained(model: OmniModel, parts: list[str], modules: tuple[str, ...]) -> None:
    choose_trained(model, list(PARTS))  # what was trained before makes no difference
    choose_trained(model, parts)
    assert trainable(model) == below(model, *modules)


def test_whispers_positions_are_never_trained(model: OmniModel) -> None:
    choose_trained(model, ["audio_tower"])
    frozen = below(model, "audio_tower") - trainable(model)
    assert frozen == {"audio_tower.audio_tower.encoder.embed_positions.weight"}


@pytest.mark.parametrize(
    ("parts", "named"), [([], "empty"), (["projector"], "projector"), (["gate"], "gate")]
)
def test_unknown_parts(model: OmniModel, parts: list[str], named: str) -> None:
    before = trainable(model)
    with pytest.raises(UsageError, match=rf"model\.trainable .*{named}.*language_model"):
        choose_trained(model, parts)
    assert trainable(model) == before


# Parameter groups -------------------------------------------------------------------------------


def test_groups_hold_every_trainable_parameter_once(model: OmniModel) -> None:
    choose_trained(model, ["projectors", "language_model"])
    assert model.lm_head.weight is model.language_model.embed_tokens.weight  # tied
    groups = parameter_groups(model, OptimizerConfig(PEAK))
    members = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(set(members)) == len(members)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[member] for member in members} == trainable(model)


def test_rates_and_decay(model: OmniModel) -> None:
    choose_trained(model, list(PARTS))
    config = OptimizerConfig(
        learning_rate=PEAK, weight_decay=0.1, projector_lr_scale=5.0, tower_lr_scale=0.5
    )
    groups = parameter_groups(model, config)
    scales = {"projectors": 5.0, "language_model": 1.0}
    seen = {(part_of(group), group["weight_decay"]) for group in groups}
    assert seen == {(part, decay) for part in PARTS for decay in (0.1, 0.0)}
    for group in groups:
        assert group["lr"] == pytest.approx(PEAK * scales.get(part_of(group), 0.5))
    assert len({group["name"] for group in groups}) == len(groups)  # each has a curve of its own
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert decay[id(parameter)] == (0.1 if parameter.dim() >= 2 else 0.0), name
    layer = model.language_model.layers[0]
    assert decay[id(layer.self_attn.q_proj.weight)] == 0.1
    assert decay[id(layer.self_attn.q_proj.bias)] == 0.0
    assert decay[id(layer.input_layernorm.weight)] == 0.0
    assert decay[id(model.video_projector.sampler_video[0].weight)] == 0.1  # a convolution


def test_frozen_parts_have_no_group(model: OmniModel) -> None:
    choose_trained(model, ["projectors"])
    groups = parameter_groups(model, OptimizerConfig(PEAK))
    assert {part_of(group) for group in groups} == {"projectors"}


# The schedule -----------------------------------------------------------------------------------


def rates(config: OptimizerConfig, total_steps: int, num_steps: int | None = None) -> list[float]:
    """The rate, over the peak, of each optimizer step."""
    model = nn.ModuleDict({name: nn.Linear(1, 1) for names in PARTS.values() for name in names})
    optimizer, schedule = build_optimizer(model, config, total_steps)
    seen = []
    for _ in range(total_steps if num_steps is None else num_steps):
        seen.append(optimizer.param_groups[-1]["lr"] / config.learning_rate)
        optimizer.step()
        schedule.step()
    return seen


def test_warm_up_then_cosine_by_hand() -> None:
    config = OptimizerConfig(learning_rate=PEAK, warmup_ratio=0.2)
    half = math.sqrt(0.5)
    assert rates(config, 10, 11) == pytest.approx(
        [
            0.5,
            1.0,  # two steps of warm-up
            1.0,
            0.5 * (1 + math.cos(math.pi / 8)),
            0.5 * (1 + half),
            0.5 * (1 + math.cos(3 * math.pi / 8)),
            0.5,
            0.5 * (1 - math.cos(3 * math.pi / 8)),
            0.5 * (1 - half),
            0.5 * (1 - math.cos(math.pi / 8)),
            0.0,  # the rate that an eleventh step would have
        ]
    )


def test_the_cosine_ends_at_the_smallest_rate() -> None:
    config = OptimizerConfig(PEAK, warmup_ratio=0.0, min_lr_ratio=0.1)
    found = rates(config, 100, 105)
    assert found[0] == pytest.approx(1.0)
    assert found[50] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 49 / 99)))
    assert found[99] == pytest.approx(0.1, abs=1e-3)
    assert found[100:] == pytest.approx([0.1] * 5)  # and stays there
    assert all(later < earlier for earlier, later in pairwise(found[1:100]))


def test_constant_after_the_warm_up() -> None:
    config = OptimizerConfig(PEAK, warmup_ratio=0.25, schedule="constant")
    assert rates(config, 16) == pytest.approx([0.25, 0.5, 0.75, 1.0] + [1.0] * 12)


def test_linear() -> None:
    config = OptimizerConfig(PEAK, warmup_ratio=0.5, schedule="linear", min_lr_ratio=0.2)
    assert rates(config, 8) == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 0.8, 0.6, 0.4])


@pytest.mark.parametrize("total_steps", [1, 2, 3])
def test_a_very_short_run_still_learns(total_steps: int) -> None:
    found = rates(OptimizerConfig(PEAK), total_steps)
    assert found[0] == pytest.approx(1.0)
    assert all(0 < rate <= 1 for rate in found)


def test_every_group_follows_the_schedule_from_its_own_peak() -> None:
    model = nn.ModuleDict({name: nn.Linear(1, 1) for names in PARTS.values() for name in names})
    config = OptimizerConfig(learning_rate=PEAK, projector_lr_scale=3.0, warmup_ratio=0.5)
    optimizer, schedule = build_optimizer(model, config, 8)
    for wanted in (0.25, 0.5, 0.75, 1.0):
        for group in optimizer.param_groups:
            peak = PEAK * (3.0 if part_of(group) == "projectors" else 1.0)
            assert group["lr"] == pytest.approx(peak * wanted)
        optimizer.step()
        schedule.step()


def test_betas_are_passed_on() -> None:
    model = nn.ModuleDict({name: nn.Linear(1, 1) for names in PARTS.values() for name in names})
    optimizer, _ = build_optimizer(model, OptimizerConfig(PEAK, adam_betas=(0.8, 0.95)), 4)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.95)}


def test_the_fused_update_of_a_cpu_is_that_of_the_plain_one() -> None:
    """Mixed precision has the plain one: Lightning does not clip gradients of the other."""
    config = OptimizerConfig(learning_rate=0.01, weight_decay=0.1)
    learned = []
    for mixed in (False, True):
        torch.manual_seed(0)
        sizes = {name: nn.Linear(7, 5) for names in PARTS.values() for name in names}
        model = nn.ModuleDict(sizes)
        optimizer, schedule = build_optimizer(model, config, 6, mixed=mixed)
        assert {bool(group["fused"]) for group in optimizer.param_groups} == {not mixed}
        for step in range(6):
            for index, parameter in enumerate(model.parameters()):
                parameter.grad = torch.sin(parameter.detach() * (index + step + 1))
            optimizer.step()
            schedule.step()
        learned.append([parameter.detach() for parameter in model.parameters()])
    assert_close(*learned, rtol=0, atol=1e-6)


def test_a_resumed_optimizer_is_fused_where_this_machine_fuses() -> None:
    """One that is not keeps its counts on the CPU: elsewhere each would be waited for."""

    class OnAGPU:
        def __init__(self, step: torch.Tensor) -> None:
            self.cpu = step.clone

    config = OptimizerConfig(learning_rate=PEAK)
    for fused in (False, True):
        written, read = (
            nn.ModuleDict({name: nn.Linear(2, 2) for names in PARTS.values() for name in names})
            for _ in range(2)
        )
        optimizer, _ = build_optimizer(written, config, 8, mixed=not fused)
        for parameter in written.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        resumed, schedule = build_optimizer(read, config, 8, mixed=fused)
        resumed.load_state_dict(optimizer.state_dict())
        if fused:
            for entry in resumed.state.values():
                entry["step"] = OnAGPU(entry["step"])
        apply_settings(resumed, schedule, read, config)
        assert {bool(group["fused"]) for group in resumed.param_groups} == {not fused}
        assert [entry["step"].item() for entry in resumed.state.values()] == [1.0] * len(
            resumed.state
        )


def test_unknown_schedule() -> None:
    with pytest.raises(UsageError, match=r"optimizer\.schedule 'square'.*cosine, linear, const"):
        OptimizerConfig(schedule="square")


def test_an_update_moves_what_is_trained_and_nothing_else(model: OmniModel) -> None:
    choose_trained(model, ["projectors"])
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer, _ = build_optimizer(model, OptimizerConfig(learning_rate=0.1), 10)
    features = torch.randn(1, 2, 16, 32, generator=torch.Generator().manual_seed(0))
    weights = model.branch_weights([torch.tensor([2, 7, 9, 3])])
    tokens = model.video_projector(features, weights)
    (tokens.square().sum() + model.audio_projector(features[:, 0]).square().sum()).backward()
    optimizer.step()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == below(model, "video_projector", "audio_projector", "gate")
