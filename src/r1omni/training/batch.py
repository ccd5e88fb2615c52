"""What one rollout gives to learn from, and how it is divided into optimizer steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from r1omni.models.omni import OmniModel
from r1omni.ops import (
    GRPOLoss,
    GRPOLossConfig,
    MaskedModality,
    StepTotals,
    TokenObjective,
    part_loss,
)
from r1omni.ops.importance import importance_weights
from r1omni.ops.step_totals import entropy_threshold
from r1omni.training.grpo_config import GRPOConfig
from r1omni.training.policy import Policy
from r1omni.training.ranks import RankLayout
from r1omni.types import ClipFeatures, PromptInputs, Rollout, Sample

# Nats. The first tokens of a group have one distribution, whose entropies differ by roundoff: a
# threshold among them would choose by chance.
_SAME_ENTROPY = 1e-5


@dataclass(frozen=True)
class RolloutBatch:
    """Sampled completions with all that the loss needs of them, group members side by side.

    It is filled in order: sampled and scored, compared with its groups, and weighed by what the
    policy and the reference say of it.

    Attributes:
        samples: B samples, one a prompt.
        rollout: the completions of their prompts.
        rewards: float32 [N, K], one column a reward function, NaN where it returned None.
        reward_names: K names.
        loss_mask: bool [N, C], the tokens that are learned from.
        advantages: float32 [N]; [0] before groups are compared.
        group_rewards: float32 [B * G, K], rewards of all members of the groups, for what is
            logged; `rewards` itself unless members of a group are on several ranks. Of the whole
            rollout, also in a part of it.
        ref_logps: float32 [N, C] under the reference, or None.
        old_logps: float32 [N, C] that ratios compare with, or None where none is needed
            (`with_old_logps`).
        importance_weights: float32 [N, C] or [N, 1], or None.
        entropy_mask: bool [N, C], tokens chosen for their entropy among those of an optimizer
            step, or None for all that are learned from.
        evidence: bool [N, C, M], the tokens that describe each of M media, or None
            (`r1omni.training.evidence`).
        masked_media: for each of these media, the clips of the B prompts without it.
    """

    samples: tuple[Sample, ...]
    rollout: Rollout
    rewards: Tensor
    reward_names: tuple[str, ...]
    loss_mask: Tensor
    advantages: Tensor
    group_rewards: Tensor
    ref_logps: Tensor | None = None
    old_logps: Tensor | None = None
    importance_weights: Tensor | None = None
    entropy_mask: Tensor | None = None
    evidence: Tensor | None = None
    masked_media: tuple[tuple[ClipFeatures, ...], ...] = ()

    @classmethod
    def scored(
        cls, samples: Sequence[Sample], rollout: Rollout, rewards: Tensor, config: GRPOConfig
    ) -> RolloutBatch:
        """Completions with their rewards, before they are compared."""
        nothing = rollout.logps.new_zeros(0)
        mask = rollout.mask
        if config.mask_truncated_completions:
            mask = mask & rollout.ended[:, None]
        return cls(tuple(samples), rollout, rewards, config.reward_names, mask, nothing, rewards)

    def __len__(self) -> int:
        return len(self.samples)

    def select(self, prompts: Sequence[int]) -> RolloutBatch:
        """The part that belongs to some of the prompts."""
        rollout, size = self.rollout, self.rollout.group_size
        rows = torch.tensor([p * size + m for p in prompts for m in range(size)], dtype=torch.long)

        def of(tensor: Tensor) -> Tensor:
            return tensor[rows.to(tensor.device)] if len(tensor) else tensor

        part = replace(
            rollout,
            prompts=PromptInputs(
                tuple(rollout.prompts.token_ids[p] for p in prompts),
                tuple(rollout.prompts.instruction_ids[p] for p in prompts),
                tuple(rollout.prompts.media[p] for p in prompts),
            ),
            completion_ids=of(rollout.completion_ids),
            mask=of(rollout.mask),
            logps=of(rollout.logps),
            texts=tuple(rollout.texts[row] for row in rows.tolist()),
            prompt_lengths=tuple(rollout.prompt_lengths[p] for p in prompts),
        )
        tensors: dict[str, Any] = {
            name: of(value)
            for name, value in vars(self).items()
            if isinstance(value, Tensor) and name != "group_rewards"
        }
        samples = tuple(self.samples[p] for p in prompts)
        masked = tuple(tuple(clips[p] for p in prompts) for clips in self.masked_media)
        return replace(self, samples=samples, rollout=part, masked_media=masked, **tensors)

    @classmethod
    def joined(cls, batches: Sequence[RolloutBatch]) -> RolloutBatch:
        """Several scored batches in one, completions padded to the longest."""
        rollouts = [batch.rollout for batch in batches]
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
            prompt_lengths=tuple(length for r in rollouts for length in r.prompt_lengths),
        )
        samples = tuple(sample for batch in batches for sample in batch.samples)
        rewards = torch.cat([batch.rewards for batch in batches])
        mask = padded([batch.loss_mask for batch in batches])
        return replace(
            batches[0], samples=samples, rollout=rollout, rewards=rewards, group_rewards=rewards,
            loss_mask=mask,
        )  # fmt: skip

    def loss_of(
        self, model: OmniModel, config: GRPOConfig, totals: StepTotals
    ) -> tuple[GRPOLoss, Tensor]:
        """What this part of an optimizer step adds to its loss: the pass with a gradient.

        Where the loss is a term a token, one operator makes it and its gradients from hidden
        states; the log-probabilities then serve the metrics alone. A loss with the masked-modality
        term is not made so: it asks for the gradient of log-probabilities themselves.

        Args:
            model: the policy's.
            config: which loss, and whether it is fused.
            totals: counts of the whole step.

        Returns:
            The loss with its metrics; log-probabilities [N, C].
        """
        rollout, loss = self.rollout, config.loss_in_force
        tokens = (rollout.prompts, rollout.completion_ids, rollout.mask)
        if not config.fuses_loss(model.lm_head.weight):
            logps, entropies = model.completion_logps(
                *tokens, temperature=loss.temperature, with_entropy=config.with_entropy
            )
            masked_logps = self.masked_logps(model, loss.temperature)
            masked = None if masked_logps is None else config.masked_modality
            result = self.loss(logps, entropies, loss, totals, masked, masked_logps)
            return result, logps
        objective = TokenObjective.of_part(
            self.advantages, self.loss_mask, old_logps=self.old_logps, ref_logps=self.ref_logps,
            importance_weights=self.importance_weights, entropy_mask=self.entropy_mask,
            config=loss, totals=totals,
        )  # fmt: skip
        computed, logps, entropies = model.completion_loss(
            *tokens, objective, with_entropy=config.with_entropy
        )
        return replace(self.loss(logps, entropies, loss, totals), loss=computed), logps

    def loss(
        self,
        logps: Tensor,
        entropies: Tensor | None,
        config: GRPOLossConfig,
        totals: StepTotals,
        masked_modality: MaskedModality | None = None,
        masked_logps: Tensor | None = None,
    ) -> GRPOLoss:
        """The same from log-probabilities [N, C]; arguments as for `part_loss`."""
        return part_loss(
            logps, self.advantages, self.loss_mask, old_logps=self.old_logps,
            ref_logps=self.ref_logps, entropies=entropies,
            importance_weights=self.importance_weights, entropy_mask=self.entropy_mask,
            evidence=self.evidence, masked_logps=masked_logps,
            masked_modality=masked_modality, config=config, totals=totals,
        )  # fmt: skip

    def masked_logps(self, model: OmniModel, temperature: float) -> Tensor | None:
        """Log-probabilities [N, C, M] without each medium, with a gradient; None without evidence.

        Each medium takes a pass of its own, which reads each prompt once for its completions.
        """
        if self.evidence is None:
            return None
        rollout = self.rollout
        columns = [
            model.completion_logps(
                replace(rollout.prompts, media=clips), rollout.completion_ids, rollout.mask,
                temperature=temperature,
            )[0]
            for clips in self.masked_media
        ]  # fmt: skip
        empty = rollout.logps.new_zeros(self.evidence.shape)
        return torch.stack(columns, dim=-1) if columns else empty

    def steps(self, num_steps: int) -> Iterator[RolloutBatch]:
        """The parts that optimizer steps learn from, in order and as even as can be; none empty."""
        num_steps = min(num_steps, len(self))
        cuts = [len(self) * step // num_steps for step in range(num_steps + 1)]
        for start, stop in pairwise(cuts):
            yield self.select(range(start, stop))

    def num_updates(self, config: GRPOConfig) -> int:
        """Optimizer steps that a training learns from it in, unless the training ends before."""
        return config.num_iterations * min(config.steps_per_generation, len(self))

    def micro_batches(self, size: int | None) -> Iterator[RolloutBatch]:
        """Parts of `size` prompts, or all in one for None."""
        size = size or len(self)
        for start in range(0, len(self), size):
            yield self.select(range(start, min(start + size, len(self))))


def with_old_logps(batch: RolloutBatch, policy: Policy) -> RolloutBatch:
    """A rollout with what ratios compare the policy with, and its correction of the sampler.

    That is the policy as it is now, before any update on the rollout. It is the one that sampled,
    but with `overlap_sampling`, where the correction then is for its lag, too (the decoupled
    objective of arXiv 2505.24298). There without a correction, ratios compare with what was
    recorded while sampling.
    """
    config, rollout = policy.config, batch.rollout
    if config.overlap_sampling and config.importance_correction == "none":
        return replace(batch, old_logps=rollout.logps)
    old_logps = policy.logps(rollout)
    weights = importance_weights(
        old_logps, rollout.logps, rollout.mask, config.importance_correction,
        config.importance_cap,
    )  # fmt: skip
    return replace(batch, old_logps=old_logps, importance_weights=weights)


def step_totals(
    batch: RolloutBatch,
    step: RolloutBatch,
    num_steps: int,
    world_size: int,
    sum_over_ranks: Callable[[Tensor], Tensor],
) -> StepTotals:
    """The counts of an optimizer step; all ranks call this together.

    Args:
        batch: what this rank has of the rollout.
        step: the part of it that the step learns from.
        num_steps: optimizer steps of one pass over the rollout; those of a smaller batch are as
            many as its prompts.
        world_size: ranks.
        sum_over_ranks: adds up what each rank has of a tensor.
    """
    num_steps = min(num_steps, len(batch))
    carrying = step.loss_mask if step.entropy_mask is None else step.entropy_mask
    own = [mask.sum() for mask in (step.loss_mask, batch.loss_mask, carrying)]
    rows = own[0].new_tensor(len(step.loss_mask))
    evidence = torch.zeros_like(rows) if step.evidence is None else step.evidence.sum()
    counts = sum_over_ranks(torch.stack([rows, *own, evidence])).tolist()
    completions, tokens, batch_tokens, carriers, evidence_tokens = counts
    return StepTotals(
        completions, tokens, batch_tokens / num_steps, carriers, world_size, evidence_tokens
    )


def with_entropy_mask(step: RolloutBatch, policy: Policy, layout: RankLayout) -> RolloutBatch:
    """The step with the tokens that `top_entropy_quantile` keeps; all ranks call this together.

    The quantile is over the tokens of all micro-batches and ranks, and of the policy as it is now,
    which takes a pass of its own before the first gradient. Tokens that reach it but for roundoff
    are kept.
    """
    quantile = policy.config.loss.top_entropy_quantile
    if quantile == 1:
        return step
    entropies, mask = policy.entropies(step.rollout), step.loss_mask
    everyone = layout.gathered(entropies.masked_fill(~mask, float("nan")))
    reached = entropies >= entropy_threshold(everyone, quantile) - _SAME_ENTROPY
    return replace(step, entropy_mask=mask & reached)
