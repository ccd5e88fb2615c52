"""Advantages: how much better a completion is than its siblings.

Sources: GRPO (arXiv 2402.03300, section 4.1.2) for the group's mean and standard deviation,
Dr. GRPO (arXiv 2503.20783) for no scaling, RLOO (arXiv 2402.14740) for the leave-one-out
baseline, GDPO (arXiv 2601.05242) for normalising each reward before the sum.
"""

from __future__ import annotations

from torch import Tensor

from r1omni import kernels
from r1omni.kernels.advantages import check_options, check_values, std, summed_group_scores, total
from r1omni.ops.errors import usage_errors

# Rewards of float32 that should be equal differ by roundoff.
_ZERO_STD = 1e-6


def group_advantages(
    rewards: Tensor,
    group_size: int,
    weights: Tensor | None = None,
    scale: str = "group",
    aggregation: str = "sum_then_normalize",
    baseline: str = "mean",
) -> Tensor:
    """Advantage of each completion over its group; see `r1omni.kernels.group_advantages`.

    Raises:
        UsageError: an unknown option, shapes that do not fit, a group of 1, or a reward that is
            infinite.
    """
    with usage_errors():
        return kernels.group_advantages(rewards, group_size, weights, scale, aggregation, baseline)


def reward_metrics(
    rewards: Tensor,
    group_size: int,
    weights: Tensor | None = None,
    scale: str = "group",
    aggregation: str = "sum_then_normalize",
) -> dict[str, Tensor]:
    """`reward`, `reward_std` and `frac_reward_zero_std`, under TRL's names and definitions.

    `reward_std` is over all completions of the batch. `frac_reward_zero_std` is the share of
    completions whose standard deviation is zero: that of the batch for scale "batch" and for
    "normalize_then_sum", else that of the group.

    Args, raises: as for `group_advantages`. Returns 0-dimensional float32 tensors.
    """
    with usage_errors():
        check_options(rewards, group_size, weights, scale, aggregation)
        check_values(rewards, weights)
    rewards = rewards.double()
    totals = total(rewards, weights)
    if aggregation == "normalize_then_sum":
        deviation = std(summed_group_scores(rewards, group_size, weights), 0)
    elif scale == "batch":
        deviation = std(totals, 0)
    else:
        deviation = std(totals.view(-1, group_size), 1)
    return {
        "reward": totals.nanmean().float(),
        "reward_std": std(totals, 0).squeeze().float(),
        "frac_reward_zero_std": (deviation < _ZERO_STD).float().mean(),
    }
