"""What one rollout gives to learn from, and how it is divided into passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from r1omni.ops import StepTotals
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
        entropy_mask: bool [N, C], tokens chosen for their entropy among those of an optimizer
            step, or None for all that are learned from.
    """

    samples: tuple[Sample, ...]
    group: ScoredGroup
    loss_mask: Tensor
    ref_logps: Tensor | None = None
    old_logps: Tensor | None = None
    importance_weights: Tensor | None = None
    entropy_mask: Tensor | None = None

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def rollout(self) -> Rollout:
        return self.group.rollout

    def select(self, prompts: Sequence[int]) -> Experience:
        """The part that belongs to some of the prompts."""
        rows = _rows(self.rollout, prompts).to(self.loss_mask.device)

        def of(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[rows]

        return Experience(
            samples=tuple(self.samples[p] for p in prompts),
            group=select_group(self.group, prompts),
            loss_mask=self.loss_mask[rows],
            ref_logps=of(self.ref_logps),
            old_logps=of(self.old_logps),
            importance_weights=of(self.importance_weights),
            entropy_mask=of(self.entropy_mask),
        )


def select_group(group: ScoredGroup, prompts: Sequence[int]) -> ScoredGroup:
    """The groups of some of the prompts."""
    rows = _rows(group.rollout, prompts)
    whole = len(group.group_rewards) // len(group.rollout.prompts)
    return ScoredGroup(
        rollout=select_rollout(group.rollout, prompts),
        rewards=group.rewards[rows.to(group.rewards.device)],
        advantages=group.advantages[rows.to(group.advantages.device)],
        reward_names=group.reward_names,
        group_rewards=torch.cat([group.group_rewards[p * whole :][:whole] for p in prompts]),
    )


def select_rollout(rollout: Rollout, prompts: Sequence[int]) -> Rollout:
    """The completions of some of the prompts."""
    rows = _rows(rollout, prompts)
    index = rows.to(rollout.mask.device)
    return replace(
        rollout,
        prompts=PromptInputs(
            tuple(rollout.prompts.token_ids[p] for p in prompts),
            tuple(rollout.prompts.instruction_ids[p] for p in prompts),
            tuple(rollout.prompts.media[p] for p in prompts),
        ),
        completion_ids=rollout.completion_ids[index],
        mask=rollout.mask[index],
        logps=rollout.logps[index],
        texts=tuple(rollout.texts[row] for row in rows.tolist()),
    )


def _rows(rollout: Rollout, prompts: Sequence[int]) -> Tensor:
    size = rollout.group_size
    rows = [p * size + member for p in prompts for member in range(size)]
    return torch.tensor(rows, dtype=torch.long)


@dataclass(frozen=True)
class Round:
    """Completions of some prompts with their rewards, before they are compared.

    Attributes:
        samples: B samples, one a prompt.
        rollout: their completions.
        rewards: float [N, K].
    """

    samples: tuple[Sample, ...]
    rollout: Rollout
    rewards: Tensor

    def select(self, prompts: Sequence[int]) -> Round:
        """The part that belongs to some of the prompts."""
        rows = _rows(self.rollout, prompts)
        rollout = select_rollout(self.rollout, prompts)
        return Round(tuple(self.samples[p] for p in prompts), rollout, self.rewards[rows])

    @classmethod
    def joined(cls, rounds: Sequence[Round]) -> Round:
        """Several rounds in one, completions padded to the longest."""
        rollouts = [part.rollout for part in rounds]
        longest = max(rollout.mask.shape[1] for rollout in rollouts)

        def padded(tensors: Sequence[Tensor]) -> Tensor:
            # What stands beyond the mask has no effect.
            return torch.cat([F.pad(tensor, (0, longest - tensor.shape[1])) for tensor in tensors])

        rollout = replace(
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
        )
        samples = tuple(sample for part in rounds for sample in part.samples)
        return cls(samples, rollout, torch.cat([part.rewards for part in rounds]))


def minibatches(num_prompts: int, num_steps: int) -> list[list[int]]:
    """Prompts dealt to optimizer steps, in order and as evenly as can be; none is empty."""
    num_steps = min(num_steps, num_prompts)
    cuts = [num_prompts * step // num_steps for step in range(num_steps + 1)]
    return [list(range(cuts[i], cuts[i + 1])) for i in range(num_steps)]


def step_totals(
    experience: Experience,
    step: Experience,
    num_steps: int,
    world_size: int,
    sum_over_ranks: Callable[[Tensor], Tensor],
) -> StepTotals:
    """The counts of an optimizer step; all ranks call this together.

    Args:
        experience: what this rank has of the rollout.
        step: the part of it that the step learns from.
        num_steps: optimizer steps of one pass over the rollout.
        world_size: ranks.
        sum_over_ranks: adds up what each rank has of a tensor.
    """
    carrying = step.loss_mask if step.entropy_mask is None else step.entropy_mask
    own = [mask.sum() for mask in (step.loss_mask, experience.loss_mask, carrying)]
    rows = own[0].new_tensor(len(step.loss_mask))
    completions, tokens, batch_tokens, carriers = sum_over_ranks(torch.stack([rows, *own])).tolist()
    return StepTotals(completions, tokens, batch_tokens / num_steps, carriers, world_size)


def micro_batches(step: Experience, size: int | None) -> Iterator[Experience]:
    """Parts of what this rank learns from in a step, of `size` prompts, or all in one for None."""
    size = size or len(step)
    for start in range(0, len(step), size):
        yield step.select(range(start, min(start + size, len(step))))
