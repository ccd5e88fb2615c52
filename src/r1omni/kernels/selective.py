"""Log-probability of one token a row, and entropy: operators with a gradient, for any device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from r1omni.kernels import rows
from r1omni.kernels.dispatch import ArgumentError, operator, uses_triton


def selective_logprob(
    logits: Tensor, token_ids: Tensor, temperature: float = 1.0, *, inplace_grad: bool = False
) -> Tensor:
    """log softmax(logits / temperature)[token_ids].

    One number a row is kept for the backward pass, which reads the logits again. A row whose
    incoming gradient is 0 is not read there, so nothing of a masked row comes through.

    Args:
        logits: float32, float64, bfloat16 or float16 [..., V], of any strides; -inf rules a token
            out.
        token_ids: long [...]; an id outside the vocabulary is refused on the CPU, and has the
            log-probability NaN on CUDA.
        temperature: of the sampling, above 0.
        inplace_grad: write the gradient over the logits, which saves their size in memory. The
            logits must not be used afterwards, nor under activation checkpointing; a second
            backward pass is refused.

    Returns:
        float32 [...] (float64 for float64 logits). Differentiable once, in `logits`.

    Raises:
        ValueError: shapes that do not fit, a temperature that is not above 0, an id that does not
            exist.
    """
    flat, ids = _rows(logits, token_ids, temperature)
    logps, _, _ = _forward(flat, ids, float(temperature), False, inplace_grad)
    return logps.view(token_ids.shape)


def selective_logprob_and_entropy(
    logits: Tensor, token_ids: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """`selective_logprob` and the entropy in nats of the same distributions, in one pass.

    Args, raises: as for `selective_logprob`, logits in float32, float64, bfloat16 or float16.
    Returns two tensors as it does, both differentiable.
    """
    flat, ids = _rows(logits, token_ids, temperature)
    logps, _, entropies = _forward(flat, ids, float(temperature), True, False)
    return logps.view(token_ids.shape), entropies.view(token_ids.shape)


def check_temperature(temperature: float) -> None:
    """Refuse a temperature that is not above 0.

    Raises:
        ValueError: so it is.
    """
    if not 0 < temperature < float("inf"):
        raise ArgumentError(f"temperature is {temperature}; it must be above 0")


def _rows(logits: Tensor, token_ids: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    check_temperature(temperature)
    if logits.dim() < 1 or logits.shape[:-1] != token_ids.shape or not logits.shape[-1]:
        raise ArgumentError(
            f"logits {list(logits.shape)} and token_ids {list(token_ids.shape)} do not fit; "
            "expected [..., V] and [...], V 1 or more"
        )
    return logits.reshape(-1, logits.shape[-1]), token_ids.reshape(-1)


# The operators ------------------------------------------------------------------------------


@operator("r1omni::selective_logprob")
def _forward(
    logits: Tensor, token_ids: Tensor, temperature: float, with_entropy: bool, inplace_grad: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities, log-sum-exps and entropies ([0] if not wanted) of rows [T, V]."""
    return forward_rows(logits, token_ids, temperature, with_entropy)


@_forward.register_fake
def _(
    logits: Tensor, token_ids: Tensor, temperature: float, with_entropy: bool, inplace_grad: bool
) -> tuple[Tensor, Tensor, Tensor]:
    logps = logits.new_empty(logits.shape[0], dtype=rows.working_dtype(logits))
    entropies = torch.empty_like(logps) if with_entropy else logps.new_empty(0)
    return logps, torch.empty_like(logps), entropies


@operator("r1omni::selective_logprob_backward")
def _backward(
    logits: Tensor,
    token_ids: Tensor,
    lses: Tensor,
    entropies: Tensor,
    grad_logps: Tensor | None,
    grad_entropies: Tensor | None,
    temperature: float,
) -> Tensor:
    """Gradient of `_forward` in the logits."""
    out = torch.empty_like(logits, memory_format=torch.contiguous_format)
    backward_rows(logits, token_ids, lses, entropies, grad_logps, grad_entropies, temperature, out)
    return out


@_backward.register_fake
def _(
    logits: Tensor,
    token_ids: Tensor,
    lses: Tensor,
    entropies: Tensor,
    grad_logps: Tensor | None,
    grad_entropies: Tensor | None,
    temperature: float,
) -> Tensor:
    return torch.empty_like(logits, memory_format=torch.contiguous_format)


# Written over the logits, which autograd's count of versions then refuses to read again.
@operator("r1omni::selective_logprob_backward_", mutates_args=("logits",))
def _backward_in_place(
    logits: Tensor, token_ids: Tensor, lses: Tensor, grad_logps: Tensor, temperature: float
) -> None:
    backward_rows(logits, token_ids, lses, None, grad_logps, None, temperature, logits)


@_backward_in_place.register_fake
def _(
    logits: Tensor, token_ids: Tensor, lses: Tensor, grad_logps: Tensor, temperature: float
) -> None:
    return None


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    logits, token_ids, temperature, with_entropy, inplace_grad = inputs
    _, lses, entropies = output
    ctx.save_for_backward(logits, token_ids, lses, entropies)
    ctx.temperature, ctx.with_entropy, ctx.inplace = temperature, with_entropy, inplace_grad
    ctx.mark_non_differentiable(lses)
    ctx.set_materialize_grads(False)


def _gradient(
    ctx: Any, grad_logps: Tensor | None, _: Tensor | None, grad_entropies: Tensor | None
) -> tuple[Tensor | None, None, None, None, None]:
    logits, token_ids, lses, entropies = ctx.saved_tensors
    grad_entropies = grad_entropies if ctx.with_entropy else None
    if grad_logps is None and grad_entropies is None:
        return None, None, None, None, None
    if ctx.inplace and grad_logps is not None:
        _backward_in_place(logits, token_ids, lses, grad_logps, ctx.temperature)
        return logits, None, None, None, None
    gradient = _backward(
        logits, token_ids, lses, entropies, grad_logps, grad_entropies, ctx.temperature
    )
    return gradient, None, None, None, None


_forward.register_autograd(_gradient, setup_context=_setup_context)


# By the chosen implementation ---------------------------------------------------------------


def forward_rows(
    logits: Tensor, token_ids: Tensor, temperature: float, with_entropy: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities, log-sum-exps and entropies of rows [T, V], by Triton or torch."""
    if not uses_triton(logits):
        return rows.forward(logits, token_ids, temperature, with_entropy)
    from r1omni.kernels import triton_selective

    return triton_selective.forward(_dense_rows(logits), token_ids, temperature, with_entropy)


def backward_rows(
    logits: Tensor,
    token_ids: Tensor,
    lses: Tensor,
    entropies: Tensor | None,
    grad_logps: Tensor | None,
    grad_entropies: Tensor | None,
    temperature: float,
    out: Tensor,
) -> None:
    """The gradient of `forward_rows` into `out` [T, V], by Triton or torch."""
    if uses_triton(logits):
        from r1omni.kernels import triton_selective

        triton_selective.backward(
            _dense_rows(logits), token_ids, lses, entropies, grad_logps, grad_entropies,
            temperature, out,
        )  # fmt: skip
    else:
        rows.backward(
            logits, token_ids, lses, entropies, grad_logps, grad_entropies, temperature, out
        )


def _dense_rows(logits: Tensor) -> Tensor:
    """Rows whose elements lie side by side, as the kernels read them."""
    return logits if logits.stride(-1) == 1 else logits.contiguous()
