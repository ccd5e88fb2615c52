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

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from r1omni.data.batch import Batch
from r1omni.media.config import FrameFit
from r1omni.models.packed import completion_logps
from r1omni.ops import GRPOLoss, GRPOLossConfig, grpo_loss
from r1omni.rewards import RewardSpec, get_reward
from r1omni.training.module import EmotionModule
from r1omni.training.optimization import OptimizerConfig
from r1omni.training.rollout import rollout_metrics, sample_rollout, score_rollout
from r1omni.types import PromptInputs, Rollout, ScoredGroup, UsageError


@dataclass(frozen=True)
class GRPOConfig:
    """How completions are sampled, scored and learned from.

    Attributes:
        group_size: G, completions sampled for each prompt.
        temperature: of the sampling, and of every log-probability.
        max_new_tokens: longest completion, in tokens.
        rewards: reward functions with their weights.
        scale_rewards: what advantages are divided by: "group" (its standard deviation),
            "batch" or "none".
        loss: the loss; R1-Omni's is the default.
        seed: of the sampling; with the step, the sample and the member's index it fixes every
            completion.
        log_completions_every: steps between samples of completions in MLflow; 0 logs none.
    """

    group_size: int = 8
    temperature: float = 1.0
    max_new_tokens: int = 512
    rewards: list[RewardSpec] = field(
        default_factory=lambda: [RewardSpec("accuracy"), RewardSpec("format")]
    )
    scale_rewards: str = "group"
    loss: GRPOLossConfig = field(default_factory=GRPOLossConfig)
    seed: int = 0
    log_completions_every: int = 20

    def __post_init__(self) -> None:
        if self.group_size < 2:
            raise UsageError(
                f"grpo.group_size is {self.group_size}; a group needs at least 2 completions, "
                "or no completion can be better than its siblings"
            )
        if self.temperature <= 0:
            raise UsageError(f"grpo.temperature is {self.temperature}; it must be above 0")
        if not self.rewards:
            raise UsageError("grpo.rewards is empty; name at least one reward function")
        for reward in self.rewards:
            get_reward(reward.name)  # a typing error should not cost a rollout


class GRPOModule(EmotionModule):
    """GRPO on labelled clips, from a model that already answers in tags.

    Args:
        init_from: model folder to start from; a frozen copy of it is the reference.
        trainable: as for `EmotionModule`.
        optimizer: rates and schedule.
        max_new_tokens: longest completion in evaluation, in tokens.
        grpo: sampling, rewards and loss.
        frame_fit: as for `EmotionModule`.
    """

    def __init__(
        self,
        init_from: str,
        trainable: list[str] | None = None,
        optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-6),  # noqa: B008
        max_new_tokens: int = 512,
        grpo: GRPOConfig = GRPOConfig(),
        frame_fit: FrameFit | None = None,
    ) -> None:
        towers = [part for part in trainable or [] if part.endswith("_tower")]
        if towers:
            # A clip is encoded once, for the policy and the frozen reference alike.
            raise UsageError(f"model.trainable: GRPO keeps towers frozen; leave out {towers}")
        super().__init__(init_from, trainable, optimizer, max_new_tokens, frame_fit)
        self.grpo = grpo
        self.num_tokens_seen = 0
        # In a list, so that it is no submodule: it is not trained and not checkpointed, a
        # resumed run copies the same init_from again.
        self._reference = [self.frozen_copy()] if grpo.loss.beta != 0 else []
        self._durations: dict[str, float] = {}
        self._update_started = 0.0
        self._completion_tokens = 0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        prompts = self._encoded_prompts(batch)
        with self._timed("generate"):
            embedded = self.model.embed_prompts(prompts)
            rollout = self._sample(prompts, embedded, batch)
        with self._timed("reward"):
            group = score_rollout(rollout, batch, self.grpo.rewards, self.grpo.scale_rewards)
        with self._timed("reference"):
            ref_logps = self._reference_logps(rollout)
        self._update_started = time.perf_counter()
        logps, entropies = self._policy_logps(embedded, rollout)
        result = grpo_loss(
            logps,
            group.advantages,
            rollout.mask,
            ref_logps=ref_logps,
            entropies=entropies,
            config=self.grpo.loss,
        )
        self._log_step(group, logps, batch, result, sum(map(len, embedded)))
        return result.loss

    # The parts of a step --------------------------------------------------------------------

    def _encoded_prompts(self, batch: Batch) -> PromptInputs:
        """The prompts with their clips encoded, for the policy and the reference alike."""
        prompts = self.prompts(batch)
        with torch.no_grad():
            features = tuple(self.model.encode_media(prompts.media))
        return PromptInputs(prompts.token_ids, prompts.instruction_ids, features)

    def _sample(self, prompts: PromptInputs, embedded: list[Tensor], batch: Batch) -> Rollout:
        return sample_rollout(
            self.omni,
            prompts,
            embedded,
            self.omni.sampling(self.grpo.max_new_tokens, self.grpo.temperature),
            group_size=self.grpo.group_size,
            stream=(self.grpo.seed, self.global_step),
            sample_ids=[s.sample_id for s in batch.samples],
        )

    @torch.no_grad()
    def _reference_logps(self, rollout: Rollout) -> Tensor | None:
        if not self._reference:
            return None
        reference = self._reference[0].to(self.device)
        embedded = reference.embed_prompts(rollout.prompts)
        return completion_logps(
            reference,
            embedded,
            rollout.completion_ids,
            rollout.mask,
            temperature=self.grpo.temperature,
        )[0]

    def _policy_logps(self, embedded: list[Tensor], rollout: Rollout) -> tuple[Tensor, Tensor]:
        logps, entropies = completion_logps(
            self.model,
            embedded,
            rollout.completion_ids,
            rollout.mask,
            temperature=self.grpo.temperature,
            with_entropy=True,
        )
        assert entropies is not None
        return logps, entropies

    # Logging --------------------------------------------------------------------------------

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._durations[f"time/{name}"] = time.perf_counter() - start

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        # The update ends here, after the backward pass and the optimizer's step.
        self._durations["time/update"] = time.perf_counter() - self._update_started
        seconds = sum(self._durations.values())
        speed = {"tokens_per_second": self._completion_tokens / seconds}
        self.log_dict({**self._durations, **speed}, batch_size=len(batch))

    def _log_step(
        self,
        group: ScoredGroup,
        logps: Tensor,
        batch: Batch,
        result: GRPOLoss,
        prompt_tokens: int,
    ) -> None:
        rollout = group.rollout
        self._completion_tokens = int(rollout.mask.sum())
        self.num_tokens_seen += prompt_tokens + self._completion_tokens
        weights = torch.tensor([spec.weight for spec in self.grpo.rewards])
        drift = (logps.detach() - rollout.logps).abs()[rollout.mask].max()
        metrics = {
            "loss": float(result.loss.detach()),
            **{name: float(value) for name, value in result.metrics.items()},
            **rollout_metrics(group, weights, self.grpo.scale_rewards),
            "num_tokens": float(self.num_tokens_seen),
            "sampling_logp_difference": float(drift),
        }
        self.log_dict(metrics, batch_size=len(batch))
        self.log("mean_reward", metrics["reward"], prog_bar=True, logger=False)
        every = self.grpo.log_completions_every
        if every and self.global_step % every == 0:
            self._log_completions(group, batch)

    def _log_completions(self, group: ScoredGroup, batch: Batch) -> None:
        """One artifact a logging event: the first two groups with their rewards."""
        if self.logger is None or not self.trainer.is_global_zero:
            return
        size = group.rollout.group_size
        lines = [
            json.dumps(
                {
                    "step": self.global_step,
                    "sample_id": batch.samples[index // size].sample_id,
                    "label": batch.samples[index // size].label,
                    "completion": group.rollout.texts[index],
                    "advantage": round(float(group.advantages[index]), 4),
                    **{
                        name: float(value)
                        for name, value in zip(
                            group.reward_names, group.rewards[index], strict=True
                        )
                    },
                }
            )
            for index in range(min(2, len(batch)) * size)
        ]
        self.logger.experiment.log_text(  # type: ignore[attr-defined]
            self.logger.run_id,  # type: ignore[attr-defined]
            "\n".join(lines) + "\n",
            f"completions/step_{self.global_step:06d}.jsonl",
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["r1omni"]["num_tokens_seen"] = self.num_tokens_seen

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.num_tokens_seen = checkpoint["r1omni"].get("num_tokens_seen", 0)
