"""The policy losses of the GRPO family.

A loss is built in a fixed order: the policy term of each token, the off-policy mask, the entropy
mask, importance weights, the KL term, aggregation to one number, the entropy bonus, the term for
the dependence on media (`masked_modality.py`). With r the probability ratio and A the advantage,
the terms to be minimised are:

- grpo (arXiv 2402.03300 eq. 3), bnpo, dr_grpo (2503.20783), dapo (2503.14476), luspo
  (2602.05261): -min(min(r, delta) A, clip(r, 1 - epsilon, 1 + epsilon_high) A);
- cispo (2506.13585): -stopgrad(min(r, epsilon_high)) A log p; epsilon_high is the cap itself;
- sapo (2511.20347): -A (4 / tau) sigmoid(tau (r - 1)).

r is per token, or per sequence (GSPO, 2507.18071): exp of the masked mean of log p - log p_old.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from r1omni.ops.aggregation import masked_mean, reduce_terms
from r1omni.ops.kl import MAX_LOG_DIFFERENCE, kl_divergence
from r1omni.ops.loss_config import GRPOLossConfig
from r1omni.ops.masked_modality import MaskedModality, masked_modality_term
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


@dataclass(frozen=True)
class _Batch:
    """The tensors of a loss, zero wherever the mask is.

    Attributes:
        logps, old_logps: float [N, C].
        advantages: float [N, 1].
        mask: float [N, C].
        entropies: float [N, C] or None.
    """

    logps: Tensor
    old_logps: Tensor
    advantages: Tensor
    mask: Tensor
    entropies: Tensor | None


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
    batch = _clean_batch(logps, advantages, keep, old_logps, entropies)
    log_ratio = _log_ratio(batch, config.importance_sampling_level)
    terms = _policy_terms(batch, log_ratio, config).expand_as(batch.mask)
    metrics = _clip_metrics(log_ratio.detach().exp(), batch, config)
    row_metrics = set(metrics) if log_ratio.shape[1] == 1 else set()

    if config.off_policy_mask_threshold is not None:
        on_policy = _on_policy(batch, config.off_policy_mask_threshold)
        terms = terms * on_policy
        metrics["off_policy_masked_ratio"] = 1 - on_policy.mean()
        row_metrics.add("off_policy_masked_ratio")
    carrying = batch.mask if entropy_mask is None else (keep & entropy_mask).to(batch.mask.dtype)
    if entropy_mask is not None:
        terms = terms * carrying
    if importance_weights is not None:
        terms = terms * torch.where(keep, importance_weights, 0.0)
    if ref_logps is not None:
        kl, kl_metrics = _kl_terms(batch, _masked(ref_logps, keep), log_ratio, config)
        metrics.update(kl_metrics)
        if config.beta != 0:
            terms = terms + config.beta * kl

    loss = reduce_terms(terms, batch.mask, config, totals)
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
) -> _Batch:
    clean = _masked(logps, keep)
    return _Batch(
        logps=clean,
        old_logps=clean.detach() if old_logps is None else _masked(old_logps, keep).detach(),
        advantages=advantages.detach().to(clean.dtype)[:, None],
        mask=keep.to(clean.dtype),
        entropies=None if entropies is None else _masked(entropies, keep),
    )


def _masked(values: Tensor, keep: Tensor) -> Tensor:
    """`values` in float32 (float64 stays), 0 where masked, for value and gradient alike."""
    values = values if values.dtype == torch.float64 else values.float()
    return torch.where(keep, values, 0.0)


# Terms --------------------------------------------------------------------------------------


def _log_ratio(batch: _Batch, level: str) -> Tensor:
    """log p - log p_old, [N, C] or, for level "sequence", its masked mean [N, 1].

    It is clamped at +-20, where a ratio says no more than "far off policy" but exp of a larger
    number, times an advantage of 0, would be NaN.
    """
    difference = batch.logps - batch.old_logps
    if level == "sequence":
        lengths = batch.mask.sum(dim=1, keepdim=True).clamp(min=1)
        difference = difference.sum(dim=1, keepdim=True) / lengths
    return difference.clamp(-MAX_LOG_DIFFERENCE, MAX_LOG_DIFFERENCE)


def _policy_terms(batch: _Batch, log_ratio: Tensor, config: GRPOLossConfig) -> Tensor:
    """The policy term of each token, [N, C] or [N, 1]."""
    ratio, advantages = log_ratio.exp(), batch.advantages
    if config.loss_type == "cispo":
        return -ratio.clamp(max=config.upper_epsilon).detach() * advantages * batch.logps
    if config.loss_type == "sapo":
        positive, negative = config.sapo_temperature_pos, config.sapo_temperature_neg
        tau = torch.where(advantages > 0, positive, negative).to(ratio.dtype)
        return -advantages * (4 / tau) * torch.sigmoid(tau * (ratio - 1))
    clipped = ratio.clamp(1 - config.epsilon, 1 + config.upper_epsilon)
    capped = ratio if config.delta is None else ratio.clamp(max=config.delta)
    terms = -torch.minimum(capped * advantages, clipped * advantages)
    if config.dual_clip is not None:
        # Of a bad completion, a ratio above the cap teaches no more than the cap itself.
        floor = -config.dual_clip * advantages
        terms = torch.where(advantages < 0, torch.minimum(terms, floor), terms)
    return terms


def _on_policy(batch: _Batch, threshold: float) -> Tensor:
    """float [N, 1]: 0 for a bad completion that drifted too far (DeepSeek-V3.2)."""
    lengths = batch.mask.sum(dim=1, keepdim=True).clamp(min=1)
    drift = (batch.old_logps - batch.logps.detach()).sum(dim=1, keepdim=True) / lengths
    return 1 - ((batch.advantages < 0) & (drift > threshold)).to(batch.mask.dtype)


def _kl_terms(
    batch: _Batch, ref_logps: Tensor, log_ratio: Tensor, config: GRPOLossConfig
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


# Metrics ------------------------------------------------------------------------------------


def _clip_metrics(ratio: Tensor, batch: _Batch, config: GRPOLossConfig) -> dict[str, Tensor]:
    """Shares of tokens (or sequences) that the clipping holds back, under TRL's names."""
    if config.loss_type == "sapo":
        return {}
    dtype = batch.mask.dtype
    if config.loss_type == "cispo":
        capped = (ratio > config.upper_epsilon) & (batch.advantages > 0)
        return {"cispo_clip_ratio": _share(capped.to(dtype), batch.mask)}
    low = ((ratio < 1 - config.epsilon) & (batch.advantages < 0)).to(dtype)
    high = ((ratio > 1 + config.upper_epsilon) & (batch.advantages > 0)).to(dtype)
    low_mean, high_mean = _share(low, batch.mask), _share(high, batch.mask)
    low_rows, high_rows = _row_shares(low, batch.mask), _row_shares(high, batch.mask)
    return {
        "clip_ratio/low_mean": low_mean,
        "clip_ratio/low_min": low_rows.min(),
        "clip_ratio/high_mean": high_mean,
        "clip_ratio/high_max": high_rows.max(),
        "clip_ratio/region_mean": low_mean + high_mean,
    }


def _share(flags: Tensor, mask: Tensor) -> Tensor:
    """Share of tokens for flags [N, C], of sequences, whatever their length, for [N, 1]."""
    return flags.mean() if flags.shape[1] == 1 else masked_mean(flags, mask)


def _row_shares(flags: Tensor, mask: Tensor) -> Tensor:
    """[N]: share of the tokens of each sequence for flags [N, C].

    For [N, 1] that is the flag itself: it is 0 for a sequence of no tokens, whose ratio is 1.
    """
    return (flags * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
