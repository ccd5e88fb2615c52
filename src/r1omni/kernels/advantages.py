"""Advantages of completions over their group, in one launch where Triton runs."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from r1omni.kernels.dispatch import ArgumentError, operator, uses_triton

Scale = Literal["group", "batch", "none"]
Aggregation = Literal["sum_then_normalize", "normalize_then_sum"]
Baseline = Literal["mean", "leave_one_out"]

# Keeps a group of equal rewards from dividing by zero.
STD_EPSILON = 1e-4


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
        rewards: float32, float64, bfloat16 or float16 [N, K], members of a group side by side, NaN
            where a function returned nothing. A row of only NaN gets advantage 0 and does not count
            for its siblings.
        group_size: G, at least 2, a divisor of N.
        weights: float [K], or None for 1 each.
        scale: "group", "batch" or "none".
        aggregation: "sum_then_normalize" or "normalize_then_sum".
        baseline: what is subtracted, the "mean" of the group or that of the siblings alone,
            "leave_one_out".

    Returns:
        float32 [N], finite. On CUDA an infinite reward or weight makes its group's advantages NaN
        or infinite: to refuse it the host would wait for the device.

    Raises:
        ValueError: an unknown option, shapes that do not fit, a group of 1, or, except on CUDA, a
            reward or a weight that is infinite.
    """
    check_options(rewards, group_size, weights, scale, aggregation, baseline)
    if not rewards.is_cuda:
        check_values(rewards, weights)
        # As a custom operator it would take longer to call than to compute.
        return _by_torch(rewards, weights, group_size, scale, aggregation, baseline)
    if weights is not None:
        weights = weights.to(rewards.device)
    return _advantages(rewards, weights, group_size, scale, aggregation, baseline)


def check_options(
    rewards: Tensor,
    group_size: int,
    weights: Tensor | None,
    scale: str,
    aggregation: str,
    baseline: str = "mean",
) -> None:
    """Check what can be checked without reading a tensor.

    Raises:
        ValueError: as `group_advantages`.
    """
    for name, value, known in (
        ("scale", scale, get_args(Scale)),
        ("aggregation", aggregation, get_args(Aggregation)),
        ("baseline", baseline, get_args(Baseline)),
    ):
        if value not in known:
            raise ArgumentError(f"{name} {value!r} is unknown; use {', '.join(known)}")
    if aggregation == "normalize_then_sum" and baseline != "mean":
        raise ArgumentError("normalize_then_sum has no leave_one_out baseline; use baseline mean")
    if group_size < 2:
        raise ArgumentError(
            f"group_size is {group_size}; a completion is compared with its siblings, "
            "so a group needs at least 2"
        )
    if rewards.dim() != 2 or rewards.shape[0] == 0 or rewards.shape[1] == 0:
        raise ArgumentError(f"rewards have shape {list(rewards.shape)}; expected [N, K]")
    if rewards.shape[0] % group_size:
        raise ArgumentError(
            f"{rewards.shape[0]} rewards do not divide into groups of {group_size} completions"
        )
    if weights is not None and weights.shape != rewards.shape[1:]:
        raise ArgumentError(
            f"weights {weights.tolist()} do not fit {rewards.shape[1]} reward functions; "
            "expected one finite number each"
        )


def check_values(rewards: Tensor, weights: Tensor | None) -> None:
    """Check that rewards are finite or NaN, and weights finite.

    Raises:
        ValueError: as `group_advantages`.
    """
    if rewards.isinf().any():
        raise ArgumentError("rewards hold an infinite value; NaN means no reward")
    if weights is not None and not weights.isfinite().all():
        raise ArgumentError(f"weights {weights.tolist()} are not all finite")


@operator("r1omni::group_advantages")
def _advantages(
    rewards: Tensor,
    weights: Tensor | None,
    group_size: int,
    scale: str,
    aggregation: str,
    baseline: str,
) -> Tensor:
    if uses_triton(rewards) and scale != "batch" and aggregation == "sum_then_normalize":
        from r1omni.kernels import triton_advantages

        own = None if weights is None else weights.float()
        return triton_advantages.group_advantages(rewards.float(), own, group_size, scale, baseline)
    return _by_torch(rewards, weights, group_size, scale, aggregation, baseline)


def _by_torch(
    rewards: Tensor,
    weights: Tensor | None,
    group_size: int,
    scale: str,
    aggregation: str,
    baseline: str,
) -> Tensor:
    rewards = rewards.double()
    if aggregation == "normalize_then_sum":
        summed = summed_group_scores(rewards, group_size, weights)
        return _standardised(summed, 0).nan_to_num(nan=0.0).float()
    totals = total(rewards, weights).view(-1, group_size)
    centred = totals - _mean(totals, 1)
    if baseline == "leave_one_out":
        count = (~totals.isnan()).sum(dim=1, keepdim=True)
        # r_i - mean of the others = (r_i - mean of all) * n / (n - 1)
        centred = centred * count / (count - 1).clamp(min=1)
    if scale == "group":
        centred = centred / (std(totals, 1) + STD_EPSILON)
    elif scale == "batch":
        centred = centred / (std(totals.flatten(), 0) + STD_EPSILON)
    return centred.nan_to_num(nan=0.0).flatten().float()


@_advantages.register_fake
def _(
    rewards: Tensor,
    weights: Tensor | None,
    group_size: int,
    scale: str,
    aggregation: str,
    baseline: str,
) -> Tensor:
    return rewards.new_empty(rewards.shape[0], dtype=torch.float32)


# Statistics that leave out what is not there -------------------------------------------------


def total(rewards: Tensor, weights: Tensor | None) -> Tensor:
    """[N]: weighted sum of what is there, NaN for a row with nothing; weights None are 1 each."""
    sums = (rewards if weights is None else rewards * weights.to(rewards)).nansum(dim=1)
    return sums.masked_fill(rewards.isnan().all(dim=1), float("nan"))


def summed_group_scores(rewards: Tensor, group_size: int, weights: Tensor | None) -> Tensor:
    """[N]: each reward function normalised within its group, weighted and summed."""
    grouped = rewards.view(-1, group_size, rewards.shape[1])
    return total(_standardised(grouped, 1).reshape(rewards.shape), weights)


def std(values: Tensor, dim: int) -> Tensor:
    """Unbiased standard deviation of what is not NaN; 0 for fewer than two values."""
    count = (~values.isnan()).sum(dim=dim, keepdim=True)
    squares = (values - _mean(values, dim)).square().nansum(dim=dim, keepdim=True)
    return (squares / (count - 1).clamp(min=1)).sqrt()


def _mean(values: Tensor, dim: int) -> Tensor:
    """Mean over `dim` of what is not NaN; the dimension is kept. NaN where there is nothing."""
    return values.nanmean(dim=dim, keepdim=True)


def _standardised(values: Tensor, dim: int) -> Tensor:
    return (values - _mean(values, dim)) / (std(values, dim) + STD_EPSILON)
