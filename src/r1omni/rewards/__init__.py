"""Rewards: pure functions of completions and labels, and a judge (`judge.py`), which is none."""

# Importing a module registers its function.
from r1omni.rewards import (
    accuracy,
    balanced_accuracy,
    consistency,
    cues,
    direct_calibration,
    format,  # noqa: A004
    judge,
    modality_use,
    overlong,
    petal_f1,
    repetition,
)
from r1omni.rewards.registry import (
    RewardFunction,
    get_reward,
    needs_labels,
    register,
    reward_names,
)
from r1omni.rewards.schedule import RewardGate, RewardSchedule
from r1omni.rewards.scoring import score
from r1omni.rewards.spec import COLUMNS, RewardSpec, check_rewards

__all__ = [
    "COLUMNS",
    "RewardFunction",
    "RewardGate",
    "RewardSchedule",
    "RewardSpec",
    "accuracy",
    "balanced_accuracy",
    "check_rewards",
    "consistency",
    "cues",
    "direct_calibration",
    "format",
    "get_reward",
    "judge",
    "modality_use",
    "needs_labels",
    "overlong",
    "petal_f1",
    "register",
    "repetition",
    "reward_names",
    "score",
]
