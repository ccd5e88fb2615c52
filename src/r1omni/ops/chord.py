"""CHORD: imitating given answers while learning from one's own (arXiv 2508.11408).

    loss = (1 - mu) L_GRPO + mu L_SFT
    L_SFT = 1 / T * sum over target tokens t of -phi_t log p_t

T are the target tokens of the optimizer step, over all micro-batches and ranks. phi_t is 1, or
sg(p_t (1 - p_t)) for CHORD-phi (sg stops the gradient, as in the authors' code): what the policy is
sure of, and what it would never say, weighs little. mu follows the optimizer steps.

L_GRPO is all of the loss otherwise: KL, entropy bonus and the masked-modality term among it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from r1omni.options import SHARE, Conditions, OnlyWith, Ranges, at_least, check_options
from r1omni.types import UsageError

_WITH_A_PEAK = OnlyWith("mu_peak", "above 0", lambda c: c.mu_peak > 0)


@dataclass(frozen=True)
class Chord:
    """How much a training by GRPO imitates the targets of `data.expert`.

    Attributes:
        mu_peak: largest share of the supervised loss; 0 computes nothing of it.
        mu_valley: share that it falls to.
        mu_warmup_steps: optimizer steps over which the share rises linearly from 0 to its peak.
        mu_decay_steps: optimizer steps after them over which it falls by half a cosine; 0 stays at
            the peak.
        phi: weigh each target token by p (1 - p), p its probability under the policy (CHORD-phi);
            otherwise all weigh the same (CHORD-mu).
        num_samples: samples that an optimizer step imitates, over all ranks; a multiple of their
            number.

    Raises:
        UsageError: a number out of range, an option that has no effect, or a valley above the peak.
    """

    mu_peak: float = 0.0
    mu_valley: float = 0.0
    mu_warmup_steps: int = 0
    mu_decay_steps: int = 0
    phi: bool = True
    num_samples: int = 8

    RANGES: ClassVar[Ranges] = {
        "mu_peak": SHARE,
        "mu_valley": SHARE,
        "mu_warmup_steps": at_least(0),
        "mu_decay_steps": at_least(0),
        "num_samples": at_least(1),
    }
    ONLY_WITH: ClassVar[Conditions] = {
        "mu_valley": OnlyWith("mu_decay_steps", "above 0", lambda c: c.mu_decay_steps > 0),
        "mu_warmup_steps": _WITH_A_PEAK,
        "mu_decay_steps": _WITH_A_PEAK,
        "phi": _WITH_A_PEAK,
        "num_samples": _WITH_A_PEAK,
    }

    def __post_init__(self) -> None:
        check_options(self, "grpo.chord.")
        if self.mu_valley > self.mu_peak:
            raise UsageError(
                f"grpo.chord.mu_valley {self.mu_valley} is above mu_peak {self.mu_peak}; a valley "
                "lies below: lower it"
            )

    def mu(self, step: int) -> float:
        """The share of the supervised loss at an optimizer step, counted from 0."""
        if step < self.mu_warmup_steps:
            return self.mu_peak * step / self.mu_warmup_steps
        if not self.mu_decay_steps:
            return self.mu_peak
        progress = min(1.0, (step - self.mu_warmup_steps) / self.mu_decay_steps)
        left = 0.5 * (1 + math.cos(math.pi * progress))
        return self.mu_valley + (self.mu_peak - self.mu_valley) * left


def imitation_loss(logps: Tensor, mask: Tensor, num_tokens: float, phi: bool) -> Tensor:
    """What a part of a step adds to L_SFT.

    Args:
        logps: float [N, C], log-probabilities of the target tokens under the policy.
        mask: bool [N, C]; what stands elsewhere, NaN included, has no effect.
        num_tokens: target tokens of the step, of a rank on average.
        phi: see the module.

    Returns:
        0-dimensional, differentiable in `logps`.
    """
    kept = logps.masked_fill(~mask, 0.0)
    if phi:
        p = kept.detach().exp()
        kept = kept * (p * (1 - p))
    return -kept.sum() / num_tokens
