"""The mathematics of GRPO: pure functions of tensors."""

from r1omni.ops.advantages import group_advantages, reward_metrics
from r1omni.ops.chord import Chord, imitation_loss
from r1omni.ops.importance import importance_weights
from r1omni.ops.kl import kl_divergence
from r1omni.ops.logprobs import (
    entropy,
    linear_logprob,
    selective_logprob,
    selective_logprob_and_entropy,
)
from r1omni.ops.losses import GRPOLoss, GRPOLossConfig, grpo_loss, part_loss
from r1omni.ops.masked_modality import MaskedModality
from r1omni.ops.objective import TokenObjective, not_fused_for
from r1omni.ops.step_totals import StepTotals

__all__ = [
    "Chord",
    "GRPOLoss",
    "GRPOLossConfig",
    "MaskedModality",
    "StepTotals",
    "TokenObjective",
    "entropy",
    "group_advantages",
    "grpo_loss",
    "imitation_loss",
    "importance_weights",
    "kl_divergence",
    "linear_logprob",
    "not_fused_for",
    "part_loss",
    "reward_metrics",
    "selective_logprob",
    "selective_logprob_and_entropy",
]
