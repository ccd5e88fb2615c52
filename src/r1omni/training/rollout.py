"""One group at a time: sample G completions a prompt, score them, turn scores into advantages."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from r1omni.models.generate import Sampling, generate
from r1omni.models.omni import OmniModel
from r1omni.models.packed import completion_logps
from r1omni.models.pipeline import R1Omni
from r1omni.ops import group_advantages, reward_metrics
from r1omni.ops.step_totals import entropy_threshold
from r1omni.rewards import score
from r1omni.streams import stream_seed
from r1omni.training.dealing import Dealing
from r1omni.training.grpo_config import GRPOConfig
from r1omni.types import PromptInputs, Rollout, Sample, ScoredGroup

_logger = logging.getLogger(__name__)

# The column of rewards that holds the divergence from the reference, where it is a reward.
KL_PENALTY = "kl_penalty"
# Rewards of float32 that should be equal differ by roundoff.
_ALIKE = 1e-6
# Nats. The first tokens of a group have one distribution, whose entropies differ by roundoff: a
# threshold among them would choose by chance.
_SAME_ENTROPY = 1e-5


def sample_rollout(
    omni: R1Omni,
    prompts: PromptInputs,
    embedded: Sequence[Tensor],
    sampling: Sampling,
    *,
    members: Sequence[int],
    stream: Sequence[object],
    sample_ids: Sequence[str],
) -> Rollout:
    """Sample completions of every prompt with the current policy.

    Args:
        omni: model and tokenizer.
        prompts: the B prompts.
        embedded: the same prompts, embedded [P_i, D]; no gradient is recorded.
        sampling: temperature and length.
        members: of each group, which are sampled here; all G unless groups are dealt to ranks.
        stream: names the random streams together with each sample's id and the member's index:
            (seed, step).
        sample_ids: B names.
    """
    seeds = [
        stream_seed(*stream, sample_id, member) for sample_id in sample_ids for member in members
    ]
    sampled = generate(
        omni.model,
        [row.detach() for row in embedded],
        sampling,
        group_size=len(members),
        seeds=seeds,
    )
    return Rollout(
        prompts=prompts,
        completion_ids=sampled.ids,
        mask=sampled.mask,
        logps=sampled.logps,
        texts=tuple(omni.completions(sampled)[0]),
        group_size=len(members),
        end_ids=sampling.end_ids,
    )


def rollout_logps(model: OmniModel, rollout: Rollout, config: GRPOConfig) -> Tensor:
    """Log-probabilities under a model, float32 [N, C], as many prompts at a time as an update."""
    return _in_passes(model, rollout, config, with_entropy=False)[0]


def high_entropy_mask(
    model: OmniModel, rollout: Rollout, mask: Tensor, config: GRPOConfig, dealing: Dealing
) -> Tensor | None:
    """Which tokens of an optimizer step `top_entropy_quantile` keeps, bool [N, C]; None for all.

    The quantile is over the tokens of all passes and ranks, and of the policy as it is now, which
    takes a pass of its own before the first gradient; all ranks call this together. Tokens that
    reach it but for roundoff are kept.

    Args:
        model: the policy.
        rollout: completions of the step.
        mask: bool [N, C], the tokens that are learned from.
        config: temperature, passes and quantile.
        dealing: gathers from all ranks.
    """
    if config.loss.top_entropy_quantile == 1:
        return None
    entropies = _in_passes(model, rollout, config, with_entropy=True)[1]
    everyone = dealing.gathered(entropies.masked_fill(~mask, float("nan")))
    threshold = entropy_threshold(everyone, config.loss.top_entropy_quantile)
    return mask & (entropies >= threshold - _SAME_ENTROPY)


@torch.no_grad()
def _in_passes(
    model: OmniModel, rollout: Rollout, config: GRPOConfig, *, with_entropy: bool
) -> list[Tensor]:
    """Log-probabilities [N, C] and, where asked for, entropies [N, C]."""
    size = config.micro_batch_size or len(rollout.prompts)
    rows = size * rollout.group_size

    def in_passes(model: OmniModel) -> list[Tensor]:
        embedded = model.embed_prompts(rollout.prompts)
        passes = [
            completion_logps(
                model,
                embedded[start : start + size],
                rollout.completion_ids[start * rollout.group_size :][:rows],
                rollout.mask[start * rollout.group_size :][:rows],
                temperature=config.temperature,
                with_entropy=with_entropy,
            )
            for start in range(0, len(embedded), size)
        ]
        columns = zip(*passes, strict=True)
        return [torch.cat(column) for column in columns if column[0] is not None]  # type: ignore[arg-type]

    return model(in_passes)  # type: ignore[no-any-return]


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


def scored_group(
    rollout: Rollout,
    rewards: Tensor,
    config: GRPOConfig,
    dealing: Dealing,
    penalty: Tensor | None = None,
) -> ScoredGroup:
    """Completions with their advantages within each group; all ranks call this together.

    Args:
        rollout: the completions.
        rewards: float [N, K], of `score_rollout`.
        config: how advantages are made of rewards.
        dealing: what other ranks have of the groups.
        penalty: float [N], taken from the rewards as one more column, or None.
    """
    names = tuple(spec.name for spec in config.rewards)
    if penalty is not None:
        rewards = torch.cat([rewards, -penalty.cpu()[:, None]], dim=1)
        names = (*names, KL_PENALTY)
    group_rewards, places = dealing.whole_groups(rewards)
    everyone = group_rewards
    if config.compares_the_batch:
        everyone, places = dealing.whole_batch(rewards)
    advantages = group_advantages(
        compared(everyone, config),
        config.group_size,
        weights=reward_weights(config, names),
        scale=config.scale_rewards,
        aggregation=config.aggregation,
        baseline=config.baseline,
    )
    return ScoredGroup(
        rollout=rollout,
        rewards=rewards,
        advantages=advantages[places].to(rollout.logps.device),
        reward_names=names,
        group_rewards=group_rewards,
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
        "ended": terminated(rollout).tolist(),
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


@dataclass(frozen=True)
class RolloutFigures:
    """What the metrics of a rollout are computed from.

    Attributes:
        lengths: float32 [N], tokens of each completion.
        ended: bool [N], whether an end token closed it.
        rewards: float32 [B * G, K], of whole groups.
    """

    lengths: Tensor
    ended: Tensor
    rewards: Tensor

    @classmethod
    def of(cls, group: ScoredGroup) -> RolloutFigures:
        """Those of one rank."""
        mask = group.rollout.mask
        lengths = mask.sum(dim=1).float().cpu()
        return cls(lengths, terminated(group.rollout).cpu(), group.group_rewards.cpu())

    @classmethod
    def joined(cls, figures: Sequence[RolloutFigures], groups_across_ranks: bool) -> RolloutFigures:
        """Those of all ranks; ranks that share their groups have the same rewards."""
        rewards = [own.rewards for own in figures]
        return cls(
            torch.cat([own.lengths for own in figures]),
            torch.cat([own.ended for own in figures]),
            rewards[0] if groups_across_ranks else torch.cat(rewards),
        )


def rollout_metrics(
    figures: RolloutFigures, names: Sequence[str], config: GRPOConfig
) -> dict[str, float]:
    """What a rollout looks like, under TRL's metric names.

    Args:
        figures: of all completions.
        names: K names of rewards.
        config: group size, weights and scaling.
    """
    lengths, ended = figures.lengths, figures.ended
    # Terminated is a completion whose last token is an end token, that is, one that something else
    # than the length limit stopped.
    finished = lengths[ended] if ended.any() else torch.zeros(1)
    metrics = {
        "completions/mean_length": lengths.mean(),
        "completions/min_length": lengths.min(),
        "completions/max_length": lengths.max(),
        "completions/clipped_ratio": 1 - ended.float().mean(),
        "completions/mean_terminated_length": finished.mean(),
        "completions/min_terminated_length": finished.min(),
        "completions/max_terminated_length": finished.max(),
        **reward_metrics(
            compared(figures.rewards, config), config.group_size, reward_weights(config, names),
            config.scale_rewards, config.aggregation,
        ),
    }  # fmt: skip
    for name, column in zip(names, figures.rewards.T, strict=True):
        given = column[~column.isnan()]
        if len(given):
            metrics[f"rewards/{name}/mean"] = given.mean()
            metrics[f"rewards/{name}/std"] = given.std() if len(given) > 1 else given.new_zeros(())
    return {name: float(value) for name, value in metrics.items()}


def terminated(rollout: Rollout) -> Tensor:
    """bool [N]: whether an end token closed the completion."""
    last = rollout.mask.sum(dim=1) - 1
    closing = rollout.completion_ids.gather(1, last[:, None]).squeeze(1)
    return torch.isin(closing, rollout.completion_ids.new_tensor(rollout.end_ids))
