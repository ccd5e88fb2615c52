"""Group relative policy optimization with verifiable rewards.

R1-Omni's recipe (arXiv 2503.05379; GRPO is arXiv 2402.03300, section 4.1) and where this departs
from the published code:

- any number of prompts in a batch, each padded and masked for itself;
- a clip is decoded and encoded once, and a prompt is read once for its G completions;
- log-probabilities are taken over the whole prompt, at the temperature of the sampling;
- an answer counts only inside well-formed tags.

    python -m r1omni fit --config configs/mini/r1omni.yaml
"""

from __future__ import annotations

from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from r1omni.data.batch import Batch
from r1omni.media.config import FrameFit
from r1omni.models.adapters import LoRAConfig
from r1omni.models.omni import OmniModel
from r1omni.models.packed import completion_logps
from r1omni.models.parallelize import gathered, parallelize, whole
from r1omni.ops import GRPOLoss, grpo_loss
from r1omni.ops.importance import importance_weights
from r1omni.training.data_checks import check_labels
from r1omni.training.dealing import Dealing
from r1omni.training.experience import (
    Experience,
    join_useful,
    micro_batches,
    minibatches,
)
from r1omni.training.grpo_config import GRPOConfig, check_trainer
from r1omni.training.grpo_log import StepLog
from r1omni.training.module import EmotionModule
from r1omni.training.nonfinite import grpo_batch
from r1omni.training.optimization import OptimizerConfig
from r1omni.training.reference import AdaptersOff, Reference, check_shared_reference
from r1omni.training.rollout import (
    rollout_logps,
    sample_rollout,
    score_rollout,
    scored_group,
    terminated,
    useful_prompts,
)
from r1omni.training.sharded import FSDP2Strategy
from r1omni.types import Rollout, Sample, ScoredGroup, UsageError


class GRPOModule(EmotionModule):
    """GRPO on labelled clips, from a model that already answers in tags.

    Args:
        init_from: model folder to start from. A frozen copy of it is the reference; with `lora`
            the reference is the model without its adapters, and no copy is made.
        trainable: as for `EmotionModule`.
        optimizer: rates and schedule, over optimizer steps.
        max_new_tokens: longest completion in evaluation, in tokens.
        grpo: sampling, rewards and loss.
        frame_fit: as for `EmotionModule`.
        lora: as for `EmotionModule`.
    """

    # A batch is one rollout, and a rollout may be learned from in several optimizer steps.
    automatic_optimization = False

    def __init__(
        self,
        init_from: str,
        trainable: list[str] | None = None,
        optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-6),  # noqa: B008
        max_new_tokens: int = 512,
        grpo: GRPOConfig = GRPOConfig(),  # noqa: B008 - frozen
        frame_fit: FrameFit | None = None,
        lora: LoRAConfig | None = None,
    ) -> None:
        towers = [part for part in trainable or [] if part.endswith("_tower")]
        if towers:
            # A clip is encoded once, for the policy and the frozen reference alike.
            raise UsageError(f"model.trainable: GRPO keeps towers frozen; leave out {towers}")
        if lora and grpo.needs_reference:
            check_shared_reference(trainable, grpo)
        super().__init__(init_from, trainable, optimizer, max_new_tokens, frame_fit, lora)
        self.grpo = grpo
        # In a list, so that it is no submodule: it is not trained, and a resumed run copies the
        # same init_from again.
        self._references: list[Reference | AdaptersOff] = []
        if grpo.needs_reference:
            own = AdaptersOff(self.model) if lora else Reference(self.frozen_copy())
            self._references.append(own)
        self.step_log = StepLog()

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        log = self.step_log.begin(self.device, self.global_step)
        experience = self._collect(batch)
        with log.timed("update"):
            for _ in range(self.grpo.num_iterations):
                for prompts in minibatches(len(experience), self.grpo.steps_per_generation):
                    if self.global_step < self.trainer.max_steps:
                        self._update(experience, experience.select(prompts))
        log.write(self, experience)

    def _shard(self, strategy: FSDP2Strategy) -> None:
        super()._shard(strategy)
        for reference in self._references:
            if isinstance(reference, Reference) and strategy.sharding.shard_reference:
                parallelize(reference.model, strategy.device_mesh, strategy.sharding)

    # Collecting experience -------------------------------------------------------------------

    def _collect(self, batch: Batch) -> Experience:
        """Sample, score, and compute what the loss needs of the policy as it is now."""
        # Ranks may sample longer completions than others, or more of them.
        with gathered(self.model):
            samples, group = self._scored_groups(batch)
        rollout = group.rollout
        old_logps = self._logps(rollout) if self.grpo.needs_old_logps else None
        if self.grpo.kl_in_reward:
            assert old_logps is not None
            group = self._penalized(group, old_logps)
        mask = rollout.mask
        if self.grpo.mask_truncated_completions:
            mask = mask & terminated(rollout)[:, None]
        return Experience(
            samples=tuple(samples),
            group=group,
            loss_mask=mask,
            ref_logps=self._reference_logps(rollout)
            if self.grpo.loss.beta or self.grpo.log_kl
            else None,
            old_logps=old_logps,
            importance_weights=None
            if old_logps is None
            else importance_weights(
                old_logps,
                rollout.logps,
                rollout.mask,
                self.grpo.importance_correction,
                self.grpo.importance_cap,
            ),
        )

    def _scored_groups(self, batch: Batch) -> tuple[list[Sample], ScoredGroup]:
        """Samples and scored completions; groups without advantages are replaced in rounds."""
        group = self._sample_and_score(batch, round_index=0)
        samples = list(batch.samples)
        if not self.grpo.max_refills:
            return samples, group
        wanted, num_sampled = len(samples), len(samples)
        kept = [(group, samples, useful_prompts(group, self.grpo))]
        for round_index in range(1, self.grpo.max_refills + 1):
            lacking = max(wanted - sum(len(useful) for _, _, useful in kept), 0)
            if self.dealing.fewest(-lacking) == 0:  # no rank lacks any
                break
            if not lacking:
                self.stoppable(lambda: None)  # others sample
                continue
            more = self.datamodule.draw(lacking, (self.grpo.seed, self.global_step, round_index))
            group = self._sample_and_score(more, round_index)
            kept.append((group, list(more.samples), useful_prompts(group, self.grpo)))
            num_sampled += lacking
        num_useful = sum(len(useful) for _, _, useful in kept)
        self.step_log.add("frac_dropped", 1 - num_useful / num_sampled)
        # Ranks take as many steps, so they learn from as many prompts as the poorest of them.
        shared = self.dealing.fewest(num_useful)
        if shared == 0:  # nothing to prefer: the first groups, whether or not they have advantages
            return kept[0][1], kept[0][0]
        return join_useful(kept, shared)

    def _sample_and_score(self, batch: Batch, round_index: int) -> ScoredGroup:
        def sample_and_score() -> tuple[Rollout, Tensor]:
            with self.step_log.timed("generate"):
                rollout = self._sample(batch, round_index)
            with self.step_log.timed("reward"):
                return rollout, score_rollout(rollout, batch.samples, self.grpo)

        rollout, rewards = self.stoppable(sample_and_score)
        return scored_group(rollout, rewards, self.grpo, self.dealing)

    @torch.no_grad()
    def _sample(self, batch: Batch, round_index: int) -> Rollout:
        prompts = self.encoded_prompts(batch)
        stream = (self.grpo.seed, self.global_step)

        def sampled(model: OmniModel) -> Rollout:
            embedded = model.embed_prompts(prompts)
            self.step_log.count_prompt_tokens(embedded)
            return sample_rollout(
                self.omni,
                prompts,
                embedded,
                self.omni.sampling(self.grpo.max_new_tokens, self.grpo.temperature),
                members=self.dealing.members,
                stream=(*stream, round_index) if round_index else stream,
                sample_ids=[s.sample_id for s in batch.samples],
            )

        return self.model(sampled)

    def _penalized(self, group: ScoredGroup, old_logps: Tensor) -> ScoredGroup:
        """The rewards less the divergence of each completion from the reference (k1, summed)."""
        rollout = group.rollout
        divergence = (old_logps - self._reference_logps(rollout)) * rollout.mask
        penalty = self.grpo.kl_in_reward * divergence.sum(dim=1)
        self.step_log.add("kl", float(divergence.sum() / rollout.mask.sum()))
        return scored_group(rollout, group.rewards, self.grpo, self.dealing, penalty)

    @property
    def dealing(self) -> Dealing:
        """This rank's part in the groups."""

        def gather(values: Tensor) -> Tensor:
            everyone = self.all_gather(values.to(self.device))
            assert isinstance(everyone, Tensor)
            return everyone.cpu().view(self.trainer.world_size, *values.shape)

        ranks = self.trainer.global_rank, self.trainer.world_size
        return Dealing(*ranks, self.grpo.group_size, self.grpo.groups_across_ranks, gather)

    @torch.no_grad()
    def _reference_logps(self, rollout: Rollout) -> Tensor:
        with (
            self.step_log.timed("reference"),
            self._references[0].active(self.device) as reference,
        ):
            return rollout_logps(reference, rollout, self.grpo)

    @torch.no_grad()
    def _logps(self, rollout: Rollout) -> Tensor:
        with self.step_log.timed("old_logps"):
            return rollout_logps(self.model, rollout, self.grpo)

    # Updating -------------------------------------------------------------------------------

    def _update(self, experience: Experience, step: Experience) -> None:
        """One optimizer step on a part of the experience."""
        optimizer = self.optimizers()
        assert isinstance(optimizer, L.pytorch.core.optimizer.LightningOptimizer)
        optimizer.zero_grad()
        num_tokens = self._num_tokens(experience)
        num_steps = min(self.grpo.steps_per_generation, len(experience))
        step_tokens = float(self._num_tokens(step)) / self.trainer.world_size
        for part, share in micro_batches(
            step, self.grpo.micro_batch_size, self.grpo.loss, step_tokens
        ):
            result = self._loss(part, num_tokens, num_steps)
            self.stop_unless_finite("loss", result.loss, partial(self._kept, part))
            self.manual_backward(result.loss * share)
            self.step_log.add_loss(result, share, len(part) / len(step))
        norm = self._clip_gradients()
        self.stop_unless_finite("norm of the gradient", norm, partial(self._kept, step))
        optimizer.step()
        schedule = self.lr_schedulers()
        assert isinstance(schedule, torch.optim.lr_scheduler.LambdaLR)
        schedule.step()
        self.step_log.end_update()
        every = self.grpo.ref_sync_steps
        if every and self.global_step % every == 0:
            self._moved_reference.move_towards(self.model, self.grpo.ref_mixup_alpha)

    def _loss(self, part: Experience, num_tokens: Tensor, num_steps: int) -> GRPOLoss:
        """The loss of a part.

        Args:
            part: of an optimizer step's experience.
            num_tokens: tokens of the whole rollout.
            num_steps: optimizer steps that one pass over the rollout takes.
        """
        rollout, temperature = part.rollout, self.grpo.temperature
        logps, entropies = self.model(
            lambda model: completion_logps(
                model, model.embed_prompts(rollout.prompts), rollout.completion_ids, rollout.mask,
                temperature=temperature, with_entropy=True,
            )
        )  # fmt: skip
        self.step_log.compare_with_sampler(logps, rollout)
        return grpo_loss(
            logps,
            part.group.advantages,
            part.loss_mask,
            old_logps=part.old_logps,
            ref_logps=part.ref_logps,
            entropies=entropies,
            importance_weights=part.importance_weights,
            config=self.grpo.loss,
            num_batch_tokens=num_tokens,
            world_size=self.trainer.world_size,
            steps_per_generation=num_steps,
        )

    def _num_tokens(self, experience: Experience) -> Tensor:
        """Tokens that are learned from, over all ranks."""
        return self.sum_over_ranks(experience.loss_mask.sum())

    def _clip_gradients(self) -> Tensor:
        """The norm of the gradients before they were scaled down, 0-dimensional."""
        trained = [p for p in self.parameters() if p.grad is not None]
        limit = self.grpo.max_grad_norm
        norm = whole(clip_grad_norm_(trained, float("inf") if limit is None else limit))
        self.step_log.add("grad_norm", float(norm))
        return norm

    def _kept(self, part: Experience) -> dict[str, Any]:
        return grpo_batch(part, self.grpo.loss, self.grpo.temperature)

    # Around the training --------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        self.datamodule.deals_batches = not self.dealing.across_ranks
        if stage == "fit":
            check_labels(self.datamodule, self.grpo.rewards)
        super().setup(stage)

    def configure_callbacks(self) -> list[L.Callback]:
        # The first hook that knows the trainer, before Lightning refuses these in other words.
        check_trainer(self.trainer.gradient_clip_val, self.trainer.accumulate_grad_batches)
        return []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["r1omni"]["num_tokens_seen"] = self.step_log.num_tokens_seen
        if self.grpo.ref_sync_steps:
            checkpoint["r1omni"]["reference"] = self._moved_reference.state(self.trained_names())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.step_log.num_tokens_seen = checkpoint["r1omni"].get("num_tokens_seen", 0)
        if self.grpo.ref_sync_steps:
            self._moved_reference.load(checkpoint["r1omni"].get("reference"))

    @property
    def _moved_reference(self) -> Reference:
        """The reference, where `ref_sync_steps` moves it."""
        (reference,) = self._references
        assert isinstance(reference, Reference)  # refused with adapters
        return reference
