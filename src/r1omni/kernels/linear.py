"""From hidden states and head to log-probabilities or loss, without [tokens, vocabulary].

Logits exist for a chunk of tokens at a time. The products are the library's; a step over the rows
turns the chunk's logits into log-probabilities, and in the backward pass into their own gradient,
in place. The gradient of the head is added up in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from r1omni.kernels import rows
from r1omni.kernels.dispatch import ArgumentError, operator
from r1omni.kernels.loss import check_settings, check_tokens, loss_rows
from r1omni.kernels.selective import backward_rows, check_temperature, forward_rows

# Tokens of a chunk on CUDA: large enough for whole products, and the head's float32 gradient is
# read and written once a chunk.
_CUDA_ROWS = 1024
# Logits of a chunk elsewhere: 64 MiB in float32, some hundred rows of a vocabulary of 150,000.
_CPU_ELEMENTS = 2**24


def linear_logprob(
    hidden: Tensor,
    weight: Tensor,
    token_ids: Tensor,
    temperature: float = 1.0,
    *,
    chunk_rows: int | None = None,
) -> Tensor:
    """log softmax(hidden @ weight.T / temperature)[token_ids].

    Inside autocast both factors are taken in its dtype, as those of a linear layer are.

    Args:
        hidden: float32, float64, bfloat16 or float16 [..., D].
        weight: of the same dtype, [V, D], the head; may be the embedding too. Without
            `requires_grad` its gradient is not computed.
        token_ids: long [...].
        temperature: of the sampling, above 0.
        chunk_rows: tokens whose logits are held at a time; None chooses.

    Returns:
        float32 [...] (float64 for float64 inputs). Differentiable once, in `hidden` and `weight`;
        the backward pass computes the logits again.

    Raises:
        ValueError: shapes or dtypes that do not fit, a number out of range.
    """
    check_temperature(temperature)
    hidden, weight = _as_autocast_has_it(hidden, weight)
    flat, ids = _flat(hidden, weight, token_ids)
    size = _chunk_rows(chunk_rows, flat, weight)
    logps, _ = _forward(flat, weight, ids, float(temperature), size)
    return logps.view(token_ids.shape)


def linear_grpo_loss(
    hidden: Tensor,
    weight: Tensor,
    token_ids: Tensor,
    advantages: Tensor,
    weights: Tensor,
    old_logps: Tensor | None = None,
    ref_logps: Tensor | None = None,
    *,
    temperature: float = 1.0,
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    beta: float = 0.0,
    chunk_rows: int | None = None,
) -> tuple[Tensor, Tensor]:
    """`grpo_loss` of hidden @ weight.T, gradients included, in one pass over the tokens.

    Args, returns, raises: as for `grpo_loss` and `linear_logprob`, hidden states and head in
    float32, float64, bfloat16 or float16; tensors of tokens are [T].
    """
    high = check_settings(temperature, epsilon, epsilon_high, beta, ref_logps)
    hidden, weight = _as_autocast_has_it(hidden, weight)
    flat, ids = _flat(hidden, weight, token_ids)
    check_tokens(
        len(flat), advantages=advantages, weights=weights, old_logps=old_logps,
        ref_logps=ref_logps,
    )  # fmt: skip
    size = _chunk_rows(chunk_rows, flat, weight)
    learns = torch.is_grad_enabled()
    loss, logps, _, _ = _loss(
        flat, weight, ids, advantages, weights, old_logps, ref_logps,
        float(temperature), float(epsilon), high, float(beta), size,
        learns and hidden.requires_grad, learns and weight.requires_grad,
    )  # fmt: skip
    return loss, logps


def _as_autocast_has_it(hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    device = hidden.device.type
    if not torch.is_autocast_enabled(device):
        return hidden, weight
    dtype = torch.get_autocast_dtype(device)
    kept = torch.float64  # which autocast leaves alone
    return (
        hidden if hidden.dtype == kept else hidden.to(dtype),
        weight if weight.dtype == kept else weight.to(dtype),
    )


def _flat(hidden: Tensor, weight: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
    fits = weight.dim() == 2 and hidden.dim() >= 1 and hidden.shape[-1] == weight.shape[1]
    if not fits or hidden.shape[:-1] != token_ids.shape:
        raise ArgumentError(
            f"hidden {list(hidden.shape)}, weight {list(weight.shape)} and token_ids "
            f"{list(token_ids.shape)} do not fit; expected [..., D], [V, D] and [...]"
        )
    if hidden.dtype != weight.dtype:
        raise ArgumentError(
            f"hidden is {hidden.dtype} and weight {weight.dtype}; expected one dtype"
        )
    return hidden.reshape(-1, hidden.shape[-1]), token_ids.reshape(-1)


def _chunk_rows(given: int | None, hidden: Tensor, weight: Tensor) -> int:
    if given is not None and given < 1:
        raise ArgumentError(f"chunk_rows is {given}; it must be at least 1")
    if given is None:
        given = _CUDA_ROWS if hidden.is_cuda else _CPU_ELEMENTS // max(1, weight.shape[0])
    return max(1, given)


def _parts(num_rows: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]


# Log-probabilities --------------------------------------------------------------------------


@operator("r1omni::linear_logprob")
def _forward(
    hidden: Tensor, weight: Tensor, token_ids: Tensor, temperature: float, chunk_rows: int
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and log-sum-exps [T]."""
    logps = hidden.new_empty(len(hidden), dtype=rows.working_dtype(hidden))
    lses = torch.empty_like(logps)
    for part in _parts(len(hidden), chunk_rows):
        logits = hidden[part] @ weight.T
        logps[part], lses[part], _ = forward_rows(logits, token_ids[part], temperature)
    return logps, lses


@_forward.register_fake
def _(
    hidden: Tensor, weight: Tensor, token_ids: Tensor, temperature: float, chunk_rows: int
) -> tuple[Tensor, Tensor]:
    logps = hidden.new_empty(hidden.shape[0], dtype=rows.working_dtype(hidden))
    return logps, torch.empty_like(logps)


@operator("r1omni::linear_logprob_backward")
def _backward(
    hidden: Tensor,
    weight: Tensor,
    token_ids: Tensor,
    lses: Tensor,
    grad_logps: Tensor,
    temperature: float,
    chunk_rows: int,
    of_hidden: bool,
    of_weight: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients in hidden and weight, each [0] if not wanted."""
    sums = _Sums(hidden, weight, of_hidden, of_weight)
    for part in _parts(len(hidden), chunk_rows):
        logits = hidden[part] @ weight.T
        backward_rows(
            logits, token_ids[part], lses[part], None, grad_logps[part], None, temperature, logits
        )
        sums.add(part, logits)
    return sums.gradients()


@_backward.register_fake
def _(
    hidden: Tensor,
    weight: Tensor,
    token_ids: Tensor,
    lses: Tensor,
    grad_logps: Tensor,
    temperature: float,
    chunk_rows: int,
    of_hidden: bool,
    of_weight: bool,
) -> tuple[Tensor, Tensor]:
    return _empty_gradients(hidden, weight, of_hidden, of_weight)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    hidden, weight, token_ids, ctx.temperature, ctx.chunk_rows = inputs
    ctx.save_for_backward(hidden, weight, token_ids, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _gradient(ctx: Any, grad_logps: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    if grad_logps is None:
        return (None,) * 5
    hidden, weight, token_ids, lses = ctx.saved_tensors
    of_hidden, of_weight = ctx.needs_input_grad[:2]
    found = _backward(
        hidden, weight, token_ids, lses, grad_logps, ctx.temperature, ctx.chunk_rows,
        of_hidden, of_weight,
    )  # fmt: skip
    return (found[0] if of_hidden else None, found[1] if of_weight else None, None, None, None)


_forward.register_autograd(_gradient, setup_context=_setup_context)


# The loss -----------------------------------------------------------------------------------


@operator("r1omni::linear_grpo_loss")
def _loss(
    hidden: Tensor,
    weight: Tensor,
    token_ids: Tensor,
    advantages: Tensor,
    weights: Tensor,
    old_logps: Tensor | None,
    ref_logps: Tensor | None,
    temperature: float,
    epsilon: float,
    epsilon_high: float,
    beta: float,
    chunk_rows: int,
    of_hidden: bool,
    of_weight: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss, log-probabilities [T], and the loss's gradients in hidden and weight."""
    logps = hidden.new_empty(len(hidden), dtype=rows.working_dtype(hidden))
    loss = logps.new_zeros(())
    sums = _Sums(hidden, weight, of_hidden, of_weight)
    for part in _parts(len(hidden), chunk_rows):
        logits = hidden[part] @ weight.T
        terms, logps[part] = loss_rows(
            logits, token_ids[part], advantages[part], weights[part],
            None if old_logps is None else old_logps[part],
            None if ref_logps is None else ref_logps[part],
            temperature, epsilon, epsilon_high, beta, logits if of_hidden or of_weight else None,
        )  # fmt: skip
        loss += terms.sum()
        if of_hidden or of_weight:
            sums.add(part, logits)
    return loss, logps, *sums.gradients()


@_loss.register_fake
def _(
    hidden: Tensor,
    weight: Tensor,
    token_ids: Tensor,
    advantages: Tensor,
    weights: Tensor,
    old_logps: Tensor | None,
    ref_logps: Tensor | None,
    temperature: float,
    epsilon: float,
    epsilon_high: float,
    beta: float,
    chunk_rows: int,
    of_hidden: bool,
    of_weight: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    logps = hidden.new_empty(hidden.shape[0], dtype=rows.working_dtype(hidden))
    return logps.new_empty(()), logps, *_empty_gradients(hidden, weight, of_hidden, of_weight)


def _setup_loss_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, logps, grad_hidden, grad_weight = output
    ctx.save_for_backward(grad_hidden, grad_weight)
    ctx.mark_non_differentiable(logps, grad_hidden, grad_weight)
    ctx.set_materialize_grads(False)


def _loss_gradient(ctx: Any, slope: Tensor | None, *_: Any) -> tuple[Any, ...]:
    if slope is None:
        return (None,) * 14
    found = [
        gradient * slope.to(gradient.dtype) if needed else None
        for gradient, needed in zip(ctx.saved_tensors, ctx.needs_input_grad[:2], strict=True)
    ]
    return (*found, *(None,) * 12)


_loss.register_autograd(_loss_gradient, setup_context=_setup_loss_context)


# Gradients ----------------------------------------------------------------------------------


class _Sums:
    """Gradients in hidden states and head, added up over chunks of tokens."""

    def __init__(self, hidden: Tensor, weight: Tensor, of_hidden: bool, of_weight: bool) -> None:
        self.hidden, self.weight = hidden, weight
        self.grad_hidden, grad_weight = _empty_gradients(hidden, weight, of_hidden, of_weight)
        self.of_hidden, self.of_weight = of_hidden, of_weight
        # A sum over thousands of tokens loses what is small in bfloat16.
        self.sum = torch.zeros_like(grad_weight, dtype=rows.working_dtype(weight))

    def add(self, part: slice, grad_logits: Tensor) -> None:
        """Take in the gradient of a chunk's logits [t, V]."""
        if self.of_hidden:
            torch.mm(grad_logits, self.weight, out=self.grad_hidden[part])
        if self.of_weight:
            chunk = self.hidden[part]
            if grad_logits.dtype == self.sum.dtype:
                self.sum.addmm_(grad_logits.T, chunk)
            elif grad_logits.is_cuda:
                self.sum += torch.mm(grad_logits.T, chunk, out_dtype=self.sum.dtype)
            else:
                self.sum.addmm_(grad_logits.T.to(self.sum.dtype), chunk.to(self.sum.dtype))

    def gradients(self) -> tuple[Tensor, Tensor]:
        """In hidden [T, D] and weight [V, D], in their dtype; [0] if not wanted."""
        return self.grad_hidden, self.sum.to(self.weight.dtype)


def _empty_gradients(
    hidden: Tensor, weight: Tensor, of_hidden: bool, of_weight: bool
) -> tuple[Tensor, Tensor]:
    dense = torch.contiguous_format
    return (
        torch.empty_like(hidden, memory_format=dense) if of_hidden else hidden.new_empty(0),
        torch.empty_like(weight, memory_format=dense) if of_weight else weight.new_empty(0),
    )
