"""Advantages of completions over their groups in one launch, on CUDA.

Rewards are few, so this is all latency: a dozen small torch operations cost their launches. One
program holds several groups, members side by side, and needs no second look at them.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from r1omni.kernels.advantages import STD_EPSILON
from r1omni.kernels.triton_rows import device_of

_STD_EPSILON = tl.constexpr(STD_EPSILON)
# Completions of a program: enough for a warp's loads to be full, few enough for many programs.
_COMPLETIONS = 128
_NUM_WARPS = 4


@triton.jit
def advantages_kernel(
    rewards,
    weights,
    advantages,
    num_groups,
    row_stride,
    column_stride,
    weights_stride,
    NUM_REWARDS: tl.constexpr,
    GROUP_SIZE: tl.constexpr,
    MEMBERS: tl.constexpr,
    GROUPS: tl.constexpr,
    DIVIDE_BY_STD: tl.constexpr,
    LEAVE_ONE_OUT: tl.constexpr,
):
    """One program GROUPS groups, as a tile [GROUPS, MEMBERS] whose rows are groups."""
    groups = tl.program_id(0).to(tl.int64) * GROUPS + tl.arange(0, GROUPS)[:, None]
    members = tl.arange(0, MEMBERS)[None, :]
    inside = (groups < num_groups) & (members < GROUP_SIZE)
    completions = groups * GROUP_SIZE + members
    total = tl.zeros([GROUPS, MEMBERS], tl.float32)
    present = tl.zeros([GROUPS, MEMBERS], tl.int1)
    for column in tl.static_range(NUM_REWARDS):
        address = rewards + completions * row_stride + column * column_stride
        reward = tl.load(address, mask=inside, other=float("nan"))
        given = reward == reward
        if weights is not None:
            reward = reward * tl.load(weights + column * weights_stride)
        total += tl.where(given, reward, 0.0)
        present = present | given
    count = tl.sum(present.to(tl.float32), axis=1)[:, None]
    # Measured from one member, equal rewards are exactly 0 apart, and little is lost to roundoff.
    first = tl.max(tl.where(present, total, float("-inf")), axis=1)[:, None]
    distance = tl.where(present, total - first, 0.0)
    mean = tl.sum(distance, axis=1)[:, None] / tl.maximum(count, 1.0)
    centred = tl.where(present, distance - mean, 0.0)
    others = tl.maximum(count - 1.0, 1.0)
    advantage = centred
    if LEAVE_ONE_OUT:
        # r_i - mean of the others = (r_i - mean of all) n / (n - 1)
        advantage = centred * count / others
    if DIVIDE_BY_STD:
        std = tl.sqrt_rn(tl.sum(centred * centred, axis=1)[:, None] / others)
        advantage = advantage / (std + _STD_EPSILON)
    tl.store(advantages + completions, advantage, mask=inside)


def group_advantages(
    rewards: Tensor, weights: Tensor | None, group_size: int, scale: str, baseline: str
) -> Tensor:
    """Advantage of each completion over its group, as in `advantages.group_advantages`.

    Worked in float32; distances above 1e19 overflow the standard deviation.

    Args:
        rewards: float32 [N, K], members of a group side by side, NaN where a function
            returned nothing. A row of only NaN gets 0 and does not count for its siblings. An
            infinite one makes its group NaN or infinite.
        weights: float32 [K], or None for 1 each.
        group_size: G, at least 2, a divisor of N.
        scale: "group", or "none".
        baseline: "mean", or "leave_one_out".

    Returns:
        float32 [N].
    """
    num_completions, num_rewards = rewards.shape
    advantages = torch.empty(num_completions, dtype=torch.float32, device=rewards.device)
    num_groups = num_completions // group_size
    if num_groups == 0:
        return advantages
    members = triton.next_power_of_2(group_size)
    groups = max(1, _COMPLETIONS // members)
    with device_of(rewards):
        advantages_kernel[(triton.cdiv(num_groups, groups),)](
            rewards,
            weights,
            advantages,
            num_groups,
            rewards.stride(0),
            rewards.stride(1),
            0 if weights is None else weights.stride(0),
            NUM_REWARDS=num_rewards,
            GROUP_SIZE=group_size,
            MEMBERS=members,
            GROUPS=groups,
            DIVIDE_BY_STD=scale == "group",
            LEAVE_ONE_OUT=baseline == "leave_one_out",
            num_warps=_NUM_WARPS,
        )
    return advantages
