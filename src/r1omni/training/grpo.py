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

from dataclasses import replace
from functools import partial
from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from r1omni.data.batch import Batch
from r1omni.media.config import FrameFit
from r1omni.models.adapters import LoRAConfig
from r1omni.models.omni import OmniModel
from r1omni.models.packed import completion_logps
from r1omni.models.parallelize import gathered, whole
from r1omni.ops import GRPOLoss, StepTotals, part_loss
from r1omni.ops.importance import importance_weights
from r1omni.training.data_checks import check_labels
from r1omni.training.dealing import Dealing
from r1omni.training.experience import (
    Experience,
    Round,
    micro_batches,
    minibatches,
    step_totals,
)
from r1omni.training.grpo_config import GRPOConfig, check_batch_size, check_trainer
from r1omni.training.grpo_log import StepLog
from r1omni.training.module import EmotionModule
from r1omni.training.nonfinite import grpo_batch
from r1omni.training.optimization import OptimizerConfig, Part, check_parts
from r1omni.training.reference import AdaptersOff, Reference, check_shared_reference, start_of
from r1omni.training.rollout import (
    high_entropy_mask,
    rollout_logps,
    sample_rollout,
    score_rollout,
    scored_group,
    terminated,
    useful_prompts,
)
from r1omni.types import Rollout, UsageError


class GRPOModule(EmotionModule):
    """GRPO on labelled clips, from a model that already answers in tags.

    Args:
        init_from: model folder to start from. A frozen copy of it is the reference; with `lora`
            the reference is the model without its adapters, and no copy is made.
        trainable: as for `EmotionModule`.
        optimizer: rates and schedule, over optimizer steps.
        max_new_tokens: longest completion in evaluation, in tokens; None is that of the sampling.
        grpo: sampling, rewards and loss.
        frame_fit: as for `EmotionModule`.
        lora: as for `EmotionModule`.
    """

    # A batch is one rollout, and a rollout may be learned from in several optimizer steps.
    automatic_optimization = False

    def __init__(
        self,
        init_from: str,
        trainable: list[Part] | None = None,
        optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-6),  # noqa: B008
        max_new_tokens: int | None = None,
        grpo: GRPOConfig = GRPOConfig(),  # noqa: B008 - frozen
        frame_fit: FrameFit | None = None,
        lora: LoRAConfig | None = None,
    ) -> None:
        check_parts(trainable)
        towers = [part for part in trainable or [] if part.endswith("_tower")]
        if towers:
            # A clip is encoded once, for the policy and the frozen reference alike.
            raise UsageError(f"model.trainable: GRPO keeps towers frozen; leave out {towers}")
        if lora and grpo.needs_reference:
            check_shared_reference(trainable, grpo)
        evaluated = grpo.max_new_tokens if max_new_tokens is None else max_new_tokens
        super().__init__(init_from, trainable, optimizer, evaluated, frame_fit, lora)
        self.grpo = grpo
        # In a list, so that it is no submodule; `configure_model` makes it where there is training.
        self._references: list[Reference | AdaptersOff] = []
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

    def configure_model(self) -> None:
        super().configure_model()
        fits = self.trainer.state.fn == TrainerFn.FITTING
        if fits and self.grpo.needs_reference and not self._references:
            # A checkpoint is restored after this: it is of the start in a resumed run, too.
            moves = self.grpo.ref_sync_steps > 0
            self._references.append(start_of(self.model, self.trainer.strategy, moves))

    # Collecting experience -------------------------------------------------------------------

    def _collect(self, batch: Batch) -> Experience:
        """Sample, score, and compute what the loss needs of the policy as it is now."""
        # Ranks may sample longer completions than others, or more of them.
        with gathered(self.model):
            scored = self._sample_and_score(batch, round_index=0)
            if self.grpo.max_refills:
                scored = self._refilled(scored)
        rollout = scored.rollout
        old_logps = self._logps(rollout) if self.grpo.needs_old_logps else None
        penalty = None
        if self.grpo.kl_in_reward:
            assert old_logps is not None
            penalty = self._penalty(rollout, old_logps)
        group = scored_group(rollout, scored.rewards, self.grpo, self.dealing, penalty)
        mask = rollout.mask
        if self.grpo.mask_truncated_completions:
            mask = mask & terminated(rollout)[:, None]
        weights = None
        if old_logps is not None:
            weights = importance_weights(
                old_logps, rollout.logps, rollout.mask,
                self.grpo.importance_correction, self.grpo.importance_cap,
            )  # fmt: skip
        uses_reference = self.grpo.loss.beta or self.grpo.log_kl
        return Experience(
            samples=scored.samples,
            group=group,
            loss_mask=mask,
            ref_logps=self._reference_logps(rollout) if uses_reference else None,
            old_logps=old_logps,
            importance_weights=weights,
        )

    def _refilled(self, first: Round) -> Round:
        """The prompts whose groups have advantages; others are replaced, in rounds."""
        wanted = num_sampled = len(first.samples)
        rounds = [self._useful(first)]
        for round_index in range(1, self.grpo.max_refills + 1):
            lacking = max(wanted - sum(len(part.samples) for part in rounds), 0)
            if self.dealing.fewest(-lacking) == 0:  # no rank lacks any
                break
            if not lacking:
                self.stoppable(lambda: None)  # others sample
                continue
            more = self.datamodule.draw(lacking, (self.grpo.seed, self.global_step, round_index))
            rounds.append(self._useful(self._sample_and_score(more, round_index)))
            num_sampled += lacking
        num_useful = sum(len(part.samples) for part in rounds)
        self.step_log.add("frac_dropped", 1 - num_useful / num_sampled)
        # Ranks take as many steps, so they learn from as many prompts as the poorest of them.
        shared = self.dealing.fewest(num_useful)
        if shared == 0:  # nothing to prefer: the first groups, whether or not they have advantages
            return first
        return Round.joined([part for part in rounds if part.samples]).select(range(shared))

    def _useful(self, scored: Round) -> Round:
        group_rewards, _ = self.dealing.whole_groups(scored.rewards)
        return scored.select(useful_prompts(group_rewards, self.grpo))

    def _sample_and_score(self, batch: Batch, round_index: int) -> Round:
        def sample_and_score() -> Round:
            with self.step_log.timed("generate"):
                rollout = self._sample(batch, round_index)
            with self.step_log.timed("reward"):
                rewards = score_rollout(rollout, batch.samples, self.grpo)
            return Round(tuple(batch.samples), rollout, rewards)

        scored: Round = self.stoppable(sample_and_score)
        return scored

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

    def _penalty(self, rollout: Rollout, old_logps: Tensor) -> Tensor:
        """float [N]: the divergence of each completion from the reference (k1, summed)."""
        divergence = (old_logps - self._reference_logps(rollout)) * rollout.mask
        summed = self.sum_over_ranks(torch.stack([divergence.sum(), rollout.mask.sum()]))
        self.step_log.add("kl", float(summed[0] / summed[1]))
        return self.grpo.kl_in_reward * divergence.sum(dim=1)

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
            self._references[0].active() as reference,
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
        chosen = high_entropy_mask(
            self.model, step.rollout, step.loss_mask, self.grpo, self.dealing
        )
        step = replace(step, entropy_mask=chosen)
        totals = step_totals(
            experience, step, min(self.grpo.steps_per_generation, len(experience)),
            self.trainer.world_size, self.sum_over_ranks,
        )  # fmt: skip
        for part in micro_batches(step, self.grpo.micro_batch_size):
            result = self._loss(part, totals)
            self.stop_unless_finite("loss", result.loss, partial(self._kept, part, totals))
            self.manual_backward(result.loss)
            self.step_log.add_loss(result, part.loss_mask, totals)
        norm = self._clip_gradients()
        self.stop_unless_finite("norm of the gradient", norm, partial(self._kept, step, totals))
        optimizer.step()
        schedule = self.lr_schedulers()
        assert isinstance(schedule, torch.optim.lr_scheduler.LambdaLR)
        schedule.step()
        self.step_log.end_update()
        every = self.grpo.ref_sync_steps
        if every and self.global_step % every == 0:
            self._moved_reference.move_towards(self.model, self.grpo.ref_mixup_alpha)

    def _loss(self, part: Experience, totals: StepTotals) -> GRPOLoss:
        """What a part of an optimizer step's experience adds to its loss."""
        rollout, temperature = part.rollout, self.grpo.temperature
        logps, entropies = self.model(
            lambda model: completion_logps(
                model, model.embed_prompts(rollout.prompts), rollout.completion_ids, rollout.mask,
                temperature=temperature, with_entropy=True,
            )
        )  # fmt: skip
        self.step_log.compare_with_sampler(logps, rollout)
        return part_loss(
            logps,
            part.group.advantages,
            part.loss_mask,
            old_logps=part.old_logps,
            ref_logps=part.ref_logps,
            entropies=entropies,
            importance_weights=part.importance_weights,
            entropy_mask=part.entropy_mask,
            config=self.grpo.loss_in_force,
            totals=totals,
        )

    def _clip_gradients(self) -> Tensor:
        """The norm of the gradients before they were scaled down, 0-dimensional."""
        trained = [p for p in self.parameters() if p.grad is not None]
        limit = self.grpo.max_grad_norm
        norm = whole(clip_grad_norm_(trained, float("inf") if limit is None else limit))
        self.step_log.add("grad_norm", float(norm))
        return norm

    def _kept(self, part: Experience, totals: StepTotals) -> dict[str, Any]:
        return grpo_batch(part, self.grpo.loss_in_force, totals, self.grpo.temperature)

    # Around the training --------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        self.datamodule.deals_batches = not self.dealing.across_ranks
        if stage == "fit":
            check_batch_size(self.grpo, self.datamodule.loader.batch_size)
            check_labels(self.datamodule, self.grpo.rewards)
        super().setup(stage)

    def configure_callbacks(self) -> list[L.Callback]:
        # Here, before Lightning refuses these in other words.
        check_trainer(self.trainer.gradient_clip_val, self.trainer.accumulate_grad_batches)
        return super().configure_callbacks()

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
