"""Advantages: how much better a completion is than its siblings.

Sources: GRPO (arXiv 2402.03300, section 4.1.2) for the group's mean and standard deviation,
Dr. GRPO (arXiv 2503.20783) for no scaling, RLOO (arXiv 2402.14740) for the leave-one-out
baseline, GDPO (arXiv 2601.05242) for normalising each reward before the sum.
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from r1omni.types import UsageError

Scale = Literal["group", "batch", "none"]
Aggregation = Literal["sum_then_normalize", "normalize_then_sum"]
Baseline = Literal["mean", "leave_one_out"]

# Keeps a group of equal rewards from dividing by zero.
STD_EPSILON = 1e-4
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
    """Advantage of each completion over its group.

    The total reward is the weighted sum of the rewards that are there. "group" divides its
    distance from the group's mean by the group's standard deviation, "batch" by that of all
    rows, "none" by nothing; standard deviations are unbiased, and 1e-4 is added to them.
    "normalize_then_sum" normalises each reward function within the group, weights and sums, then
    normalises over the batch; `scale` plays no part in it.

    Args:
        rewards: float [N, K], members of a group side by side, NaN where a function returned
            nothing. A row of only NaN gets advantage 0 and does not count for its siblings.
        group_size: G, at least 2, a divisor of N.
        weights: float [K], or None for 1 each.
        scale: "group", "batch" or "none".
        aggregation: "sum_then_normalize" or "normalize_then_sum".
        baseline: what is subtracted, the "mean" of the group or that of the siblings alone,
            "leave_one_out".

    Returns:
        float32 [N], finite.

    Raises:
        UsageError: an unknown option, shapes that do not fit, a group of 1, or a reward that is
            infinite.
    """
    rewards, weights = _checked(rewards, group_size, weights, scale, aggregation)
    if baseline not in get_args(Baseline):
        raise UsageError(f"baseline {baseline!r} is unknown; use {', '.join(get_args(Baseline))}")
    if aggregation == "normalize_then_sum":
        if baseline != "mean":
            raise UsageError("normalize_then_sum has no leave_one_out baseline; use baseline mean")
        return _normalize_then_sum(rewards, group_size, weights).float()
    total = _total(rewards, weights).view(-1, group_size)
    centred = total - _mean(total, 1)
    if baseline == "leave_one_out":
        count = (~total.isnan()).sum(dim=1, keepdim=True)
        # r_i - mean of the others = (r_i - mean of all) * n / (n - 1)
        centred = centred * count / (count - 1).clamp(min=1)
    if scale == "group":
        centred = centred / (_std(total, 1) + STD_EPSILON)
    elif scale == "batch":
        centred = centred / (_std(total.flatten(), 0) + STD_EPSILON)
    return centred.nan_to_num(nan=0.0).flatten().float()


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
    rewards, weights = _checked(rewards, group_size, weights, scale, aggregation)
    total = _total(rewards, weights)
    if aggregation == "normalize_then_sum":
        summed = _summed_group_scores(rewards, group_size, weights)
        spread = _std(summed, 0)
    elif scale == "batch":
        spread = _std(total, 0)
    else:
        spread = _std(total.view(-1, group_size), 1)
    return {
        "reward": _mean(total, 0).squeeze().float(),
        "reward_std": _std(total, 0).squeeze().float(),
        "frac_reward_zero_std": (spread < _ZERO_STD).float().mean(),
    }


def _checked(
    rewards: Tensor, group_size: int, weights: Tensor | None, scale: str, aggregation: str
) -> tuple[Tensor, Tensor]:
    """Validated rewards [N, K] and weights [K], in float64."""
    if scale not in get_args(Scale):
        raise UsageError(f"scale {scale!r} is unknown; use {', '.join(get_args(Scale))}")
    if aggregation not in get_args(Aggregation):
        raise UsageError(
            f"aggregation {aggregation!r} is unknown; use {', '.join(get_args(Aggregation))}"
        )
    if group_size < 2:
        raise UsageError(
            f"group_size is {group_size}; a completion is compared with its siblings, "
            "so a group needs at least 2"
        )
    if rewards.dim() != 2 or rewards.shape[0] == 0 or rewards.shape[1] == 0:
        raise UsageError(f"rewards have shape {list(rewards.shape)}; expected [N, K]")
    if rewards.shape[0] % group_size:
        raise UsageError(
            f"{rewards.shape[0]} rewards do not divide into groups of {group_size} completions"
        )
    if rewards.isinf().any():
        raise UsageError("rewards hold an infinite value; NaN means no reward")
    if weights is None:
        weights = rewards.new_ones(rewards.shape[1])
    if weights.shape != rewards.shape[1:] or not weights.isfinite().all():
        raise UsageError(
            f"weights {weights.tolist()} do not fit {rewards.shape[1]} reward functions; "
            "expected one finite number each"
        )
    return rewards.double(), weights.to(rewards.device).double()


def _total(rewards: Tensor, weights: Tensor) -> Tensor:
    """[N]: weighted sum of what is there, NaN for a row with nothing."""
    total = (rewards * weights).nansum(dim=1)
    return total.masked_fill(rewards.isnan().all(dim=1), float("nan"))


def _mean(values: Tensor, dim: int) -> Tensor:
    """Mean over `dim` of what is not NaN; the dimension is kept. NaN where there is nothing."""
    return values.nanmean(dim=dim, keepdim=True)


def _std(values: Tensor, dim: int) -> Tensor:
    """Unbiased standard deviation of what is not NaN; 0 for fewer than two values."""
    count = (~values.isnan()).sum(dim=dim, keepdim=True)
    squares = (values - _mean(values, dim)).square().nansum(dim=dim, keepdim=True)
    return (squares / (count - 1).clamp(min=1)).sqrt()


def _summed_group_scores(rewards: Tensor, group_size: int, weights: Tensor) -> Tensor:
    """[N]: each reward function normalised within its group, weighted and summed."""
    grouped = rewards.view(-1, group_size, rewards.shape[1])
    scores = (grouped - _mean(grouped, 1)) / (_std(grouped, 1) + STD_EPSILON)
    return _total(scores.reshape(rewards.shape), weights)


def _normalize_then_sum(rewards: Tensor, group_size: int, weights: Tensor) -> Tensor:
    summed = _summed_group_scores(rewards, group_size, weights)
    scaled = (summed - _mean(summed, 0)) / (_std(summed, 0) + STD_EPSILON)
    return scaled.nan_to_num(nan=0.0)
