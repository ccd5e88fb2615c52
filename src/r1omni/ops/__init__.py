"""The mathematics of GRPO: pure functions of tensors."""

from r1omni.ops.advantages import group_advantages, reward_metrics
from r1omni.ops.importance import importance_weights
from r1omni.ops.kl import kl_divergence
from r1omni.ops.logprobs import (
    entropy,
    linear_logprob,
    selective_logprob,
    selective_logprob_and_entropy,
)
from r1omni.ops.losses import GRPOLoss, GRPOLossConfig, grpo_loss

__all__ = [
    "GRPOLoss",
    "GRPOLossConfig",
    "entropy",
    "group_advantages",
    "grpo_loss",
    "importance_weights",
    "kl_divergence",
    "linear_logprob",
    "reward_metrics",
    "selective_logprob",
    "selective_logprob_and_entropy",
]
