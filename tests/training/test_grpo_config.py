"""Choices of a GRPO run that are refused at the start, and the importance correction by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from r1omni.ops import GRPOLossConfig, importance_weights
from r1omni.rewards import RewardGate, RewardSchedule, RewardSpec
from r1omni.training import GRPOConfig
from r1omni.training.grpo_checks import (
    check_batch_size,
    idle_loss_options,
    idle_rewards,
    warn_of_idle_settings,
)
from r1omni.types import UsageError

NO_KL = GRPOLossConfig(beta=0.0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"group_size": 1}, "group_size"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"num_iterations": 0}, "num_iterations"),
        ({"steps_per_generation": 0}, "steps_per_generation"),
        ({"micro_batch_size": 0}, "micro_batch_size"),
        ({"max_completion_logs": 0}, "max_completion_logs"),
        ({"max_grad_norm": 0.0}, "max_grad_norm"),
        ({"kl_in_reward": -1.0}, "kl_in_reward"),
        ({"max_refills": -1}, "max_refills"),
        ({"ref_mixup_alpha": 0.0}, "ref_mixup_alpha"),
        ({"importance_cap": 0.0}, "importance_cap"),
        ({"importance_correction": "truncate"}, "importance_correction 'truncate'"),
        ({"scale_rewards": "std"}, "scale_rewards 'std'"),
        ({"baseline": "median"}, "baseline 'median'"),
        ({"aggregation": "gdpo"}, "aggregation 'gdpo'"),
        ({"rewards": []}, "rewards: [] are chosen"),
        ({"rewards": [RewardSpec("accuracy", 0.0), RewardSpec("format", 0.0)]}, "weight is 0"),
        ({"kl_in_reward": 0.1}, "kl_in_reward 0.1 and grpo.loss.beta 0.04"),
        ({"aggregation": "normalize_then_sum", "baseline": "leave_one_out"}, "leave_one_out"),
        ({"ref_sync_steps": 5, "loss": GRPOLossConfig(beta=0.0)}, "ref_sync_steps"),
        ({"max_refills": 2, "scale_rewards": "batch"}, "max_refills"),
        ({"max_refills": 2, "kl_in_reward": 0.1, "loss": NO_KL}, "max_refills"),
        ({"aggregation": "normalize_then_sum", "scale_rewards": "none"}, "scale_rewards none"),
        (
            {"aggregation": "normalize_then_sum", "kl_in_reward": 0.1, "loss": NO_KL},
            "kl_in_reward 0.1",
        ),
        # What repeats the length or the temperature of the sampling cannot contradict it.
        ({"loss": GRPOLossConfig(temperature=0.5)}, "temperature"),
        ({"loss": GRPOLossConfig(max_completion_length=64)}, "max_completion_length is 64"),
        ({"rewards": [RewardSpec("overlong", options={"max_length": 64})]}, "max_length"),
        (
            {
                "rewards": [
                    RewardSpec("r1omni.rewards.overlong:overlong", options={"max_length": 64})
                ]
            },
            "max_length",
        ),
        ({"rewards": [RewardSpec("overlong", options={"cache_length": 513})]}, "cache_length 513"),
    ],
)
def test_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError) as caught:
        GRPOConfig(**changes)
    assert named in str(caught.value) and "\n" not in str(caught.value)


def test_what_a_choice_needs() -> None:
    plain = GRPOConfig()
    assert plain.needs_reference and not plain.needs_old_logps
    assert not GRPOConfig(loss=GRPOLossConfig(beta=0.0)).needs_reference
    for changes in (
        {"num_iterations": 2},
        {"steps_per_generation": 2},
        {"importance_correction": "token_mask"},
        {"loss": GRPOLossConfig(off_policy_mask_threshold=0.5)},
        {"loss": GRPOLossConfig(beta=0.0), "kl_in_reward": 0.1},
    ):
        assert GRPOConfig(**changes).needs_old_logps  # type: ignore[arg-type]


def test_the_loss_takes_its_length_and_temperature_from_the_sampling() -> None:
    config = GRPOConfig(max_new_tokens=300, temperature=0.7, loss=GRPOLossConfig("dr_grpo"))
    shared = config.loss_in_force
    assert (shared.max_completion_length, shared.temperature) == (300, 0.7)
    # A copy with another limit follows that one.
    assert replace(config, max_new_tokens=20).loss_in_force.max_completion_length == 20
    same = GRPOLossConfig("dr_grpo", max_completion_length=300, temperature=0.7)
    overlong = RewardSpec("overlong", options={"max_length": 300})
    repeated = replace(config, loss=same, rewards=[overlong])
    assert repeated.loss_in_force == shared


@pytest.mark.parametrize(("steps", "batch_size", "refused"), [(4, 4, False), (4, 2, True)])
def test_a_batch_has_a_prompt_for_every_step(steps: int, batch_size: int, refused: bool) -> None:
    config = GRPOConfig(steps_per_generation=steps)
    if not refused:
        check_batch_size(config, batch_size)
        return
    with pytest.raises(UsageError, match=r"steps_per_generation 4 .* data\.loader\.batch_size"):
        check_batch_size(config, batch_size)


def late(**schedule: Any) -> GRPOConfig:
    rewards = [RewardSpec("accuracy"), RewardSpec("format", schedule=RewardSchedule(**schedule))]
    return GRPOConfig(rewards=rewards, steps_per_generation=2)


def test_settings_that_never_act_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    usual = {"epsilon": 0.1, "delta": 3.0, "off_policy_mask_threshold": 0.5}
    loss = GRPOLossConfig(**usual)  # type: ignore[arg-type]
    assert idle_loss_options(GRPOConfig(loss=loss)) == list(usual)
    for more in ({"num_iterations": 2}, {"steps_per_generation": 2}):
        assert idle_loss_options(GRPOConfig(loss=loss, **more)) == []  # type: ignore[arg-type]
    capped = GRPOLossConfig("cispo", epsilon_high=0.5)
    assert idle_loss_options(GRPOConfig(loss=capped)) == []
    assert idle_loss_options(GRPOConfig(loss=replace(capped, epsilon_high=5.0))) == ["epsilon_high"]
    assert idle_loss_options(GRPOConfig()) == []
    # Rollouts begin at steps 0, 2, ..., 8 of 10; at its first step a ramp is at 0.
    gate = RewardGate("accuracy", 0.5)
    for schedule, is_idle in (
        ({"start_step": 8}, False), ({"start_step": 9}, True), ({"ramp_steps": 9}, False),
        ({"start_step": 8, "ramp_steps": 1}, True), ({"start_step": 7, "ramp_steps": 9}, False),
        ({"gate": gate}, False), ({"gate": gate, "start_step": 9}, True),
    ):  # fmt: skip
        assert idle_rewards(late(**schedule), 10) == [1] * is_idle, schedule
        assert idle_rewards(late(**schedule), -1) == []
    assert idle_rewards(late(gate=gate), 2) == [1]
    warn_of_idle_settings(GRPOConfig(loss=loss), 10)
    warn_of_idle_settings(late(start_step=20), 10)
    told, late_reward = (record.getMessage() for record in caplog.records)
    assert "epsilon 0.1, grpo.loss.delta 3.0, grpo.loss.off_policy_mask_threshold 0.5: with" in told
    assert late_reward.startswith("grpo.rewards[1]: format never weighs")


LOG2 = 0.6931471805599453


@pytest.mark.parametrize(
    ("correction", "wanted"),
    [
        ("token_truncate", [[2.0, 3.0, 1.0], [0.5, 1.0, 1.0]]),
        ("token_mask", [[2.0, 0.0, 1.0], [0.5, 1.0, 1.0]]),
        ("sequence_truncate", [[3.0], [0.5]]),  # 2 x 4 = 8 is cut at 3
        ("sequence_mask", [[0.0], [0.5]]),
    ],
)
def test_importance_weights_by_hand(correction: str, wanted: list[list[float]]) -> None:
    sampler = torch.zeros(2, 3)
    trainer = torch.tensor([[LOG2, 2 * LOG2, 0.0], [-LOG2, 0.0, float("nan")]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    found = importance_weights(trainer, sampler, mask, correction, cap=3.0)
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_no_importance_correction() -> None:
    ones = torch.ones(1, 1)
    assert importance_weights(ones, ones, ones.bool(), "none", 3.0) is None


@pytest.mark.parametrize(
    ("every", "max_steps", "interval"),
    [(20, 250, 20), (20, 10_000, 20), (20, 10_001, 21), (1, 100_000, 200), (0, 10_000, 0)],
)
def test_samples_of_completions_stay_few(every: int, max_steps: int, interval: int) -> None:
    config = GRPOConfig(log_completions_every=every)
    assert config.completions_interval(max_steps) == interval
    if interval:
        assert len(range(0, max_steps, interval)) <= config.max_completion_logs
