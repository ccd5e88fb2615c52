"""Fused steps of GRPO: Triton on NVIDIA, chunked torch everywhere else.

A package of its own: it knows tensors and nothing of what they mean. Importing it does not import
Triton.
"""

from r1omni.kernels.advantages import group_advantages
from r1omni.kernels.dispatch import use
from r1omni.kernels.linear import linear_logprob
from r1omni.kernels.linear_loss import linear_grpo_loss, linear_grpo_loss_and_entropy
from r1omni.kernels.loss import grpo_loss
from r1omni.kernels.selective import selective_logprob, selective_logprob_and_entropy

__all__ = [
    "group_advantages",
    "grpo_loss",
    "linear_grpo_loss",
    "linear_grpo_loss_and_entropy",
    "linear_logprob",
    "selective_logprob",
    "selective_logprob_and_entropy",
    "use",
]
