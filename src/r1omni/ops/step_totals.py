"""What the losses of a step's parts are divided by: counted once, over all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from r1omni.ops.loss_config import GRPOLossConfig
from r1omni.types import UsageError


@dataclass(frozen=True)
class StepTotals:
    """The counts of an optimizer step, over all its micro-batches and all ranks.

    With them the losses of the parts of a step add up on a rank, and their mean over the ranks,
    which is what data parallel training takes of gradients, is the loss of the step: it does not
    depend on how the step is divided. A count may be 0; it is taken as 1.

    Attributes:
        completions: completions.
        tokens: tokens that are learned from.
        batch_tokens: the same of the rollout that the step belongs to, over the optimizer steps
            of one pass over it; dapo and cispo divide by it.
        entropy_tokens: tokens that carry the entropy bonus.
        world_size: ranks.
        evidence_tokens: tokens that describe a medium, once for each medium that they describe, of
            completions with a positive advantage; the masked-modality term divides by it.
    """

    completions: float
    tokens: Tensor | float
    batch_tokens: Tensor | float
    entropy_tokens: Tensor | float
    world_size: int = 1
    evidence_tokens: Tensor | float = 0.0

    @classmethod
    def of_call(
        cls,
        mask: Tensor,
        entropy_mask: Tensor,
        num_batch_tokens: Tensor | int | None,
        config: GRPOLossConfig,
        *,
        world_size: int,
        grad_accumulation: int,
        steps_per_generation: int,
    ) -> StepTotals:
        """The counts that TRL divides by: each micro-batch stands for all of its step.

        Args:
            mask: [N, C], the tokens of the micro-batch that are learned from.
            entropy_mask: [N, C], those that carry the entropy bonus.
            num_batch_tokens, world_size, grad_accumulation, steps_per_generation: see `grpo_loss`.
            config: the loss.

        Raises:
            UsageError: a count below 1, or `num_batch_tokens` is missing where it cannot be known.
        """
        counts = {
            "world_size": world_size,
            "grad_accumulation": grad_accumulation,
            "steps_per_generation": steps_per_generation,
        }
        for name, count in counts.items():
            if count < 1:
                raise UsageError(f"{name} is {count}; it must be at least 1")
        if num_batch_tokens is None:
            if config.normalizes_over_batch_tokens and set(counts.values()) != {1}:
                raise UsageError(
                    f"{config.loss_type} over several ranks or micro-batches needs "
                    "num_batch_tokens, the completion tokens of the whole generation batch"
                )
            num_batch_tokens = mask.sum()
        parts = grad_accumulation * world_size
        return cls(
            completions=mask.shape[0] * parts,
            tokens=_at_least_1(mask.sum()) * parts,
            batch_tokens=num_batch_tokens * grad_accumulation / steps_per_generation,
            entropy_tokens=_at_least_1(entropy_mask.sum()) * parts,
            world_size=world_size,
        )

    def divisor(self, config: GRPOLossConfig) -> Tensor | float:
        """What a rank's sum over its part is divided by.

        Raises:
            UsageError: dr_grpo without `max_completion_length`.
        """
        if config.normalizes_over_batch_tokens:
            return self._of_a_rank(self.batch_tokens)
        if config.loss_type == "bnpo":
            return self._of_a_rank(self.tokens)
        if config.loss_type != "dr_grpo":
            return self._of_a_rank(self.completions)
        if config.max_completion_length is None:
            raise UsageError("loss_type dr_grpo divides by max_completion_length; set it")
        return self._of_a_rank(self.completions) * config.max_completion_length

    @property
    def entropy_divisor(self) -> Tensor | float:
        """The same for the sum of entropies in the bonus."""
        return self._of_a_rank(self.entropy_tokens)

    @property
    def evidence_divisor(self) -> Tensor | float:
        """The same for the masked-modality term."""
        return self._of_a_rank(self.evidence_tokens)

    def share_of_tokens(self, mask: Tensor) -> float:
        """The weight of a part's mean over tokens in the mean over the step's; mask [N, C]."""
        return float(mask.sum() / self._of_a_rank(self.tokens))

    def share_of_completions(self, mask: Tensor) -> float:
        """The weight of a part's mean over completions in that over the step's; mask [N, C]."""
        return float(mask.shape[0] / self._of_a_rank(self.completions))

    def _of_a_rank(self, count: Tensor | float) -> Tensor | float:
        return _at_least_1(count) / self.world_size


def entropy_threshold(entropies: Tensor, top_quantile: float) -> float:
    """The entropy that the share `top_quantile` of tokens, those with the highest, reach.

    Args:
        entropies: float [tokens], of all tokens of a step.
        top_quantile: above 0, at most 1.

    Returns:
        Between two entropies, a point on the straight line between them, as `torch.quantile` does.
        Infinity for no tokens.
    """
    if not len(entropies):
        return math.inf
    ordered = entropies.detach().double().sort().values
    # Rounded: (1 - 0.9) x 10 should be the first token, not something just short of it.
    place = round((1 - top_quantile) * (len(ordered) - 1), 6)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return float(torch.lerp(ordered[below], ordered[above], place - below))


def _at_least_1(count: Tensor | float) -> Tensor | float:
    return count.clamp(min=1) if isinstance(count, Tensor) else max(count, 1.0)
