"""Group relative policy optimization with verifiable rewards.

R1-Omni's recipe (arXiv 2503.05379; GRPO is arXiv 2402.03300, section 4.1). Unlike the published
code it reads a prompt once for its G completions, over its whole length and at the temperature of
the sampling, and an answer counts only inside well-formed tags. docs/one_step.md walks through it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import lightning as L
import torch

from r1omni.data.batch import Batch
from r1omni.media.config import FrameFit
from r1omni.models.adapters import LoRAConfig
from r1omni.models.flex import Attention
from r1omni.models.parallelize import gathered
from r1omni.ops import GRPOLoss, StepTotals
from r1omni.rewards.schedule import RewardWeights
from r1omni.streams import stream_seed
from r1omni.training.adaptive_entropy import EntropyCoefficient
from r1omni.training.advantages import in_force, kl_penalty, score_rollout, with_advantages
from r1omni.training.ahead import SamplesAhead
from r1omni.training.batch import RolloutBatch, step_totals, with_entropy_mask, with_old_logps
from r1omni.training.evidence import with_evidence
from r1omni.training.grpo_checks import check_fit, check_trained, check_trainer
from r1omni.training.grpo_config import GRPOConfig
from r1omni.training.grpo_log import StepLog
from r1omni.training.imitation import imitate
from r1omni.training.module import EmotionModule
from r1omni.training.nonfinite import grpo_batch, stop_unless_finite
from r1omni.training.optimization import OptimizerConfig, Part, clip_gradients
from r1omni.training.policy import Policy
from r1omni.training.ranks import RankLayout
from r1omni.training.reference import Reference, start_of
from r1omni.training.refill import refilled


class GRPOModule(EmotionModule):
    """GRPO on labelled clips, from a model that already answers in tags.

    Args:
        init_from: model folder to start from; the reference is its copy, or with `lora` itself.
        trainable, frame_fit, lora, activation_checkpointing, attention: as for `EmotionModule`.
        optimizer: rates and schedule, over optimizer steps.
        max_new_tokens: longest completion in evaluation, in tokens; None is that of the sampling.
        grpo: sampling, rewards and loss.
    """

    automatic_optimization = False  # a batch is a rollout, learned from in several steps

    def __init__(
        self,
        init_from: str,
        trainable: list[Part] | None = None,
        optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-6),  # noqa: B008
        max_new_tokens: int | None = None,
        grpo: GRPOConfig = GRPOConfig(),  # noqa: B008 - frozen
        frame_fit: FrameFit | None = None,
        lora: LoRAConfig | None = None,
        activation_checkpointing: bool = False,
        attention: Attention = "sdpa",
    ) -> None:
        check_trained(trainable, lora, grpo)
        evaluated = grpo.max_new_tokens if max_new_tokens is None else max_new_tokens
        shared = (frame_fit, lora, activation_checkpointing, attention)
        super().__init__(init_from, trainable, optimizer, evaluated, *shared)
        self.grpo = grpo
        self.policy = Policy(self.omni, grpo)
        self.reference: Reference | None = None  # the start, or moved since; in training only
        self.ahead = self.kept_states["sampled_ahead"] = SamplesAhead(self.policy)
        self.step_log = self.kept_states["num_tokens_seen"] = StepLog()
        self.reward_weights = self.kept_states["reward_weights"] = RewardWeights(grpo.rewards)
        self.entropy_coef = self.kept_states["entropy_coef"] = EntropyCoefficient(grpo)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        log = self.step_log.begin(self.device, self.global_step)
        rollouts = self.roll_out(batch)
        with self.ahead.sampling(self, rollouts), log.timed("update"):
            for _ in range(self.grpo.num_iterations):
                for step in rollouts.steps(self.grpo.steps_per_generation):
                    if self.global_step < self.trainer.max_steps:
                        self.update(rollouts, step)
        self.reward_weights.end_rollout()
        log.write(self, rollouts)

    # Roll out and score ----------------------------------------------------------------------

    @torch.no_grad()
    def roll_out(self, batch: Batch) -> RolloutBatch:
        """Completions of the prompts with their advantages, and what else the loss needs."""
        with gathered(self.model):  # ranks may sample longer completions than others, or more
            rollouts = self._sample_and_score(batch, round_index=0)
            grpo = in_force(self.grpo, self.reward_weights, rollouts, self.layout, self.global_step)
            if grpo.max_refills:
                rollouts, dropped = refilled(rollouts, self._sample_more, grpo, self.layout)
                self.step_log.add("frac_dropped", dropped)
        ref_logps = penalty = None
        if self.grpo.needs_old_logps:
            with self.step_log.timed("old_logps"):
                rollouts = with_old_logps(rollouts, self.policy)
        if self.reference is not None:
            with self.step_log.timed("reference"):
                ref_logps = self.reference.logps(rollouts.rollout)
        if self.grpo.kl_in_reward:
            mask, rate = rollouts.rollout.mask, self.grpo.kl_in_reward
            penalty, kl = kl_penalty(rollouts.old_logps, ref_logps, mask, rate)
            self.step_log.add_mean("kl", self.sum_over_ranks(kl))
        is_used = self.grpo.loss.beta or self.grpo.log_kl
        rollouts = replace(rollouts, ref_logps=ref_logps if is_used else None)
        return with_advantages(rollouts, grpo, self.layout, penalty)

    def seeds(self, batch: Batch, step: int, round_index: int = 0) -> list[int]:
        """N seeds of the completions that are learned from at an optimizer step."""
        stream = (self.grpo.seed, step, *([round_index] if round_index else []))
        return [stream_seed(*stream, *row) for row in self.layout.rows(batch.samples)]

    def _sample_and_score(self, batch: Batch, round_index: int) -> RolloutBatch:
        def sample_and_score() -> RolloutBatch:
            with self.step_log.timed("generate"):
                rollout = None if round_index else self.ahead.rollout_of(self, batch)
                if rollout is None:
                    seeds = self.seeds(batch, self.global_step, round_index)
                    rollout = self.policy.sample(self.encoded_prompts(batch), seeds)
                self.step_log.count_prompt_tokens(rollout)
            with self.step_log.timed("reward"):
                rewards = score_rollout(rollout, batch.samples, self.grpo, self.policy)
            return RolloutBatch.scored(batch.samples, rollout, rewards, self.grpo)

        return self.stoppable(sample_and_score)

    def _sample_more(self, num_prompts: int, round_index: int) -> RolloutBatch | None:
        """Other prompts of the training set; None where other ranks alone sample."""
        if not num_prompts:
            return self.stoppable(lambda: None)
        stream = (self.grpo.seed, self.global_step, round_index)
        return self._sample_and_score(self.datamodule.draw(num_prompts, stream), round_index)

    # Update ----------------------------------------------------------------------------------

    def update(self, rollouts: RolloutBatch, step: RolloutBatch) -> None:
        """One optimizer step on a part of the rollout."""
        optimizer: Any = self.optimizers()
        schedule: Any = self.lr_schedulers()
        optimizer.zero_grad()
        step = with_entropy_mask(step, self.policy, self.layout)
        if self.grpo.masked_modality.is_due(self.global_step):
            step = with_evidence(step, self.policy, self.neutral(), self.layout)
        totals = step_totals(
            rollouts, step, self.grpo.steps_per_generation, self.trainer.world_size,
            self.sum_over_ranks,
        )  # fmt: skip
        for part in step.micro_batches(self.grpo.micro_batch_size):
            result = self.loss(part, totals)
            stop_unless_finite(self, "loss", result.loss, partial(self._kept, part, totals))
            self.manual_backward(result.loss)
            self.step_log.add_loss(result, part.loss_mask, totals)
        imitate(self, totals)
        norm = clip_gradients(self.parameters(), self.grpo.max_grad_norm)
        self.step_log.add("grad_norm", float(norm))
        stop_unless_finite(self, "norm of the gradient", norm, partial(self._kept, step, totals))
        optimizer.step()
        schedule.step()
        self.entropy_coef.end_update(self.step_log, totals, self.sum_over_ranks)
        if self.reference is not None:
            self.reference.follow(self.model, self.global_step)

    def loss(self, part: RolloutBatch, totals: StepTotals) -> GRPOLoss:
        """What a micro-batch adds to the loss of its optimizer step."""
        result, logps = part.loss_of(self.model, self.entropy_coef.config_in_force(), totals)
        self.step_log.compare_with_sampler(logps, part)
        return result.scaled(1 - self.grpo.chord.mu(self.global_step))

    def _kept(self, part: RolloutBatch, totals: StepTotals) -> dict[str, Any]:
        return grpo_batch(part, self.entropy_coef.config_in_force(), totals)

    # Around the training ---------------------------------------------------------------------

    @property
    def layout(self) -> RankLayout:
        """This rank's part in the groups."""
        return RankLayout.of(self, self.grpo)

    @property
    def splits_batches(self) -> bool:
        return not self.layout.across_ranks

    def setup(self, stage: str) -> None:
        if stage == "fit":
            check_fit(self.grpo, self.trainer, self.datamodule, self.omni)
            self.ahead.load(None)
        super().setup(stage)

    def configure_model(self) -> None:
        super().configure_model()
        if self._fits and self.grpo.needs_reference and self.reference is None:
            # A checkpoint is restored after this: it is of the start in a resumed run, too.
            self.reference = start_of(self.policy, self.trainer.strategy)
            if self.grpo.ref_sync_steps:
                self.kept_states["reference"] = self.reference

    def configure_callbacks(self) -> list[L.Callback]:  # before Lightning's own refusals
        check_trainer(self.trainer.gradient_clip_val, self.trainer.accumulate_grad_batches)
        return super().configure_callbacks()
