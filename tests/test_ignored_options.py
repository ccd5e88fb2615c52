"""An option that would do nothing is refused, and one that is accepted does something.

Nothing here is listed by hand: classes are those of `test_options.py`, and conditions their
`ONLY_WITH`.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from r1omni.data import DatasetSpec
from r1omni.data.sampling import select
from r1omni.ops import GRPOLossConfig, grpo_loss
from r1omni.ops.importance import ImportanceCorrection, importance_weights
from r1omni.ops.loss_config import LossType
from r1omni.options import OnlyWith, choices_of, number_fields
from r1omni.training import GRPOConfig, GRPOModule, OptimizerConfig, SFTModule
from r1omni.training.optimization import PARTS, Schedule, build_optimizer, parameter_groups
from r1omni.types import Clip, Sample, UsageError
from test_options import IN_FILES, made, reached


def others(kind: type, name: str) -> list[Any]:
    """Values of an option other than its default."""
    hint = typing.get_type_hints(kind)[name]
    [default] = [field.default for field in fields(kind) if field.name == name]  # type: ignore[arg-type]
    if choices_of(hint)[0]:
        return [choice for choice in choices_of(hint)[0] if choice != default]
    if hint is bool:
        return [not default]
    if name == "sampling":
        return ["first:1", "not end:10%", "random:2", "3", "not 10%"]
    numbers = {entry[0]: entry[1] for entry in number_fields(kind)}
    allowed = kind.RANGES[name]  # type: ignore[attr-defined]
    tried = (0, 1, 2, 7) if numbers[name] is int else (0.0, 0.3, 0.7, 1.4, 2.5)
    return [value for value in tried if value in allowed and value != default]


def owner(kind: type, name: str) -> tuple[type, str]:
    """The class that a dotted option of a class belongs to, and its last name."""
    *sections, last = name.split(".")
    for section in sections:
        kind = typing.get_type_hints(kind)[section]
    return kind, last


def with_option(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Arguments for a class from dotted names."""
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        section, _, last = name.rpartition(".")
        if section:
            arguments.setdefault(section, {})[last] = value
        else:
            arguments[name] = value
    hints = typing.get_type_hints(kind)
    return {k: hints[k](**v) if isinstance(v, dict) else v for k, v in arguments.items()}


CONDITIONS = [
    pytest.param(kind, name, condition, id=f"{kind.__name__}.{name}")
    for kind in reached(*IN_FILES)
    for name, condition in getattr(kind, "ONLY_WITH", {}).items()
    if kind not in (SFTModule, GRPOModule)  # of these, below
]


@pytest.mark.parametrize(("kind", "name", "condition"), CONDITIONS)
def test_an_option_is_refused_exactly_where_it_has_no_effect(
    kind: type, name: str, condition: OnlyWith
) -> None:
    seen = set()
    # The other option may need a third one.
    own, other = owner(kind, condition.other)
    needs = getattr(own, "ONLY_WITH", {}).get(other)
    third = {} if needs is None else {needs.other: others(*owner(kind, needs.other))[0]}
    for state in [
        {},
        *({**third, condition.other: value} for value in others(own, other)),
    ]:
        for value in others(*owner(kind, name)):
            arguments = with_option(kind, {**state, name: value})
            refusal = made(kind, **arguments)
            holds = refusal is None or "has an effect only" not in str(refusal)
            seen.add(holds)
            if not holds:
                told = str(refusal)
                assert f"{name} is {value}" in told and condition.other in told
                assert "leave" in told and "\n" not in told
        # What is left at its default is never refused.
        assert "has an effect only" not in str(made(kind, **with_option(kind, state)))
    assert seen == {True, False}


def test_the_walk_finds_conditions() -> None:
    assert len(CONDITIONS) > 10


# The loss ---------------------------------------------------------------------------------------

N, C = 8, 6
DRAW = torch.Generator().manual_seed(0)
LOGPS, OLD, REF, ENTROPIES = torch.randn(4, N, C, generator=DRAW, dtype=torch.float64) * 0.4 - 1
ADVANTAGES = torch.randn(N, generator=DRAW, dtype=torch.float64)
MASK = torch.arange(C)[None] < torch.randint(2, C + 1, (N, 1), generator=DRAW)
# No formula has these; a run derives them from the sampling (`GRPOConfig.loss_in_force`).
DERIVED = {"temperature", "max_completion_length"}


def step(config: GRPOLossConfig, log_kl: bool = False) -> list[Tensor]:
    """Loss, gradient and figures of a step on completions that are off policy."""
    logps = LOGPS.clone().requires_grad_()
    entropies = ENTROPIES.abs().requires_grad_()
    result = grpo_loss(
        logps, ADVANTAGES, MASK, old_logps=OLD, entropies=entropies, config=config,
        ref_logps=REF if config.beta or log_kl else None, num_batch_tokens=int(MASK.sum()),
    )  # fmt: skip
    result.loss.backward()
    assert logps.grad is not None
    return [result.loss.detach(), logps.grad, *(result.metrics[k] for k in sorted(result.metrics))]


def differ(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) != len(other) or any(not a.equal(b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("loss_type", get_args(LossType))
@pytest.mark.parametrize("name", sorted({f.name for f in fields(GRPOLossConfig)} - DERIVED))
def test_an_option_of_the_loss_is_accepted_exactly_where_it_changes_a_step(
    loss_type: Any, name: str
) -> None:
    for beside in ({}, {"beta": 0.0}, {"beta": 0.0, "log_kl": True}, {"epsilon_high": 0.25}):
        log_kl = bool(beside.get("log_kl"))
        given = {k: v for k, v in beside.items() if k != "log_kl"}
        common: dict[str, Any] = {"loss_type": loss_type, "max_completion_length": C, **given}
        if loss_type in ("sapo", "vespo"):
            common.pop("epsilon_high", None)
        base = GRPOLossConfig(**common)
        changed, accepted = set(), set()
        for value in others(GRPOLossConfig, name):
            if value == getattr(base, name):
                continue
            try:
                config = replace(base, **{name: value})
                GRPOConfig(max_new_tokens=C, loss=config, log_kl=log_kl)
            except UsageError as error:
                told = str(error)
                if not told.startswith(f"grpo.loss.{name} ") or "must be" in told:
                    continue  # it is of another option, or of the number
                if "corrects k3" in told:
                    continue
                accepted.add(False)
                if "no meaning" in told:
                    continue  # the loss alone refuses it, too
            else:
                accepted.add(True)
            changed.add(differ(step(config, log_kl), step(base, log_kl)))
        # Of several values one may do what the default does.
        assert accepted <= {True in changed}, (beside, accepted, changed)


# The correction of the sampler --------------------------------------------------------------------


@pytest.mark.parametrize("correction", get_args(ImportanceCorrection))
def test_the_cap_is_accepted_exactly_where_it_caps(correction: Any) -> None:
    found = [importance_weights(LOGPS, OLD, MASK, correction, cap) for cap in (3.0, 0.7)]
    changes = found[0] is not None and found[1] is not None and not found[0].equal(found[1])
    refusal = made(GRPOConfig, importance_correction=correction, importance_cap=0.7)
    assert (refusal is None) == changes


# Rates -------------------------------------------------------------------------------------------


def rates(config: OptimizerConfig) -> list[Any]:
    """What an optimizer is told, over its steps."""
    model = nn.ModuleDict({name: nn.Linear(1, 1) for names in PARTS.values() for name in names})
    optimizer, schedule = build_optimizer(model, config, 8)
    seen: list[Any] = [config.adam_betas]
    for _ in range(8):
        seen.append([(g["lr"], g["weight_decay"], g["betas"]) for g in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return seen


@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_a_rate_is_accepted_exactly_where_it_changes_a_step(schedule: Any) -> None:
    base = OptimizerConfig(learning_rate=0.01, schedule=schedule, warmup_ratio=0.5)
    for name in (field.name for field in fields(OptimizerConfig)):
        if name == "kind":  # how moments are kept: test_eight_bit.py
            continue
        values = [(0.8, 0.9)] if name == "adam_betas" else others(OptimizerConfig, name)
        for value in values:
            if value == getattr(base, name):
                continue
            try:
                config = replace(base, **{name: value})
            except UsageError:
                assert name == "min_lr_ratio" and schedule == "constant"
            else:
                assert rates(config) != rates(base), name


@pytest.mark.parametrize("kind", [SFTModule, GRPOModule])
def test_a_scale_is_accepted_exactly_where_its_part_is_trained(kind: type) -> None:
    model = nn.ModuleDict({name: nn.Linear(1, 1) for names in PARTS.values() for name in names})
    scales = [name.partition(".")[2] for name in kind.ONLY_WITH]  # type: ignore[attr-defined]
    assert set(scales) == {f.name for f in fields(OptimizerConfig) if f.name.endswith("scale")}
    for part, modules in PARTS.items():
        for name, module in model.named_parameters():
            module.requires_grad_(name.partition(".")[0] in modules)
        for scale in scales:
            config = OptimizerConfig(learning_rate=0.01, **{scale: 3.0})  # type: ignore[arg-type]
            changes = all(group["lr"] != 0.01 for group in parameter_groups(model, config))
            refusal = str(made(kind, trainable=[part], optimizer=config))
            assert ("has an effect only" in refusal) == (not changes) or "frozen" in refusal
            assert changes or scale in refusal or "frozen" in refusal


# Data --------------------------------------------------------------------------------------------


def samplings() -> Iterator[str]:
    for number in ("2", "30%"):
        for way in ("first:", "end:", "random:", ""):
            yield from (f"{way}{number}", f"not {way}{number}")


def test_a_seed_is_accepted_exactly_where_it_draws() -> None:
    samples = [Sample(str(index), Clip(Path("x")), "") for index in range(20)]
    for sampling in ("all", *samplings()):
        changes = select(samples, sampling, 0) != select(samples, sampling, 3)
        refusal = made(DatasetSpec, sampling=sampling, seed=3)
        assert (refusal is None) == changes, sampling
