"""From the terms of tokens to one number: what each loss of the family divides by."""

from __future__ import annotations

from torch import Tensor

from r1omni.ops.loss_config import GRPOLossConfig
from r1omni.types import UsageError


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` [N, C] where `mask` is 1; 0 if it is nowhere."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def normalizer_tokens(
    num_batch_tokens: Tensor | int | None,
    mask: Tensor,
    config: GRPOLossConfig,
    world_size: int,
    grad_accumulation: int,
    steps_per_generation: int,
) -> Tensor | float:
    """What dapo and cispo divide the sum over tokens by; at least 1."""
    for name, count in {
        "world_size": world_size,
        "grad_accumulation": grad_accumulation,
        "steps_per_generation": steps_per_generation,
    }.items():
        if count < 1:
            raise UsageError(f"{name} is {count}; it must be at least 1")
    if not config.normalizes_over_batch_tokens:
        return 1.0
    if num_batch_tokens is None:
        if (world_size, grad_accumulation, steps_per_generation) != (1, 1, 1):
            raise UsageError(
                f"{config.loss_type} over several ranks or micro-batches needs num_batch_tokens, "
                "the completion tokens of the whole generation batch"
            )
        num_batch_tokens = mask.sum()
    tokens = num_batch_tokens / world_size * grad_accumulation / steps_per_generation
    return tokens.clamp(min=1) if isinstance(tokens, Tensor) else max(tokens, 1.0)


def reduce_terms(
    terms: Tensor,
    mask: Tensor,
    config: GRPOLossConfig,
    batch_tokens: Tensor | float,
    grad_accumulation: int,
) -> Tensor:
    """One number of the terms [N, C] of a micro-batch."""
    sums = (terms * mask).sum(dim=1)
    if config.normalizes_over_batch_tokens:
        return sums.sum() / batch_tokens
    if config.loss_type in ("grpo", "sapo"):
        loss = (sums / mask.sum(dim=1).clamp(min=1)).mean()
    elif config.loss_type == "bnpo":
        loss = sums.sum() / mask.sum().clamp(min=1)
    elif config.loss_type == "dr_grpo":
        assert config.max_completion_length is not None  # checked by the configuration
        loss = sums.sum() / (mask.shape[0] * config.max_completion_length)
    else:
        loss = sums.mean()  # luspo
    return loss / grad_accumulation
