"""What completions are worth: their rewards, and how much better than their siblings they are."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from r1omni.models.packed import pad_ids
from r1omni.ops import group_advantages
from r1omni.rewards import score
from r1omni.rewards.schedule import RewardWeights
from r1omni.rewards.spec import asks_for
from r1omni.text.cues import read_cues
from r1omni.text.emotions import ANSWER_WORDS, LABEL_SETS
from r1omni.text.prompt import encode_target
from r1omni.text.tags import EMPTY_REASONING, has_tags, parse_completion
from r1omni.training.batch import RolloutBatch
from r1omni.training.grpo_config import GRPOConfig
from r1omni.training.policy import Policy
from r1omni.training.ranks import RankLayout
from r1omni.types import Rollout, Sample

_logger = logging.getLogger(__name__)

# The column of rewards that holds the divergence from the reference, where it is a reward.
KL_PENALTY = "kl_penalty"
# Rewards of float32 that should be equal differ by roundoff.
_ALIKE = 1e-6
# An answer without reasoning, where a reasoned one would have its first word of it.
_DIRECT = f"{EMPTY_REASONING}{{word}}</answer>"
# Of one prompt: the share of each emotion in its direct answer; None where nobody asks.
DirectConfidence = Mapping[str, float] | None


def score_rollout(
    rollout: Rollout,
    samples: Sequence[Sample],
    config: GRPOConfig,
    policy: Policy | None = None,
) -> Tensor:
    """float [N, K]: what each reward function gives every completion.

    Args:
        rollout: the completions.
        samples: B samples, one a prompt.
        config: reward functions.
        policy: what sampled, for rewards that ask how sure it is; None where none does.
    """
    rows = [s for s in samples for _ in range(rollout.group_size)]
    columns = reward_columns(rows, rollout, config.max_new_tokens)
    direct: list[DirectConfidence] = [None] * len(samples)
    if policy is not None and any(asks_for(s, "direct_confidence") for s in config.rewards):
        direct = direct_confidence(policy, rollout, samples)
    columns["direct_confidence"] = [d for d in direct for _ in range(rollout.group_size)]
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
    """Rewards [N, K] of whole groups as advantages compare them.

    None is worth 0 where a sibling got a value, whatever the aggregation: left out of the
    statistics it would be worth the mean of its group, and with no other reward the completion
    would have no part in the comparison, so that it would pay to be silent where others are wrong.
    A reward that says nothing of a whole group does not apply to its sample, and has no effect on
    it; nor has one of weight 0 on any.
    """
    unweighted = [index for index, spec in enumerate(config.rewards) if not spec.weight]
    shown = silence_counted(rewards, config.group_size)
    shown[:, unweighted] = float("nan")
    return shown


def silence_counted(rewards: Tensor, group_size: int) -> Tensor:
    """Rewards [N, K] of whole groups with 0 for a None that has a sibling with a value."""
    groups = rewards.view(-1, group_size, rewards.shape[1])
    missing = groups.isnan()
    silent = missing & ~missing.all(dim=1, keepdim=True)
    return groups.masked_fill(silent, 0.0).view_as(rewards)


def in_force(
    config: GRPOConfig,
    weights: RewardWeights,
    batch: RolloutBatch,
    layout: RankLayout,
    step: int,
) -> GRPOConfig:
    """The choices of a run with the weights of this rollout; all ranks call this together.

    Gates see what all its completions earned, before groups that are alike are replaced, which
    would keep a mean of accuracy away from 0 and 1.

    Args:
        config: of the run.
        weights: told of the rollout; its end is told by `end_rollout`.
        batch: the rollout as it was sampled and scored first.
        layout: what other ranks have of it.
        step: optimizer steps before the rollout.
    """
    specs = weights.begin(step)
    if weights.has_gates:
        everyone, _ = layout.whole_batch(batch.rewards)
        means = silence_counted(everyone, config.group_size).double().nanmean(dim=0)
        weights.observe(dict(zip(batch.reward_names, means.tolist(), strict=True)))
    return replace(config, rewards=specs)


def kl_penalty(
    old_logps: Tensor | None, ref_logps: Tensor | None, mask: Tensor, rate: float
) -> tuple[Tensor, Tensor]:
    """What completions pay for the divergence from the reference: k1, summed over a completion.

    Args:
        old_logps, ref_logps: float32 [N, C], of the policy that sampled and of the reference, which
            a run that pays for the divergence has.
        mask: bool [N, C].
        rate: reward a nat.

    Returns:
        float32 [N], and [2] for the log: the sum of the divergence, and of its tokens.
    """
    assert old_logps is not None and ref_logps is not None
    divergence = (old_logps - ref_logps) * mask
    return rate * divergence.sum(dim=1), torch.stack([divergence.sum(), mask.sum()])


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
        "references": [reference_of(s) for s in rows],
        "cues": [None if s.cues is None else list(s.cues) for s in rows],
    }


def reference_of(sample: Sample) -> str | None:
    """What somebody who saw the clip says of it, or None.

    The reasoning of the target; or the target itself, where it is a caption: no emotion, no tags,
    and at least one cue of a face or a voice.
    """
    target = sample.target or ""
    if (reasoning := parse_completion(target).reasoning) or sample.label is not None:
        return reasoning or None
    return target if not has_tags(target) and _tells_a_cue(target) else None


@lru_cache(maxsize=4096)
def _tells_a_cue(text: str) -> bool:
    """Kept, since every completion of a sample asks, in every epoch."""
    told = read_cues(text)
    return bool(told.video or told.audio)


def direct_confidence(
    policy: Policy, rollout: Rollout, samples: Sequence[Sample]
) -> list[DirectConfidence]:
    """How sure the policy is of each emotion where it answers at once, one entry a prompt.

    After an empty reasoning each word of the sample's label set is scored as the whole rest of the
    completion, at the temperature of the sampling, in one pass over the prompt. The shares are
    among these words. Only for rewards that have a parameter `direct_confidence`.

    It is the policy and not its reference: a run may have none, and one that is frozen says ever
    less of the model whose answers are paid. That the policy moves its own confidence does not pay:
    all completions of a group share it, and are compared with each other alone.

    Args:
        policy: what sampled.
        rollout: the completions; their prompts are read.
        samples: B samples, one a prompt.
    """
    label_sets = [LABEL_SETS[sample.label_set or "all"].labels for sample in samples]
    emotions = list(dict.fromkeys(label for labels in label_sets for label in labels))
    rows = [
        encode_target(policy.omni.tokenizer, _DIRECT.format(word=ANSWER_WORDS[emotion]))
        for emotion in emotions
    ]
    ids, mask = pad_ids(rows, rollout.completion_ids.device)
    answers = replace(
        rollout,
        completion_ids=ids.repeat(len(samples), 1),
        mask=mask.repeat(len(samples), 1),
        group_size=len(emotions),
    )
    logps = policy.logps(answers).sum(dim=1).view(len(samples), -1).double().cpu()
    found: list[DirectConfidence] = []
    for row, labels in zip(logps, label_sets, strict=True):
        shares = row[[emotions.index(label) for label in labels]].softmax(dim=0)
        found.append(dict(zip(labels, shares.tolist(), strict=True)))
    return found


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
