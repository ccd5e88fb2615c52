"""What completions are worth: their rewards, and how much better than their siblings they are."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from r1omni.ops import group_advantages
from r1omni.rewards import score
from r1omni.training.batch import RolloutBatch
from r1omni.training.grpo_config import GRPOConfig
from r1omni.training.ranks import RankLayout
from r1omni.types import Rollout, Sample

_logger = logging.getLogger(__name__)

# The column of rewards that holds the divergence from the reference, where it is a reward.
KL_PENALTY = "kl_penalty"
# Rewards of float32 that should be equal differ by roundoff.
_ALIKE = 1e-6


def score_rollout(rollout: Rollout, samples: Sequence[Sample], config: GRPOConfig) -> Tensor:
    """float [N, K]: what each reward function gives every completion.

    Args:
        rollout: the completions.
        samples: B samples, one a prompt.
        config: reward functions.
    """
    rows = [s for s in samples for _ in range(rollout.group_size)]
    columns = reward_columns(rows, rollout, config.max_new_tokens)
    rewards = score(config.rewards, rollout.texts, [s.label for s in rows], **columns)
    counted = [index for index, spec in enumerate(config.rewards) if spec.weight]
    if rewards[:, counted].isnan().all():
        names = ", ".join(s.sample_id for s in samples[:3])
        _logger.warning(
            "no reward says anything of %d completions (of %s%s): nothing is learned from them",
            len(rows),
            names,
            ", ..." if len(samples) > 3 else "",
        )
    return rewards


def kl_penalty(
    old_logps: Tensor, ref_logps: Tensor, mask: Tensor, config: GRPOConfig
) -> tuple[Tensor, Tensor]:
    """What completions lose of their rewards for leaving the reference: k1, summed over each.

    Args:
        old_logps, ref_logps: float [N, C] under policy and reference.
        mask: bool [N, C].
        config: the rate.

    Returns:
        The penalty, float [N]; the sum over tokens without the rate and their count, [2].
    """
    divergence = (old_logps - ref_logps) * mask
    summed = torch.stack([divergence.sum(), mask.sum()])
    return config.kl_in_reward * divergence.sum(dim=1), summed


def with_advantages(
    batch: RolloutBatch, config: GRPOConfig, layout: RankLayout, penalty: Tensor | None = None
) -> RolloutBatch:
    """A batch with the advantages of its completions; all ranks call this together.

    Args:
        batch: scored.
        config: how advantages are made of rewards.
        layout: what other ranks have of the groups.
        penalty: float [N], taken from the rewards as one more column, or None.
    """
    names, rewards = batch.reward_names, batch.rewards
    if penalty is not None:
        rewards = torch.cat([rewards, -penalty.cpu()[:, None]], dim=1)
        names = (*names, KL_PENALTY)
    group_rewards, places = layout.whole_groups(rewards)
    everyone = group_rewards
    if config.compares_the_batch:
        everyone, places = layout.whole_batch(rewards)
    device = batch.rollout.logps.device  # on a GPU this is one launch
    advantages = group_advantages(
        compared(everyone, config).to(device),
        config.group_size,
        weights=reward_weights(config, names).to(device),
        scale=config.scale_rewards,
        aggregation=config.aggregation,
        baseline=config.baseline,
    )
    return replace(
        batch,
        rewards=rewards,
        reward_names=names,
        group_rewards=group_rewards,
        advantages=advantages[places.to(device)],
    )


def compared(rewards: Tensor, config: GRPOConfig) -> Tensor:
    """Rewards [N, K] as advantages compare them.

    A None beside other rewards of a completion is worth 0 in a sum. Where each reward is
    normalised first it would be worth the mean of its group, and it would pay to be silent where
    others are wrong; so there too it counts as 0.
    """
    if config.aggregation == "sum_then_normalize":
        return rewards
    missing = rewards.isnan()
    return rewards.masked_fill(missing & ~missing.all(dim=1, keepdim=True), 0.0)


def reward_columns(
    rows: Sequence[Sample], rollout: Rollout, max_new_tokens: int
) -> dict[str, list[Any]]:
    """What reward functions may know of each completion, one list of N entries a column."""
    return {
        "sample_ids": [s.sample_id for s in rows],
        "modality": [s.modality for s in rows],
        "label_set": [s.label_set for s in rows],
        "completion_lengths": rollout.mask.sum(dim=1).tolist(),
        "ended": rollout.ended.tolist(),
        "max_new_tokens": [max_new_tokens] * len(rows),
        "open_labels": [None if s.open_labels is None else list(s.open_labels) for s in rows],
    }


def reward_weights(config: GRPOConfig, names: Sequence[str]) -> Tensor:
    """float [K]: the weight of each column of rewards."""
    weights = {spec.name: spec.weight for spec in config.rewards}
    return torch.tensor([weights.get(name, 1.0) for name in names])


def useful_prompts(rewards: Tensor, config: GRPOConfig) -> list[int]:
    """Prompts whose completions did not all earn the same: only they have advantages.

    Args:
        rewards: float [B * G, K] of whole groups.
        config: how advantages are made of rewards.
    """
    names = [spec.name for spec in config.rewards]
    away = group_advantages(
        compared(rewards, config),
        config.group_size,
        weights=reward_weights(config, names),
        scale="none",
        aggregation=config.aggregation,
    )
    return torch.nonzero(away.view(-1, config.group_size).abs().amax(1) > _ALIKE).flatten().tolist()
