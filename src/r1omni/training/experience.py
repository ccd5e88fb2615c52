"""What one rollout gives to learn from, and how it is divided into passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from r1omni.ops import GRPOLossConfig
from r1omni.types import PromptInputs, Rollout, Sample, ScoredGroup


@dataclass(frozen=True)
class Experience:
    """Scored completions with everything the loss needs, group members side by side.

    Attributes:
        samples: B samples, one a prompt.
        group: the rollout with its rewards and advantages.
        loss_mask: bool [N, C], the tokens that are learned from.
        ref_logps: float32 [N, C] under the reference, or None.
        old_logps: float32 [N, C] under the policy that sampled, or None where it is not needed.
        importance_weights: float32 [N, C] or [N, 1], or None.
    """

    samples: tuple[Sample, ...]
    group: ScoredGroup
    loss_mask: Tensor
    ref_logps: Tensor | None = None
    old_logps: Tensor | None = None
    importance_weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def rollout(self) -> Rollout:
        return self.group.rollout

    def select(self, prompts: Sequence[int]) -> Experience:
        """The part that belongs to some of the prompts."""
        size = self.rollout.group_size
        rows = torch.tensor([p * size + member for p in prompts for member in range(size)])
        rows = rows.to(self.loss_mask.device)

        def of(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[rows]

        return Experience(
            samples=tuple(self.samples[p] for p in prompts),
            group=select_group(self.group, prompts),
            loss_mask=self.loss_mask[rows],
            ref_logps=of(self.ref_logps),
            old_logps=of(self.old_logps),
            importance_weights=of(self.importance_weights),
        )


def select_group(group: ScoredGroup, prompts: Sequence[int]) -> ScoredGroup:
    """The groups of some of the prompts."""
    rollout = group.rollout
    size = rollout.group_size
    rows = [p * size + member for p in prompts for member in range(size)]
    index = torch.tensor(rows, device=rollout.mask.device)
    whole = len(group.group_rewards) // len(rollout.prompts)
    return ScoredGroup(
        rollout=replace(
            rollout,
            prompts=PromptInputs(
                tuple(rollout.prompts.token_ids[p] for p in prompts),
                tuple(rollout.prompts.instruction_ids[p] for p in prompts),
                tuple(rollout.prompts.media[p] for p in prompts),
            ),
            completion_ids=rollout.completion_ids[index],
            mask=rollout.mask[index],
            logps=rollout.logps[index],
            texts=tuple(rollout.texts[row] for row in rows),
        ),
        rewards=group.rewards[torch.tensor(rows, device=group.rewards.device)],
        advantages=group.advantages[index],
        reward_names=group.reward_names,
        group_rewards=torch.cat([group.group_rewards[p * whole :][:whole] for p in prompts]),
    )


def join_groups(groups: Sequence[ScoredGroup]) -> ScoredGroup:
    """Groups of several rollouts in one, completions padded to the longest."""
    rollouts = [group.rollout for group in groups]
    longest = max(rollout.mask.shape[1] for rollout in rollouts)

    def padded(tensors: Sequence[Tensor]) -> Tensor:
        # What stands beyond the mask has no effect.
        return torch.cat([F.pad(tensor, (0, longest - tensor.shape[1])) for tensor in tensors])

    return ScoredGroup(
        rollout=replace(
            rollouts[0],
            prompts=PromptInputs(
                tuple(ids for r in rollouts for ids in r.prompts.token_ids),
                tuple(ids for r in rollouts for ids in r.prompts.instruction_ids),
                tuple(media for r in rollouts for media in r.prompts.media),
            ),
            completion_ids=padded([r.completion_ids for r in rollouts]),
            mask=padded([r.mask for r in rollouts]),
            logps=padded([r.logps for r in rollouts]),
            texts=tuple(text for r in rollouts for text in r.texts),
        ),
        rewards=torch.cat([group.rewards for group in groups]),
        advantages=torch.cat([group.advantages for group in groups]),
        reward_names=groups[0].reward_names,
        group_rewards=torch.cat([group.group_rewards for group in groups]),
    )


def join_useful(
    rounds: Sequence[tuple[ScoredGroup, Sequence[Sample], Sequence[int]]], count: int
) -> tuple[list[Sample], ScoredGroup]:
    """The first `count` useful groups of several rounds, with their samples.

    Args:
        rounds: groups, their samples, and which of them are useful.
        count: at most as many as are useful.
    """
    chosen = [(group, samples, useful) for group, samples, useful in rounds if useful]
    joined = join_groups([select_group(group, useful) for group, _, useful in chosen])
    names = [samples[prompt] for _, samples, useful in chosen for prompt in useful]
    return names[:count], select_group(joined, range(count))


def minibatches(num_prompts: int, num_steps: int) -> list[list[int]]:
    """Prompts dealt to optimizer steps, in order and as evenly as can be; none is empty."""
    num_steps = min(num_steps, num_prompts)
    cuts = [num_prompts * step // num_steps for step in range(num_steps + 1)]
    return [list(range(cuts[i], cuts[i + 1])) for i in range(num_steps)]


def micro_batches(
    step: Experience, size: int | None, config: GRPOLossConfig, num_tokens: float
) -> Iterator[tuple[Experience, float]]:
    """Parts of an optimizer step's completions, each with the factor on its loss.

    With the factors the gradients of the parts add up to that of the whole, however it is
    divided: a loss that is a mean over completions or over tokens weighs as many of them as it
    has. dapo and cispo divide by the tokens of the whole rollout already.

    Args:
        step: what this rank learns from in the step.
        size: prompts in a part, or None for all.
        config: the loss.
        num_tokens: tokens of the step that a rank has on average.
    """
    size = size or len(step)
    for start in range(0, len(step), size):
        part = step.select(range(start, min(start + size, len(step))))
        if config.normalizes_over_batch_tokens:
            share = 1.0
        elif config.loss_type == "bnpo":
            share = float(part.loss_mask.sum()) / max(num_tokens, 1.0)
        else:
            share = len(part) / len(step)
        yield part, share
