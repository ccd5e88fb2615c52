"""The policy losses of the GRPO family.

A loss is built in a fixed order: the policy term of each token (`policy_terms.py` has the
formulas), the off-policy mask, the entropy mask, importance weights, the KL term, aggregation to
one number, the entropy bonus, the term for the dependence on media (`masked_modality.py`). VESPO
has the importance weights in its kernel instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from r1omni.ops.aggregation import masked_mean, reduce_terms
from r1omni.ops.kl import MAX_LOG_DIFFERENCE, kl_divergence
from r1omni.ops.loss_config import GRPOLossConfig
from r1omni.ops.masked_modality import MaskedModality, masked_modality_term
from r1omni.ops.policy_terms import TokenBatch, log_ratios, on_policy, policy_terms
from r1omni.ops.step_totals import StepTotals, entropy_threshold
from r1omni.types import UsageError

__all__ = ["GRPOLoss", "GRPOLossConfig", "grpo_loss", "part_loss"]


@dataclass(frozen=True)
class GRPOLoss:
    """A loss and what it was made of.

    Attributes:
        loss: 0-dimensional, differentiable.
        metrics: 0-dimensional detached tensors under TRL's names, means over tokens.
        row_metrics: names of those that are means over completions instead.
        step_metrics: names of those that are shares of the step's, and add up over its parts.
    """

    loss: Tensor
    metrics: dict[str, Tensor]
    row_metrics: frozenset[str] = frozenset()
    step_metrics: frozenset[str] = frozenset()

    def scaled(self, share: float) -> GRPOLoss:
        """The loss times a share; what it was made of stays."""
        return self if share == 1 else replace(self, loss=share * self.loss)


def grpo_loss(
    logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    old_logps: Tensor | None = None,
    ref_logps: Tensor | None = None,
    entropies: Tensor | None = None,
    importance_weights: Tensor | None = None,
    config: GRPOLossConfig,
    num_batch_tokens: Tensor | int | None = None,
    world_size: int = 1,
    grad_accumulation: int = 1,
    steps_per_generation: int = 1,
) -> GRPOLoss:
    """The loss of a micro-batch of completions, as TRL computes it: from this micro-batch alone.

    The micro-batches of a step are taken to have as many completions and tokens each, and a
    quantile of entropies is that of the micro-batch. Where a step has several, `part_loss` with
    the counts of the whole step does not depend on how it is divided.

    Args:
        logps: float [N, C], log-probabilities of the sampled tokens under the policy.
        advantages: float [N].
        mask: bool or 0/1 [N, C]; what stands at masked positions, NaN included, has no effect.
        old_logps: float [N, C] under the policy that sampled; None for one update a rollout,
            where the ratio is 1 and only its gradient counts.
        ref_logps: float [N, C] under the reference; needed if beta is not 0, else the KL is
            only logged.
        entropies: float [N, C]; needed for the entropy mask and bonus, else only logged.
        importance_weights: float [N, C] or [N, 1], rollout-to-trainer correction, or None.
        config: which loss.
        num_batch_tokens: completion tokens of the whole generation batch over all ranks, for
            dapo and cispo; None if this micro-batch is all of it.
        world_size: ranks.
        grad_accumulation: micro-batches of an optimizer step.
        steps_per_generation: micro-batches of a generation batch.

    Raises:
        UsageError: shapes that do not fit, or a tensor or count the configuration needs is missing.
    """
    _check_inputs(logps, advantages, mask, old_logps, ref_logps, entropies, config)
    entropy_mask = mask.bool()
    if entropies is not None and config.top_entropy_quantile < 1:
        threshold = entropy_threshold(entropies[entropy_mask], config.top_entropy_quantile)
        entropy_mask = entropy_mask & (entropies.detach() >= threshold)
    totals = StepTotals.of_call(
        mask, entropy_mask, num_batch_tokens, config, world_size=world_size,
        grad_accumulation=grad_accumulation, steps_per_generation=steps_per_generation,
    )  # fmt: skip
    return part_loss(
        logps, advantages, mask, old_logps=old_logps, ref_logps=ref_logps, entropies=entropies,
        importance_weights=importance_weights, entropy_mask=entropy_mask,
        config=config, totals=totals,
    )  # fmt: skip


def part_loss(
    logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    old_logps: Tensor | None = None,
    ref_logps: Tensor | None = None,
    entropies: Tensor | None = None,
    importance_weights: Tensor | None = None,
    entropy_mask: Tensor | None = None,
    evidence: Tensor | None = None,
    masked_logps: Tensor | None = None,
    masked_modality: MaskedModality | None = None,
    config: GRPOLossConfig,
    totals: StepTotals,
) -> GRPOLoss:
    """What a part of an optimizer step adds to the step's loss.

    Args:
        logps, advantages, mask: as for `grpo_loss`, of N completions of the step.
        old_logps, ref_logps, entropies, importance_weights: likewise.
        entropy_mask: bool [N, C], the tokens that keep their policy term and carry the entropy
            bonus; None for all of `mask`. With `top_entropy_quantile` it is a choice among the
            tokens of the whole step, so it is made before the first part.
        evidence, masked_logps, masked_modality: of the term for the dependence on media, as for
            `masked_modality_term`; needed if it has a weight.
        config: which loss.
        totals: counts of the whole step.

    Raises:
        UsageError: shapes that do not fit, or a tensor the configuration needs is missing.
    """
    _check_inputs(logps, advantages, mask, old_logps, ref_logps, entropies, config)
    keep = mask.bool()
    batch = _clean_batch(logps, advantages, keep, old_logps, entropies, importance_weights)
    log_ratio = log_ratios(batch, config.importance_sampling_level)
    terms, metrics = policy_terms(batch, log_ratio, config)
    by_row = log_ratio.shape[1] == 1 or config.loss_type == "vespo"
    row_metrics = set(metrics) if by_row else set()

    if config.off_policy_mask_threshold is not None:
        kept = on_policy(batch, config.off_policy_mask_threshold)
        terms = terms * kept
        metrics["off_policy_masked_ratio"] = 1 - kept.mean()
        row_metrics.add("off_policy_masked_ratio")
    carrying = batch.mask if entropy_mask is None else (keep & entropy_mask).to(batch.mask.dtype)
    if entropy_mask is not None:
        terms = terms * carrying
    if importance_weights is not None and config.loss_type != "vespo":
        terms = terms * torch.where(keep, importance_weights, 0.0)
    if ref_logps is not None:
        kl, kl_metrics = _kl_terms(batch, _masked(ref_logps, keep), log_ratio, config)
        metrics.update(kl_metrics)
        if config.beta != 0:
            terms = terms + config.beta * kl

    loss = reduce_terms(terms.expand_as(batch.mask), batch.mask, config, totals)
    if batch.entropies is not None:
        metrics["entropy"] = masked_mean(batch.entropies.detach(), batch.mask)
        if config.entropy_coef != 0:
            bonus = (batch.entropies * carrying).sum() / totals.entropy_divisor
            loss = loss - config.entropy_coef * bonus
    figures: dict[str, Tensor] = {}
    if masked_modality is not None and masked_modality.weight:
        if evidence is None or masked_logps is None:
            raise UsageError("masked_modality needs evidence and masked_logps; pass them")
        term, figures = masked_modality_term(
            batch.logps, masked_logps, evidence & keep[..., None], masked_modality, totals
        )
        loss = loss + term
    return GRPOLoss(loss, {**metrics, **figures}, frozenset(row_metrics), frozenset(figures))


# Inputs -------------------------------------------------------------------------------------


def _check_inputs(
    logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    old_logps: Tensor | None,
    ref_logps: Tensor | None,
    entropies: Tensor | None,
    config: GRPOLossConfig,
) -> None:
    if logps.dim() != 2 or logps.numel() == 0:
        raise UsageError(f"logps have shape {list(logps.shape)}; expected [N, C]")
    if advantages.shape != logps.shape[:1]:
        raise UsageError(
            f"advantages have shape {list(advantages.shape)}; expected [{logps.shape[0]}]"
        )
    tensors = {"mask": mask, "old_logps": old_logps, "ref_logps": ref_logps}
    for name, tensor in {**tensors, "entropies": entropies}.items():
        if tensor is not None and tensor.shape != logps.shape:
            raise UsageError(
                f"{name} has shape {list(tensor.shape)}; expected that of logps, "
                f"{list(logps.shape)}"
            )
    if config.beta != 0 and ref_logps is None:
        raise UsageError(f"beta is {config.beta} but ref_logps is missing; pass it or set beta 0")
    if config.needs_entropies and entropies is None:
        raise UsageError("top_entropy_quantile and entropy_coef need entropies; pass them")
    if config.off_policy_mask_threshold is not None and old_logps is None:
        raise UsageError("off_policy_mask_threshold needs old_logps; pass them")


def _clean_batch(
    logps: Tensor,
    advantages: Tensor,
    keep: Tensor,
    old_logps: Tensor | None,
    entropies: Tensor | None,
    importance_weights: Tensor | None,
) -> TokenBatch:
    clean = _masked(logps, keep)
    if importance_weights is not None and importance_weights.shape == keep.shape:
        importance_weights = torch.where(keep, importance_weights, 1.0)
    return TokenBatch(
        logps=clean,
        old_logps=clean.detach() if old_logps is None else _masked(old_logps, keep).detach(),
        advantages=advantages.detach().to(clean.dtype)[:, None],
        mask=keep.to(clean.dtype),
        entropies=None if entropies is None else _masked(entropies, keep),
        importance_weights=importance_weights,
    )


def _masked(values: Tensor, keep: Tensor) -> Tensor:
    """`values` in float32 (float64 stays), 0 where masked, for value and gradient alike."""
    values = values if values.dtype == torch.float64 else values.float()
    return torch.where(keep, values, 0.0)


# The KL -------------------------------------------------------------------------------------


def _kl_terms(
    batch: TokenBatch, ref_logps: Tensor, log_ratio: Tensor, config: GRPOLossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """The KL of each token [N, C] and its metrics."""
    kl = kl_divergence(batch.logps, ref_logps.detach(), config.kl_estimator)
    if config.use_bias_correction_kl:
        kl = kl * log_ratio.exp()
    clamped = (ref_logps - batch.logps).detach() > MAX_LOG_DIFFERENCE
    return kl, {
        "kl": masked_mean(kl.detach(), batch.mask),
        "kl_clamped_ratio": masked_mean(clamped.to(batch.mask.dtype), batch.mask),
    }
