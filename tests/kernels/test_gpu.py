"""The Triton kernels on a CUDA device: the interpreter's checks in every precision, and size.

`scripts/test.sh -m gpu tests/kernels`, on a machine with a GPU of 16 GB or more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from all_checks import CHECKS
from kernel_checks import close, close_gradient
from oracles import chosen_and_entropy, row_gradient

from r1omni import kernels
from r1omni.kernels import triton_grpo, triton_selective
from r1omni.kernels.experimental import triton_linear

pytestmark = pytest.mark.gpu

WIDTH = 151_936
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
# Allocations are rounded up to 512 bytes each.
SLACK = 16 * 512


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CHECKS)
def test_kernels_on_a_device(name: str, dtype: torch.dtype) -> None:
    CHECKS[name]("cuda", dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_operators_choose_triton_and_agree_with_torch(dtype: torch.dtype) -> None:
    generator = torch.Generator("cuda").manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device="cuda")

    hidden, weight = random(64, 96).to(dtype), random(1000, 96).to(dtype) / 10
    ids = torch.randint(0, 1000, (64,), generator=generator, device="cuda")
    advantages, shares = random(64), torch.full((64,), 1 / 64, device="cuda")
    rewards = random(64, 2)

    def everything() -> list[torch.Tensor]:
        own = [tensor.clone().requires_grad_() for tensor in (hidden, weight)]
        logits = own[0] @ own[1].T
        logps, entropies = kernels.selective_logprob_and_entropy(logits, ids, 0.7)
        on_logits, _ = kernels.grpo_loss(logits, ids, advantages, shares)
        chunked, seen = kernels.linear_grpo_loss(*own, ids, advantages, shares, chunk_rows=24)
        direct = kernels.linear_logprob(*own, ids, 0.7, chunk_rows=24)
        (logps.mean() + entropies.mean() + on_logits + chunked + direct.mean()).backward()
        values = [logps, entropies, on_logits, chunked, seen, direct]
        groups = kernels.group_advantages(rewards, 8)
        return [v.detach().float() for v in (*values, groups, own[0].grad, own[1].grad)]

    with kernels.use("triton"):
        by_triton = everything()
    with kernels.use("torch"):
        by_torch = everything()
    for one, other in zip(by_triton, by_torch, strict=True):
        assert (one - other).norm() <= (1e-4 if dtype == torch.float32 else 2e-2) * other.norm()


def test_advantages_are_one_launch_that_nothing_waits_for() -> None:
    rewards = torch.rand(8000, 2, device="cuda")
    kernels.group_advantages(rewards, 8)  # compiles
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.profiler.profile(activities=activities) as profile:
            kernels.group_advantages(rewards, 8)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    names = [e.name for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    assert names == ["advantages_kernel"]


def _large_logits(rows: int) -> torch.Tensor:
    logits = torch.empty(rows, WIDTH, dtype=torch.bfloat16, device="cuda")
    generator = torch.Generator("cuda").manual_seed(0)
    return logits.normal_(0, 3, generator=generator)


def test_elements_beyond_two_to_the_31() -> None:
    rows = 14_500
    logits = _large_logits(rows)
    assert logits.numel() > 2**31
    ids = torch.arange(rows, device="cuda") % WIDTH
    ones = torch.ones(rows, device="cuda")
    # Across the border, and the last.
    some = torch.tensor([0, 2**31 // WIDTH, 2**31 // WIDTH + 1, rows - 1])
    kept, kept_ids = logits[some.cuda()].cpu(), ids.cpu()[some]
    logps, lse, entropy = triton_selective.forward(logits, ids, 0.7, True)
    expected = chosen_and_entropy(kept, kept_ids, 0.7)
    for actual, right in zip((logps, lse, entropy), expected, strict=True):
        close(actual[some.cuda()], right, absolute=3e-5)
    triton_selective.backward(logits, ids, lse, entropy, ones, ones, 0.7, logits)
    right = row_gradient(kept, kept_ids, 0.7, torch.ones(4), torch.ones(4))
    close_gradient(logits[some.cuda()], right, with_entropy=True)
    logits[some.cuda()] = kept.cuda()
    triton_grpo.loss_and_grad(logits, ids, ones, ones, None, None, 0.7, 0.2, 0.2, 0.0, logits)
    close_gradient(logits[some.cuda()], row_gradient(kept, kept_ids, 0.7, -torch.ones(4), None))


@contextmanager
def _at_most(num_bytes: int) -> Iterator[None]:
    """Fail if the block holds more than `num_bytes` of new memory at any time."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    yield
    torch.cuda.synchronize()
    assert torch.cuda.max_memory_allocated() - before <= num_bytes + SLACK


def test_peak_memory() -> None:
    rows = 1024
    logits = _large_logits(rows)
    ids = torch.arange(rows, device="cuda")
    ones = torch.ones(rows, device="cuda")
    with _at_most(3 * 4 * rows):
        _, lse, entropy = triton_selective.forward(logits, ids, 1.0, True)
    with _at_most(0):
        triton_selective.backward(logits, ids, lse, entropy, ones, ones, 1.0, logits)
    with _at_most(2 * 4 * rows):
        triton_grpo.loss_and_grad(logits, ids, ones, ones, ones, ones, 1.0, 0.2, 0.2, 0.04, logits)


def test_linear_of_a_full_vocabulary_needs_little_memory() -> None:
    tokens, depth = 4096, 896
    generator = torch.Generator("cuda").manual_seed(0)
    hidden = torch.empty(tokens, depth, dtype=torch.bfloat16, device="cuda")
    weight = torch.empty(WIDTH, depth, dtype=torch.bfloat16, device="cuda")
    hidden.normal_(0, 1, generator=generator)
    weight.normal_(0, 0.1, generator=generator)
    ids = torch.arange(tokens, device="cuda") * 37 % WIDTH
    with _at_most(5 * 2**20):
        found = triton_linear.forward(hidden, weight, ids, 0.7)
    some = torch.tensor([0, 127, 128, tokens - 1])
    logits = hidden[some.cuda()].cpu().double() @ weight.cpu().double().T
    right = chosen_and_entropy(logits, ids.cpu()[some], 0.7)[0]
    close(found[some.cuda()], right, absolute=3e-4)
    assert torch.equal(found, triton_linear.forward(hidden, weight, ids, 0.7))
