"""Counts that a step's losses are divided by, worked out by hand."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import pytest
import torch

from r1omni.ops import GRPOLossConfig
from r1omni.ops.loss_config import LossType
from r1omni.ops.step_totals import StepTotals, entropy_threshold
from r1omni.types import UsageError


def test_shares_of_a_part() -> None:
    totals = StepTotals(completions=12, tokens=20, batch_tokens=40, entropy_tokens=4, world_size=2)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]).bool()
    assert totals.share_of_tokens(mask) == 5 / 10
    assert totals.share_of_completions(mask) == 3 / 6
    with pytest.raises(FrozenInstanceError):
        totals.tokens = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("loss_type", "divisor"),
    [("grpo", 6), ("bnpo", 10), ("dr_grpo", 42), ("dapo", 20), ("cispo", 20), ("sapo", 6),
     ("luspo", 6), ("gmpo", 6), ("vespo", 20)],
)  # fmt: skip
def test_what_each_loss_divides_by(loss_type: LossType, divisor: float) -> None:
    """A rank's share of a count of the step; dr_grpo's are completions of the longest length."""
    config = GRPOLossConfig(loss_type=loss_type, max_completion_length=7)
    totals = StepTotals(completions=12, tokens=20, batch_tokens=40, entropy_tokens=4, world_size=2)
    assert totals.divisor(config) == divisor
    assert totals.entropy_divisor == 2
    alone = StepTotals(completions=12, tokens=20, batch_tokens=40, entropy_tokens=4)
    assert alone.divisor(config) == 2 * divisor
    odd = StepTotals(3, 3, 3, entropy_tokens=5, world_size=2)  # a share may be half a token
    assert odd.divisor(config) == (10.5 if loss_type == "dr_grpo" else 1.5)
    assert odd.entropy_divisor == 2.5
    for count in (0, 1, torch.tensor(0), torch.tensor(1)):  # 0 is taken as 1
        few = StepTotals(1.0 if count else 0.0, count, count, count)
        assert few.divisor(config) == (7 if loss_type == "dr_grpo" else 1)
        assert few.entropy_divisor == 1


def test_a_call_stands_for_all_of_its_step() -> None:
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]).bool()
    entropy_mask = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]).bool()
    config = GRPOLossConfig(loss_type="dapo")
    totals = StepTotals.of_call(
        mask, entropy_mask, 70, config, world_size=2, grad_accumulation=4, steps_per_generation=8
    )
    assert totals == StepTotals(24, torch.tensor(40), 35.0, torch.tensor(16), 2)
    alone = {"world_size": 1, "grad_accumulation": 1, "steps_per_generation": 1}
    assert StepTotals.of_call(mask, mask, None, config, **alone).batch_tokens == 5
    for several in ({"grad_accumulation": 2}, dict.fromkeys(alone, 2)):
        with pytest.raises(UsageError, match=r"dapo over several ranks .* needs num_batch_tokens"):
            StepTotals.of_call(mask, mask, None, config, **{**alone, **several})
    for name in alone:
        with pytest.raises(UsageError, match=f"{name} is 0; it must be at least 1"):
            StepTotals.of_call(mask, mask, 70, config, **{**alone, name: 0})
    with pytest.raises(TypeError):  # three counts in a row would be easy to take for each other
        StepTotals.of_call(mask, mask, 70, config, 2, 4, 8)  # type: ignore[misc]


def test_batch_tokens_may_be_a_fraction() -> None:
    mask = torch.ones(2, 3).bool()
    totals = StepTotals.of_call(
        mask, mask, 7, GRPOLossConfig(loss_type="dapo"),
        world_size=1, grad_accumulation=1, steps_per_generation=2,
    )  # fmt: skip
    assert totals.batch_tokens == 3.5


def test_entropy_threshold() -> None:
    entropies = torch.tensor([4.0, 0.0, 1.0, 3.0])
    assert entropy_threshold(entropies, 1.0) == 0.0
    assert entropy_threshold(entropies, 0.5) == 2.0  # halfway from the second to the third
    assert entropy_threshold(entropies, 1e-9) == 4.0  # rounds to the last, which has no successor
    assert entropy_threshold(entropies, 0.75) == 0.75  # between the first two
    assert entropy_threshold(torch.empty(0), 0.5) == math.inf
    # (1 - 0.9) x 10 is a little short of 1 in floating point.
    assert entropy_threshold(torch.arange(11.0), 0.9) == 1.0
