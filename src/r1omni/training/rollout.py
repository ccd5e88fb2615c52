"""One group at a time: sample G completions a prompt, score them, turn scores into advantages."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from r1omni.data.batch import Batch
from r1omni.models.generate import Sampling, generate, stream_seed
from r1omni.models.pipeline import R1Omni
from r1omni.ops import group_advantages, reward_metrics
from r1omni.rewards import RewardSpec, score
from r1omni.types import PromptInputs, Rollout, ScoredGroup


def sample_rollout(
    omni: R1Omni,
    prompts: PromptInputs,
    embedded: Sequence[Tensor],
    sampling: Sampling,
    *,
    group_size: int,
    stream: Sequence[object],
    sample_ids: Sequence[str],
) -> Rollout:
    """Sample G completions of every prompt with the current policy.

    Args:
        omni: model and tokenizer.
        prompts: the B prompts.
        embedded: the same prompts, embedded [P_i, D]; no gradient is recorded.
        sampling: temperature and length.
        group_size: G.
        stream: names the random streams together with each sample's id and the member's index:
            (seed, step).
        sample_ids: B names.
    """
    seeds = [
        stream_seed(*stream, sample_id, member)
        for sample_id in sample_ids
        for member in range(group_size)
    ]
    sampled = generate(
        omni.model,
        [row.detach() for row in embedded],
        sampling,
        group_size=group_size,
        seeds=seeds,
    )
    return Rollout(
        prompts=prompts,
        completion_ids=sampled.ids,
        mask=sampled.mask,
        logps=sampled.logps,
        texts=tuple(omni.decode(sampled.ids)),
        group_size=group_size,
        end_ids=sampling.end_ids,
    )


def score_rollout(
    rollout: Rollout, batch: Batch, rewards: Sequence[RewardSpec], scale: str
) -> ScoredGroup:
    """Rewards of every completion and their advantages within each group."""
    samples = [s for s in batch.samples for _ in range(rollout.group_size)]
    values = score(
        rewards,
        list(rollout.texts),
        [s.label for s in samples],
        sample_ids=[s.sample_id for s in samples],
        modality=[s.modality for s in samples],
    )
    advantages = group_advantages(
        values,
        rollout.group_size,
        weights=torch.tensor([spec.weight for spec in rewards]),
        scale=scale,
    )
    return ScoredGroup(
        rollout=rollout,
        rewards=values,
        advantages=advantages.to(rollout.logps.device),
        reward_names=tuple(spec.name for spec in rewards),
    )


def rollout_metrics(group: ScoredGroup, weights: Tensor, scale: str) -> dict[str, float]:
    """What a rollout looks like, under TRL's metric names.

    Args:
        group: a scored rollout.
        weights: float [K], the weights of the reward functions.
        scale: what advantages were divided by.
    """
    rollout = group.rollout
    lengths = rollout.mask.sum(dim=1).float()
    # A completion is terminated when its last token is an end token, that is, when something
    # else than the length limit stopped it.
    terminated = _terminated(rollout)
    finished = lengths[terminated] if terminated.any() else torch.zeros(1)
    metrics = {
        "completions/mean_length": lengths.mean(),
        "completions/min_length": lengths.min(),
        "completions/max_length": lengths.max(),
        "completions/clipped_ratio": 1 - terminated.float().mean(),
        "completions/mean_terminated_length": finished.mean(),
        "completions/min_terminated_length": finished.min(),
        "completions/max_terminated_length": finished.max(),
        **reward_metrics(group.rewards, rollout.group_size, weights, scale),
    }
    for name, column in zip(group.reward_names, group.rewards.T, strict=True):
        given = column[~column.isnan()]
        if len(given):
            metrics[f"rewards/{name}/mean"] = given.mean()
            metrics[f"rewards/{name}/std"] = given.std() if len(given) > 1 else given.new_zeros(())
    return {name: float(value) for name, value in metrics.items()}


def _terminated(rollout: Rollout) -> Tensor:
    """bool [N]: whether an end token closed the completion."""
    last = rollout.mask.sum(dim=1) - 1
    closing = rollout.completion_ids.gather(1, last[:, None]).squeeze(1)
    return torch.isin(closing, rollout.completion_ids.new_tensor(rollout.end_ids))
