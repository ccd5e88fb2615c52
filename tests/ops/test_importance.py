"""Weights that correct for a sampler, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from r1omni.ops.importance import check_importance_correction, importance_weights
from r1omni.types import UsageError

# Ratios of the trainer's probability to the sampler's; their products are 3, and 0.5 where the
# second token does not count.
RATIOS = torch.tensor([[2.0, 1.5], [0.5, 8.0]])
MASK = torch.tensor([[True, True], [True, False]])


def weights(correction: str, cap: float) -> list[list[float]]:
    sampler = torch.tensor([[-1.0, -2.0], [-3.0, -0.5]])
    trainer = (sampler + RATIOS.log()).requires_grad_()
    found = importance_weights(trainer, sampler, MASK, correction, cap)
    assert found is not None
    assert (found.dtype, found.requires_grad) == (torch.float32, False)
    return [[round(float(value), 4) for value in row] for row in found]


def test_each_correction() -> None:
    assert weights("token_truncate", 1.75) == [[1.75, 1.5], [0.5, 1.0]]
    assert weights("token_mask", 1.75) == [[0.0, 1.5], [0.5, 1.0]]
    assert weights("sequence_truncate", 2.5) == [[2.5], [0.5]]
    assert weights("sequence_mask", 2.5) == [[0.0], [0.5]]
    assert weights("sequence_mask", 4.0) == [[3.0], [0.5]]


def test_a_weight_at_the_cap_is_kept() -> None:
    equal = torch.zeros(1, 2)
    found = importance_weights(equal, equal, torch.ones(1, 2, dtype=torch.bool), "token_mask", 1.0)
    assert found is not None and found.tolist() == [[1.0, 1.0]]


def test_none_has_no_weights() -> None:
    assert importance_weights(RATIOS, RATIOS, MASK, "none", 2.0) is None


def test_a_huge_difference_stays_finite() -> None:
    """Log-probabilities differ by at most 20 either way before the exponential."""
    trainer, sampler = torch.tensor([[0.0, -500.0]]), torch.tensor([[-500.0, 0.0]])
    everywhere = torch.ones(1, 2, dtype=torch.bool)
    found = importance_weights(trainer, sampler, everywhere, "token_truncate", 1e30)
    assert found is not None
    assert found[0].tolist() == pytest.approx([math.exp(20), math.exp(-20)], rel=1e-5)


@pytest.mark.parametrize("cap", [0.0, -1.0, math.nan])
def test_a_cap_has_to_be_above_zero(cap: float) -> None:
    with pytest.raises(UsageError, match="importance_cap"):
        check_importance_correction("token_mask", cap)
    check_importance_correction("token_mask", 0.5)


def test_an_unknown_correction() -> None:
    with pytest.raises(UsageError, match="'tokens' is unknown; use one of none, token_truncate"):
        check_importance_correction("tokens", 2.0)
