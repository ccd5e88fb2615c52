"""Checks of the objective and of the advantages, after the manner of `kernel_checks`."""

from __future__ import annotations

import itertools

import torch
from kernel_checks import (
    INF,
    NAN,
    WIDTHS,
    between_poison,
    check,
    close,
    close_gradient,
    random,
    some_ids,
    some_logits,
)
from oracles import chosen_and_entropy, grpo_terms, row_gradient
from torch import Tensor

from r1omni import ops


def _expected(
    logits: Tensor, ids: Tensor, temperature: float, *inputs: Tensor | None, **settings: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Terms, log-probabilities and the gradient of the terms' sum in the logits, in float64."""
    logps = chosen_and_entropy(logits, ids, temperature)[0].requires_grad_()
    terms = grpo_terms(logps, *inputs, **settings)
    (slope,) = torch.autograd.grad(terms.sum(), logps)
    return terms.detach(), logps.detach(), row_gradient(logits, ids, temperature, slope, None)


def _compare(
    device: str,
    logits: Tensor,
    ids: Tensor,
    advantages: Tensor,
    weights: Tensor,
    old: Tensor | None,
    ref: Tensor | None,
    temperature: float = 1.0,
    epsilon: float = 0.2,
    epsilon_high: float = 0.28,
    beta: float = 0.04,
) -> None:
    """One call out of place, one in place, one without a gradient; all as float64 has it."""
    from r1omni.kernels import triton_grpo

    settings = {"epsilon": epsilon, "epsilon_high": epsilon_high, "beta": beta}
    terms, logps, gradient = _expected(
        logits, ids, temperature, advantages, weights, old, ref, **settings
    )
    there = between_poison(logits, device)
    inputs = [None if x is None else x.to(device) for x in (ids, advantages, weights, old, ref)]
    numbers = (temperature, epsilon, epsilon_high, beta)
    out = between_poison(torch.full_like(logits, NAN), device)
    entropy = chosen_and_entropy(logits, ids, temperature)[2]
    for target, with_entropy in ((None, True), (out, False), (there, True)):
        found = triton_grpo.loss_and_grad(there, *inputs, *numbers, target, with_entropy)
        assert all(x.dtype == torch.float32 for x in found)
        close(found[0], terms)
        close(found[1], logps)
        close(found[2], entropy if with_entropy else entropy[:0])
        if target is not None:
            close_gradient(target, gradient)
            assert target._base is not None
            assert int(target._base.isnan().sum()) == target._base.numel() - target.numel()


@check
def objective_of_every_width(device: str, dtype: torch.dtype) -> None:
    for width in WIDTHS:
        logits, ids = some_logits(6, width, dtype), some_ids(6, width)
        logps = chosen_and_entropy(logits, ids, 0.7)[0].float()
        old, ref = logps + random(6, seed=4, scale=0.3), logps + random(6, seed=5)
        advantages, weights = random(6, seed=6), random(6, seed=7).abs()
        _compare(device, logits, ids, advantages, weights, old, ref, temperature=0.7)


@check
def objective_clipped_and_not(device: str, dtype: torch.dtype) -> None:
    # Ratios below, inside and above the region, between the two epsilons, and so far off that they
    # are held.
    log_ratios = torch.tensor([-30.0, -1.0, -0.25, -0.1, 0.0, 0.1, 0.215, 1.0, 30.0])
    rows = len(log_ratios)
    logits, ids = some_logits(rows, 127, dtype), some_ids(rows, 127)
    old = chosen_and_entropy(logits, ids, 1.0)[0].float() - log_ratios
    for advantage in (1.5, 0.0, -1.5):
        # exp(20) times the weight stays in the range of float16.
        weights = torch.full((rows,), 1e-6)
        _compare(device, logits, ids, torch.full((rows,), advantage), weights, old, None)


@check
def objective_far_from_the_reference(device: str, dtype: torch.dtype) -> None:
    far = torch.tensor([1e-3, 0.4, 0.6, 3.0, 8.0, 30.0, 80.0])
    distances = torch.cat([-far, torch.zeros(1), far])
    rows = len(distances)
    logits, ids = some_logits(rows, 127, dtype), some_ids(rows, 127)
    ref = chosen_and_entropy(logits, ids, 1.0)[0].float() + distances
    weights = torch.full((rows,), 1e-3)
    advantages = random(rows, seed=6)
    _compare(device, logits, ids, advantages, weights, None, ref, beta=1.0)


@check
def k3_keeps_its_digits_near_zero(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels import triton_grpo

    # Two tokens of equal logits: log p is -log 2, and the reference is about 2^-9 away.
    rows = 16
    logits = torch.zeros(rows, 2, dtype=dtype, device=device)
    ref = torch.tensor(0.5).log() + torch.linspace(-1, 1, rows) * 2**-9
    difference = ref.double() - torch.tensor(0.5, dtype=torch.float64).log()
    ones, none = torch.ones(rows, device=device), torch.zeros(rows, device=device)
    terms, _, _ = triton_grpo.loss_and_grad(
        logits, none.long(), none, ones, None, ref.to(device), 1.0, 0.2, 0.2, 1.0, None
    )
    # exp(d) - 1 - d would be off by 6e-8; log p itself by half of that, which a d of 2^-9 shrinks.
    close(terms, difference.expm1() - difference, relative=1e-4, absolute=3e-10)


@check
def objective_without_an_old_policy(device: str, dtype: torch.dtype) -> None:
    logits, ids = some_logits(5, 1000, dtype), some_ids(5, 1000)
    advantages, weights = random(5, seed=6), torch.ones(5)
    ref = chosen_and_entropy(logits, ids, 1.0)[0].float() + random(5, seed=5)
    _compare(device, logits, ids, advantages, weights, None, ref)
    _compare(device, logits, ids, advantages, weights, None, ref, beta=0.0)
    _compare(device, logits, ids, advantages, weights, None, None)


@check
def masked_rows_read_nothing(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels import triton_grpo

    width = 2000
    logits = torch.full((4, width), NAN, dtype=dtype, device=device)
    nothing = torch.full((4,), NAN, device=device)
    ids = torch.full((4,), -100, device=device)
    weights = torch.zeros(4, device=device)
    for target in (torch.full_like(logits, NAN), logits):
        found = triton_grpo.loss_and_grad(
            logits, ids, nothing, weights, nothing, nothing, 1.0, 0.2, 0.2, 0.04, target, True
        )
        assert [x.tolist() for x in found] == [[0.0] * 4] * 3
        assert not target.any()


@check
def masked_rows_among_others(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels import triton_grpo

    logits, ids = some_logits(4, 1000, dtype), some_ids(4, 1000)
    weights, advantages = torch.tensor([0.5, 0.0, 0.0, 2.0]), random(4, seed=6)
    settings = {"epsilon": 0.2, "epsilon_high": 0.2, "beta": 0.0}
    terms, _, gradient = _expected(logits, ids, 1.0, advantages, weights, None, None, **settings)
    poisoned = logits.clone()
    poisoned[1:3] = NAN
    there = poisoned.to(device)
    found, logps, _ = triton_grpo.loss_and_grad(
        there,
        ids.to(device),
        advantages.to(device),
        weights.to(device),
        *(None, None, 1.0, 0.2, 0.2, 0.0, there),
    )
    close(found, terms)
    assert logps[1:3].tolist() == [0.0, 0.0]
    close_gradient(there, gradient)


@check
def reruns_are_equal_to_the_bit(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels import triton_advantages, triton_grpo, triton_selective

    logits, ids = some_logits(4, 2000, dtype).to(device), some_ids(4, 2000).to(device)
    inputs = [random(4, seed=seed).to(device) for seed in range(4)]
    rewards, weights = random(24, 3).to(device), random(3, seed=8).to(device)
    results = []
    for _ in range(2):
        out, other = torch.empty_like(logits), torch.empty_like(logits)
        found = triton_selective.forward(logits, ids, 0.7, True)
        triton_selective.backward(logits, ids, *found[1:], inputs[0], inputs[1], 0.7, out)
        found += triton_grpo.loss_and_grad(logits, ids, *inputs, 0.7, 0.2, 0.28, 0.04, other)
        groups = triton_advantages.group_advantages(rewards, weights, 8, "group", "mean")
        results.append([*found, out, other, groups])
    assert all(torch.equal(first, second) for first, second in zip(*results, strict=True))


@check
def gradients_are_scaled_in_place(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels import triton_scaling

    for size in (1, 4096, 10_000):
        for factor in (1.0, -0.5, 0.0):
            values = random(size).to(dtype)
            there = between_poison(values[None], device)
            triton_scaling.scale(there, torch.tensor(factor, device=device))
            assert torch.equal(there[0].cpu(), values * factor)
            assert int(there._base.isnan().sum()) == there._base.numel() - size
    # A factor of 1 leaves even what is not a number alone.
    strange = torch.full((8,), NAN, device=device)
    triton_scaling.scale(strange, torch.ones((), device=device))
    assert strange.isnan().all()


# Advantages ---------------------------------------------------------------------------------


def _compare_advantages(device: str, rewards: Tensor, weights: Tensor, group_size: int) -> None:
    from r1omni.kernels import triton_advantages

    for scale, baseline in itertools.product(("group", "none"), ("mean", "leave_one_out")):
        found = triton_advantages.group_advantages(
            rewards.to(device), weights.to(device), group_size, scale, baseline
        )
        right = ops.group_advantages(
            rewards.double(), group_size, weights.double(), scale=scale, baseline=baseline
        )
        assert found.dtype == torch.float32 and found.isfinite().all()
        close(found, right.double(), relative=2e-5, absolute=2e-6)


@check
def advantages_of_every_group_size(device: str, dtype: torch.dtype) -> None:
    for group_size in (2, 3, 8, 13, 100, 200):
        rewards = random(5 * group_size, 3, seed=group_size)
        _compare_advantages(device, rewards, torch.tensor([1.0, 0.5, -2.0]), group_size)
    # A slice of a wider table, members not side by side in memory.
    table = random(24, 7, seed=9)[:, 1::2]
    _compare_advantages(device, table, torch.tensor([1.0, 2.0, 3.0]), 8)


@check
def advantages_with_rewards_missing(device: str, dtype: torch.dtype) -> None:
    rewards = random(24, 2, seed=3)
    rewards[0, 0] = NAN  # one reward
    rewards[1] = NAN  # all of a completion
    rewards[8:16] = NAN  # a group without any
    rewards[16:23] = NAN  # a group of which one is left
    _compare_advantages(device, rewards, torch.tensor([1.0, 0.3]), 8)
    _compare_advantages(device, rewards, torch.tensor([1.0, 0.3]), 3)


@check
def advantages_without_weights(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels import triton_advantages

    rewards = random(24, 2, seed=3)
    rewards[0, 0], rewards[1] = NAN, NAN
    found = triton_advantages.group_advantages(rewards.to(device), None, 8, "group", "mean")
    ones = torch.ones(2, device=device)
    weighted = triton_advantages.group_advantages(rewards.to(device), ones, 8, "group", "mean")
    assert torch.equal(found, weighted)
    # Nobody reads the values first, so an infinite one has to be seen in what comes of it.
    rewards[9, 1] = INF
    found = triton_advantages.group_advantages(rewards.to(device), None, 8, "group", "mean")
    assert not found[8:16].isfinite().any()
    assert torch.equal(found[:8], weighted[:8]) and torch.equal(found[16:], weighted[16:])


@check
def advantages_of_equal_rewards_are_zero(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels import triton_advantages

    for group_size in (2, 3, 8, 13):
        for value in (0.1, 1 / 3, 1234.567, -7e5):
            rewards = torch.full((4 * group_size, 2), value, device=device)
            rewards[0] = NAN
            found = triton_advantages.group_advantages(
                rewards, torch.tensor([0.3, 1.7], device=device), group_size, "group", "mean"
            )
            assert not found.any()


@check
def advantages_of_rewards_far_from_zero(device: str, dtype: torch.dtype) -> None:
    # Steps of 1/16 at 4096 are exact in float32; their squares are not.
    steps = torch.randint(0, 16, (32, 1), generator=torch.Generator().manual_seed(0))
    _compare_advantages(device, 4096 + steps / 16, torch.ones(1), 8)
