"""Counts that a step's losses are divided by, worked out by hand."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import pytest
import torch

from r1omni.ops import GRPOLossConfig
from r1omni.ops.step_totals import StepTotals, entropy_threshold


def test_shares_of_a_part() -> None:
    totals = StepTotals(completions=12, tokens=20, batch_tokens=40, entropy_tokens=4, world_size=2)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]).bool()
    assert totals.share_of_tokens(mask) == 5 / 10
    assert totals.share_of_completions(mask) == 3 / 6
    with pytest.raises(FrozenInstanceError):
        totals.tokens = 1  # type: ignore[misc]


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
    assert entropy_threshold(torch.empty(0), 0.5) == math.inf
