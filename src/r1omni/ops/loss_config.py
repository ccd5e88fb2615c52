"""Which loss of the GRPO family, and its constants."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from r1omni.ops.kl import KLEstimator
from r1omni.options import (
    FINITE,
    TEMPERATURE,
    TOKENS,
    Ranges,
    above,
    at_least,
    check_options,
)
from r1omni.types import UsageError

LossType = Literal[
    "grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "gmpo", "vespo"
]  # fmt: skip
ImportanceSamplingLevel = Literal["token", "sequence", "sequence_token"]
CLIPPING_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")


@dataclass(frozen=True)
class GRPOLossConfig:
    """A loss of the GRPO family; the defaults are R1-Omni's. Names are TRL's.

    As TRL's, it takes options that its `loss_type` does not use; a training refuses them
    (`GRPOConfig`).

    Attributes:
        loss_type: grpo, bnpo, dr_grpo, dapo, cispo, sapo, luspo, gmpo or vespo.
        beta: weight of the KL term; 0 needs no reference.
        epsilon: the ratio is clipped below 1 - epsilon; for gmpo its logarithm, below -epsilon.
        epsilon_high: the ratio is clipped above 1 + epsilon_high; None for epsilon. For cispo it
            is the cap of the ratio itself, for gmpo that of its logarithm.
        delta: cap of the ratio in the unclipped term (clipping losses only), or None.
        dual_clip: for negative advantages, cap of the ratio (clipping losses only), or None.
        importance_sampling_level: a ratio a "token" or a "sequence", or "sequence_token": that of
            the sequence, with the gradient of each token (GSPO-token).
        use_bias_correction_kl: multiply the KL term by the ratio, with its gradient.
        kl_estimator: k3, k2, k1, k3_straight_through or k1_straight_through.
        top_entropy_quantile: share of tokens, highest entropy first, that keep their policy
            term; 1 for all.
        entropy_coef: weight of the entropy bonus.
        off_policy_mask_threshold: nats a token, above which a bad completion that drifted off
            policy loses its policy term; None for never.
        max_completion_length: longest completion in tokens; dr_grpo divides by it. In a training
            it follows the limit of the sampling.
        sapo_temperature_pos: steepness of sapo's gate for positive advantages.
        sapo_temperature_neg: the same for other advantages.
        vespo_k_pos: k of vespo's kernel for advantages of 0 and more: how fast it falls towards a
            ratio of 0.
        vespo_lambda_pos: lambda there: how fast it falls for large ratios.
        vespo_k_neg, vespo_lambda_neg: the same for negative advantages.
        temperature: of the sampling. The log-probabilities handed to the loss were taken at it;
            no formula here uses it again.

    Raises:
        UsageError: an unknown name, a number out of range, or options that contradict.
    """

    loss_type: LossType = "grpo"
    beta: float = 0.04
    epsilon: float = 0.2
    epsilon_high: float | None = None
    delta: float | None = None
    dual_clip: float | None = None
    importance_sampling_level: ImportanceSamplingLevel = "token"
    use_bias_correction_kl: bool = False
    kl_estimator: KLEstimator = "k3"
    top_entropy_quantile: float = 1.0
    entropy_coef: float = 0.0
    off_policy_mask_threshold: float | None = None
    max_completion_length: int | None = None
    sapo_temperature_pos: float = 1.0
    sapo_temperature_neg: float = 1.05
    vespo_k_pos: float = 2.0
    vespo_lambda_pos: float = 3.0
    vespo_k_neg: float = 3.0
    vespo_lambda_neg: float = 2.0
    temperature: float = 1.0

    RANGES: ClassVar[Ranges] = {
        "beta": at_least(0),
        "epsilon": above(0, 1, below=True),
        "epsilon_high": above(0),
        "delta": above(1),
        "dual_clip": above(1),
        "top_entropy_quantile": above(0, 1),
        "entropy_coef": FINITE,
        "off_policy_mask_threshold": above(0),  # at 0, roundoff would choose
        "max_completion_length": TOKENS,
        "sapo_temperature_pos": above(0),
        "sapo_temperature_neg": above(0),
        "vespo_k_pos": at_least(0),
        "vespo_lambda_pos": above(0),  # at 0, nothing would hold a large ratio back
        "vespo_k_neg": at_least(0),
        "vespo_lambda_neg": above(0),
        "temperature": TEMPERATURE,
    }

    @property
    def upper_epsilon(self) -> float:
        """epsilon_high, or epsilon if it is unset."""
        return self.epsilon if self.epsilon_high is None else self.epsilon_high

    @property
    def ratio_bounds(self) -> tuple[float, float]:
        """Where a clipping loss, or gmpo, clips the ratio."""
        if self.loss_type == "gmpo":
            return math.exp(-self.epsilon), math.exp(self.upper_epsilon)
        return 1 - self.epsilon, 1 + self.upper_epsilon

    @property
    def normalizes_by_length(self) -> bool:
        """Whether a completion counts with the mean of its tokens."""
        return self.loss_type in ("grpo", "sapo", "gmpo")

    @property
    def normalizes_over_batch_tokens(self) -> bool:
        """Whether the normaliser is a count over the whole generation batch."""
        return self.loss_type in ("dapo", "cispo", "vespo")

    @property
    def needs_entropies(self) -> bool:
        """Whether the loss cannot be computed without entropies."""
        return self.top_entropy_quantile < 1 or self.entropy_coef != 0

    def __post_init__(self) -> None:
        check_options(self, "grpo.loss.")
        self._check_combinations()

    def _check_combinations(self) -> None:
        if self.loss_type in CLIPPING_LOSSES:
            for key in ("delta", "dual_clip"):
                value = getattr(self, key)
                if value is not None and value <= 1 + self.upper_epsilon:
                    raise UsageError(
                        f"grpo.loss.{key} is {value}; it must be above 1 + epsilon_high = "
                        f"{1 + self.upper_epsilon}, or the clipping never acts"
                    )
        elif self.dual_clip is not None:
            raise UsageError(
                f"grpo.loss.dual_clip has no meaning for loss_type {self.loss_type}; unset it"
            )
        if self.loss_type in ("gmpo", "vespo") and self.importance_sampling_level != "token":
            raise UsageError(
                f"grpo.loss.importance_sampling_level {self.importance_sampling_level} has no "
                f"meaning for loss_type {self.loss_type}, which joins the ratios of tokens in its "
                "own way; leave it out"
            )
        if self.delta is not None and self.dual_clip is not None:
            raise UsageError("grpo.loss.delta and dual_clip both cap the ratio; set one of them")
        if self.use_bias_correction_kl and self.kl_estimator != "k3":
            raise UsageError(
                "grpo.loss.use_bias_correction_kl corrects k3, not kl_estimator "
                f"{self.kl_estimator}; unset one of them"
            )
