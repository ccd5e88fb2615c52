"""The operators on a CPU: against the reference in float64, under autograd and torch.compile."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from r1omni import kernels
from r1omni.kernels import advantages, linear, linear_loss, loss, reference, rows, selective

SOURCE = Path(__file__).parents[2] / "src"
VOCABULARIES = (1, 127, 1000, 50257, 151936, 151937)
SETTINGS: dict[str, Any] = {"temperature": 0.7, "epsilon": 0.2, "epsilon_high": 0.3, "beta": 0.1}


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def ids_of(num_rows: int, num_columns: int) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(0, num_columns, (num_rows,), generator=generator)


def tokens(num_rows: int, logps: Tensor) -> dict[str, Tensor]:
    """Advantages, weights (one of them 0), and earlier log-probabilities around the present."""
    weights = random(num_rows, seed=3).abs()
    weights[1] = 0.0
    return {
        "advantages": random(num_rows, seed=2),
        "weights": weights,
        "old_logps": logps + 0.4 * random(num_rows, seed=4),
        "ref_logps": logps + 0.5 * random(num_rows, seed=5),
    }


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows a chunk for a vocabulary of 11, and four a product."""
    monkeypatch.setattr(rows, "CHUNK_ELEMENTS", 22)
    monkeypatch.setattr(linear, "_CPU_ELEMENTS", 44)


# Values and gradients -----------------------------------------------------------------------


@pytest.mark.parametrize("num_columns", VOCABULARIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_selective_logprob_against_the_reference(num_columns: int, dtype: torch.dtype) -> None:
    logits = (3 * random(3, num_columns)).to(dtype).requires_grad_()
    ids = ids_of(3, num_columns)
    slope = random(3, seed=1, dtype=torch.float32)
    found, spread = kernels.selective_logprob_and_entropy(logits, ids, 0.7)
    exact = logits.detach().double().requires_grad_()
    wanted, entropy = reference.selective_logprob(exact, ids, 0.7), reference.entropy(exact, 0.7)
    assert found.dtype == spread.dtype == torch.float32
    assert_close(found.double(), wanted, atol=2e-5, rtol=1e-5)
    assert_close(spread.double(), entropy, atol=2e-5, rtol=1e-5)
    alone = kernels.selective_logprob(logits, ids, 0.7)
    assert torch.equal(alone, found)

    (gradient,) = torch.autograd.grad((found * slope).sum() + 0.3 * spread.sum(), logits)
    (by_hand,) = torch.autograd.grad((wanted * slope).sum() + 0.3 * entropy.sum(), exact)
    assert gradient.dtype == dtype
    tolerance = 1e-6 if dtype == torch.float32 else 8e-3
    assert_close(gradient.double(), by_hand, atol=1e-6, rtol=tolerance * 10)


@pytest.mark.usefixtures("small_chunks")
def test_gradients_of_every_operator() -> None:
    logits, ids = (2 * random(5, 11)).requires_grad_(), ids_of(5, 11)
    hidden, weight = random(5, 4, seed=8).requires_grad_(), random(11, 4, seed=9).requires_grad_()
    extra = tokens(5, reference.selective_logprob(logits.detach(), ids, 0.7))
    check = torch.autograd.gradcheck
    assert check(lambda x: kernels.selective_logprob(x, ids, 0.7), logits)
    assert check(lambda x: kernels.selective_logprob_and_entropy(x, ids, 0.7), logits)
    assert check(lambda x: kernels.grpo_loss(x, ids, **extra, **SETTINGS)[0], logits)
    assert check(
        lambda h, w: kernels.linear_logprob(h, w, ids, 0.7, chunk_rows=2), (hidden, weight)
    )
    extra = tokens(5, reference.selective_logprob((hidden @ weight.T).detach(), ids, 0.7))

    def linear_loss(h: Tensor, w: Tensor) -> Tensor:
        return kernels.linear_grpo_loss(h, w, ids, **extra, **SETTINGS, chunk_rows=2)[0]

    assert check(linear_loss, (hidden, weight))


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("with_old", [True, False])
def test_grpo_loss_against_the_reference(beta: float, with_old: bool) -> None:
    logits, ids = (2 * random(9, 11)).requires_grad_(), ids_of(9, 11)
    logps = reference.selective_logprob(logits.detach(), ids, 0.7)
    settings = SETTINGS | {"beta": beta}
    extra: dict[str, Any] = tokens(9, logps)
    if not with_old:
        extra["old_logps"] = None
    found, seen = kernels.grpo_loss(logits, ids, **extra, **settings)
    wanted = reference.grpo_loss(logits, ids, **extra, **settings)
    assert_close(found, wanted)
    assert_close(seen, torch.where(extra["weights"] == 0, 0.0, logps))
    assert not seen.requires_grad
    # Scaled from outside, as by a share of a micro-batch.
    (gradient,) = torch.autograd.grad(0.25 * found, logits)
    (by_hand,) = torch.autograd.grad(0.25 * wanted, logits)
    assert_close(gradient, by_hand)


@pytest.mark.parametrize("difference", [-80.0, 80.0])
def test_far_from_old_policy_and_reference(difference: float) -> None:
    logits = random(3, 11, dtype=torch.float32).requires_grad_()
    ids = ids_of(3, 11)
    logps = reference.selective_logprob(logits.detach(), ids)
    far = logps + difference
    value, _ = kernels.grpo_loss(
        logits, ids, torch.ones(3), torch.ones(3), far, far, epsilon=0.2, beta=0.04
    )
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.isfinite() and gradient.isfinite().all()


@pytest.mark.parametrize("chunk_rows", [None, 1, 3, 100])
def test_chunks_change_nothing(chunk_rows: int | None) -> None:
    hidden, weight, ids = random(7, 4), random(11, 4, seed=1), ids_of(7, 11)
    logits = hidden @ weight.T
    found = kernels.linear_logprob(hidden, weight, ids, 0.7, chunk_rows=chunk_rows)
    assert_close(found, reference.selective_logprob(logits, ids, 0.7))
    extra = tokens(7, found)
    value, seen = kernels.linear_grpo_loss(
        hidden, weight, ids, **extra, **SETTINGS, chunk_rows=chunk_rows
    )
    wanted, logps = kernels.grpo_loss(logits, ids, **extra, **SETTINGS)
    assert_close(value, wanted)
    assert_close(seen, logps)
    again, same, entropies = kernels.linear_grpo_loss_and_entropy(
        hidden, weight, ids, **extra, **SETTINGS, chunk_rows=chunk_rows
    )
    assert torch.equal(again, value) and torch.equal(same, seen)
    entropy = reference.entropy(logits, 0.7)
    assert_close(entropies, torch.where(extra["weights"] == 0, 0.0, entropy))


def test_gradients_of_the_linear_loss_in_place() -> None:
    leaves = [random(7, 4).requires_grad_(), random(11, 4, seed=1).requires_grad_()]
    ids = ids_of(7, 11)
    extra = tokens(7, reference.selective_logprob((leaves[0] @ leaves[1].T).detach(), ids, 0.7))
    found = []
    for inplace in (False, True):
        value, _ = kernels.linear_grpo_loss(*leaves, ids, **extra, inplace_grad=inplace)
        found.append(torch.autograd.grad(3 * value, leaves, retain_graph=True))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(value, leaves)


def test_linear_operators_without_a_token() -> None:
    weight = random(11, 4).requires_grad_()
    none, ids = weight.new_empty(0), torch.empty(0, dtype=torch.long)
    hidden = random(0, 4).requires_grad_()
    value, _ = kernels.linear_grpo_loss(hidden, weight, ids, none, none)
    logps = kernels.linear_logprob(hidden, weight, ids)
    for loss_of_none in (value, logps.sum()):
        gradients = torch.autograd.grad(loss_of_none, (hidden, weight))
        assert gradients[0].shape == (0, 4) and not gradients[1].any()


def test_ids_and_logits_of_any_shape_and_strides() -> None:
    wide = random(4, 3, 40, dtype=torch.float32).requires_grad_()
    sliced = wide[:, :, 5:33:2]  # 14 tokens, 2 apart
    ids = ids_of(12, 14).view(4, 3)
    found = kernels.selective_logprob(sliced, ids)
    assert found.shape == (4, 3)
    assert_close(found, reference.selective_logprob(sliced, ids))
    # An expanded gradient, and one with a stride.
    (one,) = torch.autograd.grad(found.sum(), wide, retain_graph=True)
    wanted = reference.selective_logprob(sliced, ids)
    (two,) = torch.autograd.grad(wanted.sum(), wide, retain_graph=True)
    assert_close(one, two)
    (one,) = torch.autograd.grad(found[:, ::2].sum(), wide)
    (two,) = torch.autograd.grad(wanted[:, ::2].sum(), wide)
    assert_close(one, two)


# Numbers at the edge ------------------------------------------------------------------------


def test_a_row_of_nan_stays_alone() -> None:
    logits = random(4, 11, dtype=torch.float32)
    logits[2] = float("nan")
    logits[3, 5] = float("-inf")
    logits.requires_grad_()
    ids = torch.tensor([1, 2, 3, 5])
    found = kernels.selective_logprob(logits, ids)
    assert found.isnan().tolist() == [False, False, True, False]
    assert found[3] == float("-inf")
    found[:2].sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all() and not logits.grad[2:].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_where_p_is_nearly_1(dtype: torch.dtype) -> None:
    logits = torch.zeros(1, 1000, dtype=dtype)
    logits[0, 3] = 11.5  # p about 0.99
    logits.requires_grad_()
    kernels.selective_logprob(logits, torch.tensor([3])).backward()
    exact = logits.detach().double().softmax(-1)
    assert logits.grad is not None
    assert abs(float(logits.grad[0, 3]) - float(1 - exact[0, 3])) < 1e-2 * float(1 - exact[0, 3])


def test_masked_rows_are_not_read() -> None:
    logits = random(4, 11, dtype=torch.float32)
    logits[::2] = float("nan")
    logits.requires_grad_()
    ids = torch.tensor([-5, 1, 99, 2])  # ids that do not exist, too
    weights = torch.tensor([0.0, 1.0, 0.0, 1.0])
    value, logps = kernels.grpo_loss(logits, ids, torch.ones(4), weights)
    value.backward()
    assert value.isfinite() and not logps[::2].any()
    assert logits.grad is not None
    assert logits.grad.isfinite().all() and not logits.grad[::2].any() and logits.grad[1].any()
    nothing, _ = kernels.grpo_loss(logits * 0, ids, torch.ones(4), torch.zeros(4))
    assert nothing == 0


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_a_gradient_scaled_in_place(factor: float) -> None:
    logits = random(4, 11, dtype=torch.float32).requires_grad_()
    ids, ones = ids_of(4, 11), torch.ones(4)
    value, _ = kernels.grpo_loss(logits, ids, ones, ones, inplace_grad=True)
    (found,) = torch.autograd.grad(value * factor, logits, retain_graph=True)
    (wanted,) = torch.autograd.grad(kernels.grpo_loss(logits, ids, ones, ones)[0], logits)
    assert torch.equal(found, wanted * factor) and wanted.any()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_reruns_are_equal_to_the_bit() -> None:
    hidden, weight = random(64, 16, dtype=torch.float32), random(501, 16, seed=1).float()
    hidden.requires_grad_()
    weight.requires_grad_()
    ids = ids_of(64, 501)

    def once() -> tuple[Tensor, ...]:
        logps = kernels.linear_logprob(hidden, weight, ids, chunk_rows=16)
        return (logps, *torch.autograd.grad(logps.sum(), (hidden, weight)))

    torch.empty(100_000).fill_(float("nan"))  # what empty memory may hold
    assert all(torch.equal(a, b) for a, b in zip(once(), once(), strict=True))


def test_gradients_over_the_logits() -> None:
    logits = random(6, 11, dtype=torch.float32)
    ids = ids_of(6, 11)
    leaf = logits.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(kernels.selective_logprob(leaf, ids, 0.7).sum(), leaf)
    leaf = logits.clone().requires_grad_()
    scratch = leaf * 1
    found = kernels.selective_logprob(scratch, ids, 0.7, inplace_grad=True)
    place = scratch.data_ptr()
    (gradient,) = torch.autograd.grad(found.sum(), scratch, retain_graph=True)
    assert gradient.data_ptr() == place
    assert_close(gradient, wanted)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(found.sum(), scratch)


# The head -----------------------------------------------------------------------------------


def test_the_heads_gradient_is_summed_in_float32() -> None:
    hidden = torch.full((4096, 2), 1.0, dtype=torch.bfloat16)
    weight = torch.zeros(3, 2, dtype=torch.bfloat16, requires_grad=True)
    ids = torch.zeros(4096, dtype=torch.long)
    kernels.linear_logprob(hidden, weight, ids, chunk_rows=8).sum().backward()
    assert weight.grad is not None
    # 4096 x (1 - 1/3): in bfloat16 the sum stops growing at 256 times its step.
    assert_close(weight.grad[0].float(), torch.full((2,), 4096 * 2 / 3), rtol=5e-3, atol=0)


def test_a_frozen_head_and_a_tied_one() -> None:
    hidden = random(5, 4, dtype=torch.float32).requires_grad_()
    head = random(11, 4, seed=1).float()
    ids = ids_of(5, 11)
    kernels.linear_logprob(hidden, head, ids).sum().backward()
    assert head.grad is None and hidden.grad is not None
    tied = head.clone().requires_grad_()
    (kernels.linear_logprob(hidden, tied, ids).sum() + tied[ids].sum()).backward()
    plain = head.clone().requires_grad_()
    wanted = reference.selective_logprob(hidden.detach() @ plain.T, ids).sum() + plain[ids].sum()
    wanted.backward()
    assert_close(tied.grad, plain.grad)
    for function in (kernels.linear_logprob, kernels.linear_grpo_loss):
        more = () if function is kernels.linear_logprob else (torch.ones(5), torch.ones(5))
        found = function(hidden.detach(), tied, ids, *more)
        found = found if isinstance(found, Tensor) else found[0]
        assert torch.autograd.grad(found.sum(), tied)[0].shape == tied.shape


def test_logits_never_exist_as_a_whole() -> None:
    """In a process of its own, whose highest memory is looked at."""
    code = """
import resource, torch
from r1omni import kernels
torch.set_num_threads(1)
hidden = torch.randn(1024, 16, requires_grad=True)
weight = torch.randn(100_000, 16, requires_grad=True)
ids = torch.arange(1024)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
kernels.linear_logprob(hidden[:8], weight, ids[:8], chunk_rows=8).sum().backward()
before = peak()
kernels.linear_logprob(hidden, weight, ids, chunk_rows=32).sum().backward()
ones = torch.ones(1024)
kernels.linear_grpo_loss(hidden, weight, ids, ones, ones, chunk_rows=32)[0].backward()
print(peak() - before)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert float(run.stdout) < 150  # MiB; all logits would take 391, and their gradient again


# Advantages ---------------------------------------------------------------------------------


def test_advantages_by_hand() -> None:
    rewards = torch.tensor([[1.0, 1.0], [0.0, float("nan")], [float("nan")] * 2, [3.0, 0.0]])
    found = kernels.group_advantages(rewards, 4, torch.tensor([1.0, 2.0]), scale="none")
    assert found.tolist() == [1.0, -2.0, 0.0, 1.0]
    alone = kernels.group_advantages(rewards[:2], 2, scale="none", baseline="leave_one_out")
    assert alone.tolist() == [2.0, -2.0]


# As operators -------------------------------------------------------------------------------


def _opcheck(operator: Any, *arguments: Any) -> None:
    torch.library.opcheck(operator, arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_operators_keep_their_promises(dtype: torch.dtype) -> None:
    logits = random(5, 11, dtype=dtype).requires_grad_()
    hidden = random(5, 4, dtype=dtype).requires_grad_()
    weight = random(11, 4, seed=1, dtype=dtype).requires_grad_()
    ids = ids_of(5, 11)
    extra = tuple(tokens(5, random(5, seed=6)).values())
    extra = tuple(tensor.to(dtype) for tensor in extra)
    numbers = (0.7, 0.2, 0.3, 0.1)
    plain, lses = logits.detach(), random(5, seed=2, dtype=dtype)
    for with_entropy in (True, False):
        _opcheck(selective._forward, logits, ids, 0.7, with_entropy, False)
    _opcheck(selective._backward, plain, ids, lses, lses, lses, None, 0.7)
    _opcheck(selective._backward_in_place, plain.clone(), ids, lses, lses, 0.7)
    _opcheck(loss._loss, logits, ids, *extra, *numbers, True, False)
    _opcheck(loss._loss, plain, ids, *extra, *numbers, False, False)
    _opcheck(linear._forward, hidden, weight, ids, 0.7, 2)
    _opcheck(
        linear._backward, hidden.detach(), weight.detach(), ids, lses, lses, 0.7, 2, True, True
    )
    for with_entropy in (True, False):
        wanted = (with_entropy, True, True, False)
        _opcheck(linear_loss._loss, hidden, weight, ids, *extra, *numbers, 2, *wanted)
    rewards, shares = random(6, 2, dtype=dtype), torch.ones(2, dtype=dtype)
    for scale in ("group", "batch"):
        _opcheck(advantages._advantages, rewards, shares, 3, scale, "sum_then_normalize", "mean")


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_as_one_graph(dynamic: bool) -> None:
    ids, weight = ids_of(6, 11), random(11, 4, seed=1, dtype=torch.float32).requires_grad_()
    ones = torch.ones(6)

    def everything(hidden: Tensor) -> Tensor:
        logits = hidden @ weight.T
        logps, entropy = kernels.selective_logprob_and_entropy(logits, ids, 0.7)
        value, _ = kernels.grpo_loss(logits, ids, ones, ones, beta=0.0)
        chunked, _ = kernels.linear_grpo_loss(hidden, weight, ids, ones, ones)
        direct = kernels.linear_logprob(hidden, weight, ids, 0.7)
        return logps.sum() + entropy.sum() + value + chunked + direct.sum()

    compiled: Callable[[Tensor], Tensor] = torch.compile(
        everything, fullgraph=True, dynamic=dynamic, backend="aot_eager"
    )
    hidden = random(6, 4, dtype=torch.float32).requires_grad_()
    found, wanted = compiled(hidden), everything(hidden)
    assert_close(found, wanted)
    for one, two in zip(
        torch.autograd.grad(found, (hidden, weight)),
        torch.autograd.grad(wanted, (hidden, weight)),
        strict=True,
    ):
        assert_close(one, two)


# Use ----------------------------------------------------------------------------------------


def test_bad_input() -> None:
    logits, ids = random(3, 11), ids_of(3, 11)
    ones = torch.ones(3)
    for call, message in (
        (lambda: kernels.selective_logprob(logits, ids[:2]), "do not fit"),
        (lambda: kernels.selective_logprob(logits, ids, 0.0), "temperature is 0"),
        (lambda: kernels.selective_logprob(logits, ids + 11), "outside the vocabulary of 11"),
        (lambda: kernels.grpo_loss(logits, ids, ones[:2], ones), "advantages has shape"),
        (lambda: kernels.grpo_loss(logits, ids, ones, ones, beta=0.1), "ref_logps is missing"),
        (lambda: kernels.grpo_loss(logits, ids, ones, ones, epsilon=-1), "epsilon is -1"),
        (lambda: kernels.grpo_loss(logits, ids, ones, ones, beta=-1), "beta is -1"),
        (lambda: kernels.selective_logprob(random(3, 0), ids), "do not fit"),
        (lambda: kernels.linear_logprob(logits, random(5, 4), ids), "do not fit"),
        (lambda: kernels.linear_logprob(logits, random(0, 11), ids), "do not fit"),
        (lambda: kernels.linear_logprob(random(3, 0), random(5, 0), ids), "do not fit"),
        (lambda: kernels.linear_logprob(logits, random(5, 11).float(), ids), "expected one dtype"),
        (lambda: kernels.linear_logprob(logits, random(5, 11), ids, chunk_rows=0), "chunk_rows"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_the_choice_of_implementation(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, ids = random(3, 11), ids_of(3, 11)
    with kernels.use("torch"):
        kernels.selective_logprob(logits, ids)
    with pytest.raises(ValueError, match="kernels 'cuda' are unknown"), kernels.use("cuda"):
        pass
    with kernels.use("triton"), pytest.raises(ValueError, match="a tensor is on cpu"):
        kernels.selective_logprob(logits, ids)
    monkeypatch.setenv("R1OMNI_KERNELS", "fast")
    with pytest.raises(ValueError, match="kernels 'fast' are unknown"):
        kernels.selective_logprob(logits, ids)


def test_importing_does_not_import_triton() -> None:
    code = (
        "import sys, torch, r1omni, r1omni.kernels\n"
        "print('triton' in sys.modules)\n"
        # torch itself may import it with the first call of an operator; our kernels it may not.
        "ids = torch.zeros(2, dtype=torch.long)\n"
        "r1omni.kernels.selective_logprob(torch.zeros(2, 3), ids)\n"
        "print([name for name in sys.modules if 'kernels.triton' in name])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.split() == ["False", "[]"]
