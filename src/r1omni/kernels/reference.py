"""What every operator computes, in plain torch, with no thought of memory: the definition.

Tests hold the operators and the Triton kernels against these in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

# exp(20) is 4.9e8: far beyond a ratio or a penalty that says anything, yet its square, which a
# gradient norm takes, stays finite in float32. exp overflows at 88.7, its square at half of that.
MAX_LOG_DIFFERENCE = 20.0


def selective_logprob(logits: Tensor, token_ids: Tensor, temperature: float = 1.0) -> Tensor:
    """log softmax(logits / temperature)[token_ids]: [..., V], [...] -> [...]."""
    logps = (logits / temperature).log_softmax(dim=-1)
    return logps.gather(-1, token_ids[..., None]).squeeze(-1)


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy in nats of softmax(logits / temperature): [..., V] -> [...]."""
    return torch.special.entr((logits / temperature).softmax(dim=-1)).sum(dim=-1)


def grpo_terms(
    logps: Tensor,
    advantages: Tensor,
    weights: Tensor,
    old_logps: Tensor | None,
    ref_logps: Tensor | None,
    epsilon: float,
    epsilon_high: float,
    beta: float,
) -> Tensor:
    """w (-min(r A, clip(r) A) + beta k3) of each token [T]; 0 where the weight is 0."""
    old = logps.detach() if old_logps is None else old_logps
    ratio = (logps - old).clamp(-MAX_LOG_DIFFERENCE, MAX_LOG_DIFFERENCE).exp()
    clipped = ratio.clamp(1 - epsilon, 1 + epsilon_high)
    terms = -torch.minimum(ratio * advantages, clipped * advantages)
    if beta != 0 and ref_logps is not None:
        difference = (ref_logps - logps).clamp(max=MAX_LOG_DIFFERENCE)
        terms = terms + beta * (difference.expm1() - difference)
    return torch.where(weights == 0, 0.0, weights * terms)


def grpo_slopes(
    logps: Tensor,
    advantages: Tensor,
    weights: Tensor,
    old_logps: Tensor | None,
    ref_logps: Tensor | None,
    epsilon: float,
    epsilon_high: float,
    beta: float,
) -> Tensor:
    """The derivative of `grpo_terms` in `logps`: inside an operator autograd does not work.

    -r A where the ratio is free, 0 where the clip or the bound of the log ratio holds it; and
    beta (1 - exp d) below the bound of d.
    """
    difference = torch.zeros_like(logps) if old_logps is None else logps - old_logps
    ratio = difference.clamp(-MAX_LOG_DIFFERENCE, MAX_LOG_DIFFERENCE).exp()
    free, held = ratio * advantages, ratio.clamp(1 - epsilon, 1 + epsilon_high) * advantages
    flat = (free > held) | (difference.abs() > MAX_LOG_DIFFERENCE)
    slopes = torch.where(flat, 0.0, -free)
    if beta != 0 and ref_logps is not None:
        away = ref_logps - logps
        pull = -beta * away.clamp(max=MAX_LOG_DIFFERENCE).expm1()
        slopes = slopes + torch.where(away > MAX_LOG_DIFFERENCE, 0.0, pull)
    return torch.where(weights == 0, 0.0, weights * slopes)


def grpo_loss(
    logits: Tensor,
    token_ids: Tensor,
    advantages: Tensor,
    weights: Tensor,
    old_logps: Tensor | None = None,
    ref_logps: Tensor | None = None,
    *,
    temperature: float = 1.0,
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    beta: float = 0.0,
) -> Tensor:
    """Sum of `grpo_terms` over the tokens of logits [T, V]: 0-dimensional."""
    kept = weights != 0
    logps = torch.zeros_like(weights, dtype=logits.dtype)
    logps = logps.masked_scatter(
        kept, selective_logprob(logits[kept], token_ids[kept], temperature)
    )
    high = epsilon if epsilon_high is None else epsilon_high
    return grpo_terms(logps, advantages, weights, old_logps, ref_logps, epsilon, high, beta).sum()
