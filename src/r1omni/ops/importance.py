"""Correcting for a sampler whose probabilities are not quite those of the trainer."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from r1omni.ops.kl import MAX_LOG_DIFFERENCE
from r1omni.types import UsageError

ImportanceCorrection = Literal[
    "none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"
]


def check_importance_correction(correction: str, cap: float) -> None:
    """Check the names and numbers of `importance_weights`.

    Raises:
        UsageError: an unknown correction, or a cap that is not above 0.
    """
    if correction not in get_args(ImportanceCorrection):
        raise UsageError(
            f"importance_correction {correction!r} is unknown; use one of "
            f"{', '.join(get_args(ImportanceCorrection))}"
        )
    if not cap > 0:
        raise UsageError(f"importance_cap is {cap}; it must be above 0")


def importance_weights(
    trainer_logps: Tensor, sampler_logps: Tensor, mask: Tensor, correction: str, cap: float
) -> Tensor | None:
    """Factors on the policy terms: probability under the trainer over that under the sampler.

    Without them the samples of a faster or less precise sampler make a biased gradient
    (truncated importance sampling, Ionides 2008). "truncate" cuts a weight at the cap, "mask"
    drops what lies above it. A sequence's weight is the product over its tokens.

    Args:
        trainer_logps: float [N, C] under the policy that sampled, computed as for the loss.
        sampler_logps: float [N, C] recorded while sampling.
        mask: bool [N, C].
        correction: an `ImportanceCorrection`.
        cap: largest weight.

    Returns:
        float32 [N, C] or [N, 1], without gradient; None for "none".
    """
    check_importance_correction(correction, cap)
    if correction == "none":
        return None
    difference = torch.where(mask, trainer_logps.detach() - sampler_logps, 0.0).float()
    if correction.startswith("sequence"):
        difference = difference.sum(dim=1, keepdim=True)
    weights = difference.clamp(-MAX_LOG_DIFFERENCE, MAX_LOG_DIFFERENCE).exp()
    if correction.endswith("truncate"):
        return weights.clamp(max=cap)
    return torch.where(weights > cap, 0.0, weights)
