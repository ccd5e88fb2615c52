"""Log-probabilities of chosen tokens, and entropies, by the kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from r1omni import kernels
from r1omni.ops.errors import usage_errors


def selective_logprob(logits: Tensor, token_ids: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probability of one token a row; see `r1omni.kernels.selective_logprob`.

    Raises:
        UsageError: shapes that do not fit, an id that does not exist, or a temperature that is not
            above 0.
    """
    with usage_errors():
        return kernels.selective_logprob(logits, token_ids, temperature)


def selective_logprob_and_entropy(
    logits: Tensor, token_ids: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """`selective_logprob`, and the entropies of the same distributions in nats, in one pass.

    Raises:
        UsageError: as `selective_logprob`.
    """
    with usage_errors():
        return kernels.selective_logprob_and_entropy(logits, token_ids, temperature)


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy in nats of softmax(logits / temperature), float [..., V] to [...].

    Raises:
        UsageError: a temperature that is not above 0.
    """
    ids = torch.zeros(logits.shape[:-1], dtype=torch.long, device=logits.device)
    return selective_logprob_and_entropy(logits, ids, temperature)[1]


def linear_logprob(
    hidden: Tensor, weight: Tensor, token_ids: Tensor, temperature: float = 1.0
) -> Tensor:
    """`selective_logprob` of hidden @ weight.T; see `r1omni.kernels.linear_logprob`.

    Raises:
        UsageError: as `selective_logprob`.
    """
    with usage_errors():
        return kernels.linear_logprob(hidden, weight, token_ids, temperature)
