"""The losses that are one term a token, computed where the logits are never held as a whole.

With a ratio a token, the loss of a part of a step is the sum of w (-min(r A, clip(r) A) + beta k3)
over its tokens: what `r1omni.kernels.linear_grpo_loss` computes from hidden states and head,
gradient included. `losses.py` defines every loss, and has the metrics of these too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from r1omni import kernels
from r1omni.ops.aggregation import token_weights
from r1omni.ops.errors import usage_errors
from r1omni.ops.loss_config import CLIPPING_LOSSES, GRPOLossConfig
from r1omni.ops.step_totals import StepTotals
from r1omni.types import UsageError


def not_fused_for(config: GRPOLossConfig) -> str | None:
    """The option that makes a loss more than a term a token, or None: the operator computes it."""
    more = {
        "loss_type": config.loss_type not in CLIPPING_LOSSES,
        "importance_sampling_level": config.importance_sampling_level != "token",
        "delta": config.delta is not None,
        "dual_clip": config.dual_clip is not None,
        "entropy_coef": config.entropy_coef != 0,
        "off_policy_mask_threshold": config.off_policy_mask_threshold is not None,
        "kl_estimator": config.beta != 0 and config.kl_estimator != "k3",
        "use_bias_correction_kl": config.beta != 0 and config.use_bias_correction_kl,
    }
    return next((name for name, is_more in more.items() if is_more), None)


@dataclass(frozen=True)
class TokenObjective:
    """What the loss of a part of a step asks of each token of its N completions.

    Attributes:
        advantages: float [N, C], importance weight and choice by entropy multiplied in: they
            scale the policy term and leave the KL alone.
        weights: float [N, C], mask and normaliser; where it is 0 nothing is read.
        old_logps: float [N, C] under the policy that sampled, or None for a ratio of 1.
        ref_logps: float [N, C] under the reference, or None.
        config: which loss.
    """

    advantages: Tensor
    weights: Tensor
    old_logps: Tensor | None
    ref_logps: Tensor | None
    config: GRPOLossConfig

    @classmethod
    def of_part(
        cls,
        advantages: Tensor,
        mask: Tensor,
        *,
        old_logps: Tensor | None,
        ref_logps: Tensor | None,
        importance_weights: Tensor | None,
        entropy_mask: Tensor | None,
        config: GRPOLossConfig,
        totals: StepTotals,
    ) -> TokenObjective:
        """Arguments as for `part_loss`.

        Raises:
            UsageError: the loss has more than a term a token.
        """
        option = not_fused_for(config)
        if option is not None:
            raise UsageError(
                f"{option} {getattr(config, option)} is none of the fused loss's; compute it from "
                "log-probabilities"
            )
        keep = mask.bool()
        own = advantages.detach()[:, None].expand(mask.shape)
        if importance_weights is not None:
            own = own * importance_weights
        if entropy_mask is not None:
            own = torch.where(entropy_mask, own, 0.0)
        weights = token_weights(keep.to(own.dtype), config, totals)
        return cls(own, weights, old_logps, ref_logps, config)

    def loss(
        self,
        hidden: Tensor,
        head: Tensor,
        token_ids: Tensor,
        mask: Tensor,
        *,
        with_entropy: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The loss from the hidden states that predict the tokens.

        Its gradients are computed with it and handed on without a copy, so it can be
        differentiated once.

        Args:
            hidden: float [T, D], for the T tokens where `mask` is True, row by row.
            head: float [V, D].
            token_ids: long [T].
            mask: bool [N, C].
            with_entropy: whether entropies are wanted.

        Returns:
            The loss, 0-dimensional and differentiable in `hidden` and `head`; float32 [N, C]
            log-probabilities, and entropies in nats or None, without a gradient and 0 where the
            weight is 0.

        Raises:
            UsageError: shapes that do not fit.
        """
        config = self.config
        old, ref = (None if t is None else t[mask] for t in (self.old_logps, self.ref_logps))
        compute = kernels.linear_grpo_loss_and_entropy if with_entropy else kernels.linear_grpo_loss
        with usage_errors():
            loss, *found = compute(
                hidden, head, token_ids, self.advantages[mask], self.weights[mask], old, ref,
                temperature=config.temperature, epsilon=config.epsilon,
                epsilon_high=config.upper_epsilon, beta=config.beta, inplace_grad=True,
            )  # fmt: skip
        blank = torch.zeros(mask.shape, dtype=found[0].dtype, device=mask.device)
        logps, *entropies = (blank.masked_scatter(mask, values) for values in found)
        return loss, logps, entropies[0] if entropies else None
