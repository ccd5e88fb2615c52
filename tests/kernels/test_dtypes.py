"""Every operator in every dtype that its docstring names, and inside `torch.autocast`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from r1omni import kernels
from r1omni.kernels import dispatch
from r1omni.kernels.triton_tables import linear_config, row_config

T, V, D = 6, 37, 16
IDS = torch.arange(T) * 5 % V
HALF = (torch.bfloat16, torch.float16)
# Relative error of a value that was worked out in a dtype.
ERROR = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def _random(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def _per_token(dtype: torch.dtype) -> dict[str, Tensor]:
    """What the losses take beside logits; one token has no weight."""
    tokens = {
        "advantages": _random(T, seed=2),
        "weights": torch.tensor([0.5, 0.0, 1.0, 0.25, 1.0, 0.5]),
        "old_logps": -3.6 + 0.1 * _random(T, seed=3),
        "ref_logps": -3.6 + 0.1 * _random(T, seed=4),
    }
    return {name: tensor.to(dtype) for name, tensor in tokens.items()}


@dataclass(frozen=True)
class Case:
    """An operator on some inputs.

    Attributes:
        inputs: shapes of the tensors that may need a gradient, of one dtype.
        call: the value, made of those and of other tensors in a dtype of their own.
        products: whether it multiplies matrices, which autocast does in half precision.
        differentiable: whether it has a gradient.
    """

    inputs: tuple[tuple[int, ...], ...]
    call: Callable[..., Tensor]
    products: bool = False
    differentiable: bool = True


def _both(pair: tuple[Tensor, Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in pair])


def _loss(function: Any, *inputs: Tensor, tokens: torch.dtype) -> Tensor:
    return function(*inputs, IDS, **_per_token(tokens), beta=0.1)[0]


CASES: dict[str, Case] = {
    "group_advantages": Case(
        ((12, 3),), lambda x, _: kernels.group_advantages(x, 4), differentiable=False
    ),
    "selective_logprob": Case(((T, V),), lambda x, _: kernels.selective_logprob(x, IDS, 0.7)),
    "selective_logprob_and_entropy": Case(
        ((T, V),), lambda x, _: _both(kernels.selective_logprob_and_entropy(x, IDS, 0.7))
    ),
    "grpo_loss": Case(((T, V),), lambda x, t: _loss(kernels.grpo_loss, x, tokens=t)),
    "linear_logprob": Case(
        ((T, D), (V, D)), lambda h, w, _: kernels.linear_logprob(h, w, IDS, 0.7, chunk_rows=4), True
    ),
    "linear_grpo_loss": Case(
        ((T, D), (V, D)), lambda h, w, t: _loss(kernels.linear_grpo_loss, h, w, tokens=t), True
    ),
}


def _named_dtypes(name: str) -> list[torch.dtype]:
    """What the operator's docstring says that its inputs may be."""
    text = inspect.getdoc(getattr(kernels, name)) or ""
    inputs = text.split("Returns:")[0]
    return [getattr(torch, found) for found in sorted(set(re.findall(r"b?float\d+", inputs)))]


def _computed(case: Case, inputs: list[Tensor], tokens: torch.dtype) -> list[Tensor]:
    """The value, and the gradients of its sum in each input."""
    if not case.differentiable:
        return [case.call(*inputs, tokens)]
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    value = case.call(*leaves, tokens)
    return [value.detach(), *torch.autograd.grad(value.sum(), leaves)]


def _inputs(case: Case) -> list[Tensor]:
    return [_random(*shape, seed=10 + i) for i, shape in enumerate(case.inputs)]


def _compare(found: list[Tensor], wanted: list[Tensor], error: float) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert (one.double() - other.double()).norm() <= error * other.double().norm()


def test_every_operator_has_a_case() -> None:
    # The loss with entropies is the same operator with one more output.
    assert CASES.keys() == set(kernels.__all__) - {"use", "linear_grpo_loss_and_entropy"}


@pytest.mark.parametrize("name", CASES)
def test_in_every_dtype_that_is_named(name: str) -> None:
    case, dtypes = CASES[name], _named_dtypes(name)
    assert {torch.float32, torch.float64, *HALF} == set(dtypes)
    for dtype in dtypes:
        inputs = [tensor.to(dtype) for tensor in _inputs(case)]
        wanted = _computed(case, [tensor.double() for tensor in inputs], torch.float64)
        found = _computed(case, inputs, torch.float64 if dtype == torch.float64 else torch.float32)
        kept = torch.float64 if dtype == torch.float64 else torch.float32
        if case.differentiable:
            assert found[0].dtype == kept and {g.dtype for g in found[1:]} == {dtype}
        _compare(found, wanted, max(ERROR[dtype], 1e-6 if not case.differentiable else 0.0))


@pytest.mark.parametrize("amp", HALF, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_inside_autocast(name: str, amp: torch.dtype) -> None:
    """Products are in autocast's dtype, everything else as it is outside, and so backwards."""
    case = CASES[name]
    for dtype in (torch.float32, torch.float64, amp):
        inputs = [tensor.to(dtype) for tensor in _inputs(case)]
        kept = torch.float64 if dtype == torch.float64 else torch.float32
        with torch.autocast("cpu", dtype=amp):
            found = _computed(case, inputs, kept)
        rounds = case.products and dtype != torch.float64
        outside = [tensor.to(amp) for tensor in inputs] if rounds else inputs
        wanted = _computed(case, outside, kept)
        for one, other in zip(found, wanted, strict=True):
            # The head's gradient is not rounded where the head itself is in a wider dtype.
            assert torch.equal(one.to(other.dtype), other)
        assert all(g.dtype == dtype for g in found[1:])


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.products])
def test_autocast_joins_what_layers_leave(name: str) -> None:
    """Hidden states of a layer are in half precision there, and the head is in float32."""
    case = CASES[name]
    hidden, weight = _inputs(case)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = _computed(case, [hidden.bfloat16(), weight.float()], torch.float32)
    both = _computed(case, [hidden.bfloat16(), weight.float().bfloat16()], torch.float32)
    assert mixed[2].dtype == torch.float32
    for one, other in zip(mixed, both, strict=True):
        assert torch.equal(one.to(other.dtype), other)


# What Triton computes with ---------------------------------------------------------------------


def test_triton_is_asked_for_what_its_tables_hold() -> None:
    """float64 on a GPU is torch's: the kernels compute in float32."""
    floating = [
        d for d in vars(torch).values() if isinstance(d, torch.dtype) and d.is_floating_point
    ]
    with FakeTensorMode():
        on_gpu = {d: dispatch.uses_triton(torch.empty(3, device="cuda", dtype=d)) for d in floating}
        with kernels.use("triton"), pytest.raises(ValueError, match="float64"):
            dispatch.uses_triton(torch.empty(3, device="cuda", dtype=torch.float64))
    taken = {dtype for dtype, triton in on_gpu.items() if triton}
    assert taken == {torch.float32, torch.bfloat16, torch.float16}
    for dtype in taken:
        assert linear_config(dtype, V).section
        for kernel in ("forward", "backward", "grpo"):
            assert row_config(kernel, dtype, V).tile
