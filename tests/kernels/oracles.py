"""What the kernels should compute, in float64 and with autograd: slow, plain, and their own."""

from __future__ import annotations

import torch
from torch import Tensor


def chosen_and_entropy(logits: Tensor, ids: Tensor, temperature: float) -> tuple[Tensor, ...]:
    """log p[ids], log-sum-exp and entropy of softmax(logits / temperature), each float64 [T]."""
    scaled = logits.double() / temperature
    logps = scaled.log_softmax(-1)
    entropy = torch.special.entr(logps.exp()).sum(-1)
    return logps.gather(1, ids[:, None]).squeeze(1), scaled.logsumexp(-1), entropy


def row_gradient(
    logits: Tensor,
    ids: Tensor,
    temperature: float,
    grad_logps: Tensor | None,
    grad_entropy: Tensor | None,
) -> Tensor:
    """float64 [T, V]: gradient of sum(grad_logps log p[ids]) + sum(grad_entropy H)."""
    leaf = logits.detach().double().requires_grad_()
    logps = (leaf / temperature).log_softmax(-1)
    # Not entr: its derivative is infinite where p is 0. A token ruled out has no part in H.
    parts = logps.exp() * logps.masked_fill(logps.isneginf(), 0.0)
    total = leaf.new_zeros(())
    if grad_logps is not None:
        total = total + (logps.gather(1, ids[:, None]).squeeze(1) * grad_logps.double()).sum()
    if grad_entropy is not None:
        total = total - (parts.sum(-1) * grad_entropy.double()).sum()
    total.backward()
    assert leaf.grad is not None
    return leaf.grad


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
    """float64 [T]: weighted terms of the objective; log-probabilities may need a gradient."""
    old = logps.detach() if old_logps is None else old_logps.double()
    ratio = (logps - old).clamp(-20, 20).exp()
    clipped = ratio.clamp(1 - epsilon, 1 + epsilon_high)
    terms = -torch.minimum(ratio * advantages.double(), clipped * advantages.double())
    if ref_logps is not None and beta != 0:
        difference = (ref_logps.double() - logps).clamp(max=20)
        terms = terms + beta * (difference.expm1() - difference)
    return weights.double() * terms
