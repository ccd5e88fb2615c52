"""Verifiable rewards: pure functions of completions and labels."""

from r1omni.rewards import accuracy, format  # noqa: A004 - registers the functions
from r1omni.rewards.registry import RewardFunction, get_reward, register, reward_names
from r1omni.rewards.scoring import RewardSpec, score

__all__ = [
    "RewardFunction",
    "RewardSpec",
    "accuracy",
    "format",
    "get_reward",
    "register",
    "reward_names",
    "score",
]
