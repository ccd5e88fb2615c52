"""From the terms of tokens to one number."""

from __future__ import annotations

from torch import Tensor

from r1omni.ops.loss_config import GRPOLossConfig
from r1omni.ops.step_totals import StepTotals


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` [N, C] where `mask` is 1; 0 if it is nowhere."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def reduce_terms(terms: Tensor, mask: Tensor, config: GRPOLossConfig, totals: StepTotals) -> Tensor:
    """What a part with the terms [N, C] adds to the loss of its step."""
    sums = (terms * mask).sum(dim=1)
    if config.normalizes_by_length:
        sums = sums / mask.sum(dim=1).clamp(min=1)
    return sums.sum() / totals.divisor(config)


def token_weights(mask: Tensor, config: GRPOLossConfig, totals: StepTotals) -> Tensor:
    """What each token's term counts in `reduce_terms`, float [N, C]; `mask` is float [N, C]."""
    weights = mask / totals.divisor(config)
    if config.normalizes_by_length:
        weights = weights / mask.sum(dim=1, keepdim=True).clamp(min=1)
    return weights
