"""The policy term of each token: what a loss of the GRPO family makes of ratio and advantage.

With r the ratio of a token's probability to that under the policy that sampled, A the advantage of
its completion and sg the gradient stopped, the terms to be minimised are:

- grpo (arXiv 2402.03300 eq. 3), bnpo, dr_grpo (2503.20783), dapo (2503.14476), luspo
  (2602.05261): -min(min(r, delta) A, clip(r, 1 - epsilon, 1 + epsilon_high) A);
- cispo (2506.13585): -sg(min(r, epsilon_high)) A log p; epsilon_high is the cap itself;
- sapo (2511.20347): -A (4 / tau) sigmoid(tau (r - 1));
- gmpo (2507.20673): -A times the geometric mean over the completion of r, each r clipped to
  exp(-epsilon) and exp(epsilon_high) where the clipping is the pessimistic side;
- vespo (2602.10693): -sg(phi(w)) A log p with phi(w) = w^k exp(lambda (1 - w)), w the product of r
  over the completion, k and lambda by the sign of A.

r is per token, per sequence (GSPO, 2507.18071: exp of the masked mean of log r), or that value with
the gradient of each token (GSPO-token, eq. 14: sg(r of the sequence) p / sg(p)).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from r1omni.ops.aggregation import masked_mean
from r1omni.ops.kl import MAX_LOG_DIFFERENCE
from r1omni.ops.loss_config import GRPOLossConfig


@dataclass(frozen=True)
class TokenBatch:
    """The tensors of a loss, zero wherever the mask is.

    Attributes:
        logps, old_logps: float [N, C].
        advantages: float [N, 1].
        mask: float [N, C].
        entropies: float [N, C] or None.
        importance_weights: float [N, C], where the mask is 1, or [N, 1]; or None.
    """

    logps: Tensor
    old_logps: Tensor
    advantages: Tensor
    mask: Tensor
    entropies: Tensor | None
    importance_weights: Tensor | None


def log_ratios(batch: TokenBatch, level: str) -> Tensor:
    """log r, [N, C] or, for level "sequence", its masked mean [N, 1].

    It is clamped at +-20, where a ratio says no more than "far off policy" but exp of a larger
    number, times an advantage of 0, would be NaN.
    """
    difference = batch.logps - batch.old_logps
    if level != "token":
        difference = _row_mean(difference, batch.mask)
    difference = difference.clamp(-MAX_LOG_DIFFERENCE, MAX_LOG_DIFFERENCE)
    if level == "sequence_token":
        return difference.detach() + (batch.logps - batch.logps.detach())
    return difference


def policy_terms(
    batch: TokenBatch, log_ratio: Tensor, config: GRPOLossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """The policy term of each token, [N, C] or [N, 1], and what is logged of how it was held back.

    Metrics are 0-dimensional, means over tokens for a ratio [N, C] and over completions for [N, 1],
    but `vespo/phi_seq_mean`, which is always one over completions.
    """
    ratio, advantages = log_ratio.exp(), batch.advantages
    if config.loss_type == "vespo":
        kernel = _vespo_kernel(batch, log_ratio, config)
        return -kernel * advantages * batch.logps, {"vespo/phi_seq_mean": kernel.mean()}
    metrics = _clip_metrics(ratio.detach(), batch, config)
    if config.loss_type == "cispo":
        return -ratio.clamp(max=config.upper_epsilon).detach() * advantages * batch.logps, metrics
    if config.loss_type == "sapo":
        positive, negative = config.sapo_temperature_pos, config.sapo_temperature_neg
        tau = torch.where(advantages > 0, positive, negative).to(ratio.dtype)
        return -advantages * (4 / tau) * torch.sigmoid(tau * (ratio - 1)), metrics
    if config.loss_type == "gmpo":
        return _gmpo_terms(batch, log_ratio, config), metrics
    clipped = ratio.clamp(*config.ratio_bounds)
    capped = ratio if config.delta is None else ratio.clamp(max=config.delta)
    terms = -torch.minimum(capped * advantages, clipped * advantages)
    if config.dual_clip is not None:
        # Of a bad completion, a ratio above the cap teaches no more than the cap itself.
        floor = -config.dual_clip * advantages
        terms = torch.where(advantages < 0, torch.minimum(terms, floor), terms)
    return terms, metrics


def _gmpo_terms(batch: TokenBatch, log_ratio: Tensor, config: GRPOLossConfig) -> Tensor:
    """[N, C]: each has the geometric mean for its value, and its own token's gradient.

    Their mean over a completion has value and gradient of the paper's term. By token, a token can
    lose its part, as those of low entropy do.
    """
    clipped = torch.where(
        batch.advantages < 0,
        log_ratio.clamp(min=-config.epsilon),
        log_ratio.clamp(max=config.upper_epsilon),
    )
    geometric_mean = _row_mean(clipped, batch.mask).detach().exp()
    return -batch.advantages * geometric_mean * (clipped - clipped.detach()).exp()


@torch.no_grad()
def _vespo_kernel(batch: TokenBatch, log_ratio: Tensor, config: GRPOLossConfig) -> Tensor:
    """phi(w) [N, 1], without gradient; w also holds the correction of the sampler.

    It is computed from log w, which may be far beyond what exp can show: w = inf gives phi = 0. The
    authors hold w above 1e-8, where phi is 0 to all that counts; here it is phi that is held, below
    exp(20), which only kernels far steeper than theirs reach.
    """
    log_w = (log_ratio * batch.mask).sum(dim=1, keepdim=True)
    if batch.importance_weights is not None:
        # What the correction masks out weighs nothing, rather than log 0.
        logs = batch.importance_weights.log().clamp(-MAX_LOG_DIFFERENCE, MAX_LOG_DIFFERENCE)
        per_token = logs.shape[1] > 1 or batch.mask.shape[1] == 1
        log_w = log_w + ((logs * batch.mask).sum(dim=1, keepdim=True) if per_token else logs)
    good = batch.advantages >= 0
    k = torch.full_like(log_w, config.vespo_k_neg).masked_fill(good, config.vespo_k_pos)
    rate = torch.full_like(log_w, config.vespo_lambda_neg).masked_fill(
        good, config.vespo_lambda_pos
    )
    log_phi = k * log_w + rate * (1 - log_w.exp())
    return log_phi.clamp(max=MAX_LOG_DIFFERENCE).exp()


def on_policy(batch: TokenBatch, threshold: float) -> Tensor:
    """float [N, 1]: 0 for a bad completion that drifted too far (DeepSeek-V3.2)."""
    drift = _row_mean(batch.old_logps - batch.logps.detach(), batch.mask)
    return 1 - ((batch.advantages < 0) & (drift > threshold)).to(batch.mask.dtype)


def _row_mean(values: Tensor, mask: Tensor) -> Tensor:
    """[N, 1]: mean of each row of values [N, C] where the mask is 1; 0 if it is nowhere."""
    return (values * mask).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)


# Metrics ------------------------------------------------------------------------------------


def _clip_metrics(ratio: Tensor, batch: TokenBatch, config: GRPOLossConfig) -> dict[str, Tensor]:
    """Shares of tokens (or sequences) that the clipping holds back, under TRL's names."""
    if config.loss_type == "sapo":
        return {}
    dtype = batch.mask.dtype
    if config.loss_type == "cispo":
        capped = (ratio > config.upper_epsilon) & (batch.advantages > 0)
        return {"cispo_clip_ratio": _share(capped.to(dtype), batch.mask)}
    lowest, highest = config.ratio_bounds
    low = ((ratio < lowest) & (batch.advantages < 0)).to(dtype)
    high = ((ratio > highest) & (batch.advantages > 0)).to(dtype)
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
