"""The mathematics of GRPO: pure functions of tensors."""

from r1omni.ops.advantages import group_advantages, reward_metrics
from r1omni.ops.importance import importance_weights
from r1omni.ops.kl import kl_divergence
from r1omni.ops.logprobs import entropy, selective_logprob
from r1omni.ops.losses import GRPOLoss, GRPOLossConfig, grpo_loss

__all__ = [
    "GRPOLoss",
    "GRPOLossConfig",
    "entropy",
    "group_advantages",
    "grpo_loss",
    "importance_weights",
    "kl_divergence",
    "reward_metrics",
    "selective_logprob",
]
