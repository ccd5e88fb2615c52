"""Every choice of a GRPO run, checked before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from torch import Tensor

from r1omni.kernels.advantages import Aggregation, Baseline, Scale
from r1omni.kernels.dispatch import uses_triton
from r1omni.ops import Chord, GRPOLossConfig, MaskedModality, not_fused_for
from r1omni.ops.importance import ImportanceCorrection
from r1omni.ops.loss_config import CLIPPING_LOSSES
from r1omni.options import (
    SEED,
    TEMPERATURE,
    TOKENS,
    Conditions,
    OnlyWith,
    Ranges,
    above,
    at_least,
    check_options,
)
from r1omni.rewards import COLUMNS, RewardSpec, check_rewards, get_reward
from r1omni.rewards.overlong import check_limit, overlong
from r1omni.training.adaptive_entropy import AdaptiveEntropy
from r1omni.types import UsageError

_OF_SAPO = OnlyWith("loss.loss_type", "sapo", lambda c: c.loss.loss_type == "sapo")
_OF_VESPO = OnlyWith("loss.loss_type", "vespo", lambda c: c.loss.loss_type == "vespo")
_OF_THE_KL = OnlyWith("loss.beta", "above 0, or log_kl", lambda c: c.loss.beta != 0 or c.log_kl)


@dataclass(frozen=True)
class GRPOConfig:
    """How completions are sampled, scored and learned from; the defaults are R1-Omni's.

    Attributes:
        group_size: G, completions sampled for each prompt.
        temperature: of the sampling, and of every log-probability.
        max_new_tokens: longest completion, in tokens; the one limit that the loss, the rewards and,
            unless it has its own, evaluation follow.
        rewards: reward functions with their weights and options.
        scale_rewards: what advantages are divided by: "group" (its standard deviation),
            "batch" or "none".
        baseline: what a reward is compared with: the "mean" of its group, or that of its siblings
            alone, "leave_one_out".
        aggregation: "sum_then_normalize", or "normalize_then_sum" for each reward function by
            itself (GDPO).
        kl_in_reward: nats of KL to the reference are taken from a completion's reward at this
            rate; 0 leaves the KL to the loss.
        log_kl: compute and log the KL to the reference also where nothing uses it.
        log_entropy: compute and log the entropy of what predicts each token also where nothing
            uses it.
        fused_loss: compute loss and gradients from hidden states, the logits of a chunk of tokens
            at a time: "auto" on a GPU where Triton computes and the loss is a term a token (its
            memory does not grow with the vocabulary then), "always" also elsewhere, or "never".
        masked_modality: a term of the loss that has descriptions depend on the medium that they
            describe.
        chord: a supervised term on the targets of `data.expert`.
        adaptive_entropy: an entropy to hold, for which `loss.entropy_coef` is where the coefficient
            starts.
        loss: the loss; its lengths and temperature are those of the sampling (`loss_in_force`).
        num_iterations: how often the completions of a rollout are learned from.
        steps_per_generation: optimizer steps that the prompts of a rollout batch are split into.
        micro_batch_size: prompts of a micro-batch, which goes forward and backward at once; None
            takes all of a step's.
        max_grad_norm: gradients are scaled down to this norm; None never does.
        mask_truncated_completions: learn nothing from completions that the length limit cut off.
        importance_correction: "none", or factors on the policy terms for the difference between
            the log-probabilities while sampling and those before the update: "token_truncate",
            "token_mask", "sequence_truncate" or "sequence_mask".
        importance_cap: largest factor.
        overlap_sampling: sample the completions of the next batch while the update on this one
            runs, so that they are of the policy before it. Ratios then compare with the
            log-probabilities recorded while sampling, or `importance_correction` corrects for the
            lag. The first batch of a run, and what `max_refills` adds, is sampled in place.
        max_refills: rounds of further prompts sampled in place of groups whose rewards are all
            alike (dynamic sampling, arXiv 2503.14476); 0 keeps such groups.
        ref_sync_steps: optimizer steps between moves of the reference towards the policy; 0 never
            moves it.
        ref_mixup_alpha: share of the policy in the moved reference.
        groups_across_ranks: split the members of each group over all ranks, where a group does
            not fit on one; otherwise a rank has groups of its own. What is learned is the same.
        seed: of the sampling; with the step, the sample and the member's index it fixes every
            completion.
            A command takes `seed_everything` where this is not given.
        log_completions_every: rollouts between samples of completions in MLflow; 0 logs none.
        max_completion_logs: most samples of completions in a run; in a longer run they lie further
            apart.

    Raises:
        UsageError: a value of another type, a number out of range, an unknown name, choices that
            contradict, or one that has no effect.
    """

    group_size: int = 8
    temperature: float = 1.0
    max_new_tokens: int = 512
    rewards: list[RewardSpec] = field(
        default_factory=lambda: [RewardSpec("accuracy"), RewardSpec("format")]
    )
    scale_rewards: Scale = "group"
    baseline: Baseline = "mean"
    aggregation: Aggregation = "sum_then_normalize"
    kl_in_reward: float = 0.0
    log_kl: bool = False
    log_entropy: bool = True
    fused_loss: Literal["auto", "always", "never"] = "auto"
    masked_modality: MaskedModality = field(default_factory=MaskedModality)
    chord: Chord = field(default_factory=Chord)
    adaptive_entropy: AdaptiveEntropy = field(default_factory=AdaptiveEntropy)
    loss: GRPOLossConfig = field(default_factory=GRPOLossConfig)
    num_iterations: int = 1
    steps_per_generation: int = 1
    micro_batch_size: int | None = None
    max_grad_norm: float | None = 1.0
    mask_truncated_completions: bool = False
    importance_correction: ImportanceCorrection = "none"
    importance_cap: float = 3.0
    overlap_sampling: bool = False
    max_refills: int = 0
    ref_sync_steps: int = 0
    ref_mixup_alpha: float = 0.6
    groups_across_ranks: bool = False
    seed: int = 0
    log_completions_every: int = 20
    max_completion_logs: int = 500

    RANGES: ClassVar[Ranges] = {
        "group_size": at_least(2, 2**16),  # alone, no completion can be better than its siblings
        "temperature": TEMPERATURE,
        "max_new_tokens": TOKENS,
        "kl_in_reward": at_least(0),
        "num_iterations": at_least(1),
        "steps_per_generation": at_least(1),
        "micro_batch_size": at_least(1),
        "max_grad_norm": above(0),
        "importance_cap": above(0),
        "max_refills": at_least(0),
        "ref_sync_steps": at_least(0),
        "ref_mixup_alpha": above(0, 1),
        "seed": SEED,
        "log_completions_every": at_least(0),
        "max_completion_logs": at_least(1),
    }

    # What has no effect without another option; of the loss, what a training would not use.
    ONLY_WITH: ClassVar[Conditions] = {
        "importance_cap": OnlyWith(
            "importance_correction", "other than none", lambda c: c.importance_correction != "none"
        ),
        "ref_mixup_alpha": OnlyWith("ref_sync_steps", "above 0", lambda c: c.ref_sync_steps > 0),
        "max_completion_logs": OnlyWith(
            "log_completions_every", "above 0", lambda c: c.log_completions_every > 0
        ),
        "loss.epsilon": OnlyWith(
            "loss.loss_type", f"{', '.join(CLIPPING_LOSSES)}, gmpo, or cispo without epsilon_high",
            lambda c: c.loss.loss_type in (*CLIPPING_LOSSES, "gmpo")
            or (c.loss.loss_type == "cispo" and c.loss.epsilon_high is None),
        ),
        "loss.epsilon_high": OnlyWith(
            "loss.loss_type", "other than sapo and vespo",
            lambda c: c.loss.loss_type not in ("sapo", "vespo"),
        ),
        "loss.delta": OnlyWith(
            "loss.loss_type", ", ".join(CLIPPING_LOSSES),
            lambda c: c.loss.loss_type in CLIPPING_LOSSES,
        ),
        "loss.sapo_temperature_pos": _OF_SAPO,
        "loss.sapo_temperature_neg": _OF_SAPO,
        "loss.vespo_k_pos": _OF_VESPO,
        "loss.vespo_lambda_pos": _OF_VESPO,
        "loss.vespo_k_neg": _OF_VESPO,
        "loss.vespo_lambda_neg": _OF_VESPO,
        "loss.kl_estimator": _OF_THE_KL,
        "loss.use_bias_correction_kl": _OF_THE_KL,
    }  # fmt: skip

    @property
    def loss_in_force(self) -> GRPOLossConfig:
        """The loss with what it shares with the sampling."""
        return replace(
            self.loss, max_completion_length=self.max_new_tokens, temperature=self.temperature
        )

    @property
    def reward_names(self) -> tuple[str, ...]:
        """Names of the reward functions, in order."""
        return tuple(spec.name for spec in self.rewards)

    @property
    def needs_reference(self) -> bool:
        """Whether a reference is asked for log-probabilities."""
        return self.loss.beta != 0 or self.kl_in_reward != 0 or self.log_kl

    @property
    def with_entropy(self) -> bool:
        """Whether the update computes entropies: for the loss, what it follows, or the log."""
        follows = self.adaptive_entropy.target is not None
        return self.loss.needs_entropies or follows or self.log_entropy

    def fuses_loss(self, head: Tensor) -> bool:
        """Whether the update never holds its logits as a whole, for a model with this head."""
        if self.fused_loss == "auto":
            return self._not_fused_for is None and uses_triton(head)
        return self.fused_loss == "always"

    @property
    def _not_fused_for(self) -> str | None:
        """The option, with its value, that asks for log-probabilities with a gradient, or None."""
        option = not_fused_for(self.loss)
        if option is not None:
            return f"loss.{option} {getattr(self.loss, option)}"
        if self.adaptive_entropy.target is not None:
            return f"adaptive_entropy.target {self.adaptive_entropy.target}"
        weight = self.masked_modality.weight
        return f"masked_modality.weight {weight}" if weight else None

    @property
    def compares_the_batch(self) -> bool:
        """Whether advantages are divided by a standard deviation over all ranks."""
        return self.scale_rewards == "batch" or self.aggregation == "normalize_then_sum"

    @property
    def reuses_rollouts(self) -> bool:
        """Whether the policy moves while a rollout is learned from."""
        return self.num_iterations > 1 or self.steps_per_generation > 1

    @property
    def has_ratios(self) -> bool:
        """Whether ratios leave 1: the policy is not the one that they compare with."""
        lags = self.overlap_sampling and self.importance_correction == "none"
        return self.reuses_rollouts or lags

    @property
    def needs_old_logps(self) -> bool:
        """Whether ratios, or what else there is, need log-probabilities to compare with."""
        return (
            self.has_ratios
            or self.importance_correction != "none"
            or self.loss.off_policy_mask_threshold is not None
            or self.kl_in_reward != 0
        )

    def completions_interval(self, max_steps: int) -> int:
        """Rollouts between samples of completions in a run of so many optimizer steps; 0: none."""
        if not self.log_completions_every:
            return 0
        # A rollout takes one optimizer step or more, so there are never more than allowed.
        return max(self.log_completions_every, -(-max_steps // self.max_completion_logs))

    def __post_init__(self) -> None:
        check_options(self, "grpo.")
        self._check_rewards()
        self._check_combinations()

    def _check_rewards(self) -> None:
        if self.rewards and not any(spec.weight for spec in self.rewards):
            raise UsageError(
                "grpo.rewards: every weight is 0, so nothing is learned; give one of them a weight"
            )
        # A typing error should not cost a rollout.
        check_rewards(self.rewards, COLUMNS, "grpo.rewards")
        for index, spec in enumerate(self.rewards):
            if get_reward(spec.name) is overlong:
                try:
                    check_limit(spec.options, self.max_new_tokens)
                except UsageError as error:
                    raise UsageError(f"grpo.rewards[{index}]: {error}") from error

    def _check_combinations(self) -> None:
        option = self._not_fused_for
        if self.fused_loss == "always" and option is not None:
            raise UsageError(
                f"grpo.fused_loss always cannot compute grpo.{option}, which is more than the one "
                "term a token that it knows; use auto"
            )
        adaptive, start = self.adaptive_entropy, self.loss.entropy_coef
        if adaptive.target is not None and not adaptive.coef_min <= start <= adaptive.coef_max:
            raise UsageError(
                f"grpo.loss.entropy_coef {start} is where the coefficient starts, outside of "
                f"grpo.adaptive_entropy.coef_min {adaptive.coef_min} and coef_max "
                f"{adaptive.coef_max}; set it between them"
            )
        if self.kl_in_reward and self.loss.beta:
            raise UsageError(
                f"grpo.kl_in_reward {self.kl_in_reward} and grpo.loss.beta {self.loss.beta} both "
                "hold the policy near the reference; set one of them to 0"
            )
        if self.aggregation == "normalize_then_sum" and self.baseline != "mean":
            raise UsageError(
                "grpo.aggregation normalize_then_sum has no leave_one_out baseline; use baseline "
                "mean"
            )
        if self.ref_sync_steps and not self.needs_reference:
            raise UsageError(
                "grpo.ref_sync_steps moves a reference, but grpo.loss.beta is 0 and there is none; "
                "set ref_sync_steps to 0"
            )
        if self.aggregation == "normalize_then_sum" and self.kl_in_reward:
            raise UsageError(
                "grpo.aggregation normalize_then_sum divides every reward by its own standard "
                f"deviation, so the rate kl_in_reward {self.kl_in_reward} would have no effect; "
                "use grpo.loss.beta instead"
            )
        if self.aggregation == "normalize_then_sum" and self.scale_rewards != "group":
            raise UsageError(
                f"grpo.scale_rewards {self.scale_rewards} has no effect with aggregation "
                "normalize_then_sum, which divides by standard deviations of its own; leave it out"
            )
        if self.max_refills and self.kl_in_reward:
            raise UsageError(
                "grpo.max_refills replaces groups whose rewards are all alike, but with "
                "kl_in_reward every completion has a penalty of its own, so that none are; set "
                "one of them to 0"
            )
        if self.max_refills and self.scale_rewards == "batch":
            raise UsageError(
                "grpo.max_refills drops groups by their own standard deviation, but scale_rewards "
                "batch compares all of them; use scale_rewards group or none"
            )
        if self.loss.max_completion_length not in (None, self.max_new_tokens):
            raise UsageError(
                f"grpo.loss.max_completion_length is {self.loss.max_completion_length}, but "
                f"completions end at grpo.max_new_tokens {self.max_new_tokens}; leave the former "
                "out"
            )
        if self.loss.temperature not in (1.0, self.temperature):
            raise UsageError(
                f"grpo.loss.temperature is {self.loss.temperature}, but completions are sampled at "
                f"grpo.temperature {self.temperature}; leave the former out"
            )
