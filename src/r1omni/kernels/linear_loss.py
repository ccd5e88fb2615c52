"""The GRPO objective from hidden states and head, without [tokens, vocabulary].

As in `linear.py` logits exist for a chunk of tokens at a time. Loss and gradients are computed
while they do, so nothing is computed again in the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from r1omni.kernels import rows
from r1omni.kernels.dispatch import operator
from r1omni.kernels.linear import (
    Gradients,
    chunk_size,
    chunks_of_logits,
    empty_gradients,
    flat_inputs,
)
from r1omni.kernels.loss import check_settings, check_tokens, loss_rows
from r1omni.kernels.scaling import scale_


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
    inplace_grad: bool = False,
    chunk_rows: int | None = None,
) -> tuple[Tensor, Tensor]:
    """`grpo_loss` of hidden @ weight.T, gradients included, in one pass over the tokens.

    Args, returns, raises: as for `grpo_loss` and `linear_logprob`, hidden states and head in
    float32, float64, bfloat16 or float16; tensors of tokens are [T]. `inplace_grad` spares a copy
    of both gradients.
    """
    return _call(
        hidden, weight, token_ids, advantages, weights, old_logps, ref_logps,
        temperature, epsilon, epsilon_high, beta, inplace_grad, chunk_rows, False,
    )[:2]  # fmt: skip


def linear_grpo_loss_and_entropy(
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
    inplace_grad: bool = False,
    chunk_rows: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """`linear_grpo_loss`, and the entropies [T] of what predicts each token, in nats.

    Entropies are for the log: they have no gradient. Those of tokens of weight 0 are 0.
    """
    return _call(
        hidden, weight, token_ids, advantages, weights, old_logps, ref_logps,
        temperature, epsilon, epsilon_high, beta, inplace_grad, chunk_rows, True,
    )  # fmt: skip


def _call(
    hidden: Tensor,
    weight: Tensor,
    token_ids: Tensor,
    advantages: Tensor,
    weights: Tensor,
    old_logps: Tensor | None,
    ref_logps: Tensor | None,
    temperature: float,
    epsilon: float,
    epsilon_high: float | None,
    beta: float,
    inplace_grad: bool,
    chunk_rows: int | None,
    with_entropy: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    high = check_settings(temperature, epsilon, epsilon_high, beta, ref_logps)
    flat, ids = flat_inputs(hidden, weight, token_ids)
    check_tokens(
        len(flat), advantages=advantages, weights=weights, old_logps=old_logps,
        ref_logps=ref_logps,
    )  # fmt: skip
    learns = torch.is_grad_enabled()
    loss, logps, entropies, _, _ = _loss(
        flat, weight, ids, advantages, weights, old_logps, ref_logps,
        float(temperature), float(epsilon), high, float(beta),
        chunk_size(chunk_rows, flat, weight), with_entropy,
        learns and hidden.requires_grad, learns and weight.requires_grad, inplace_grad,
    )  # fmt: skip
    return loss, logps, entropies


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
    with_entropy: bool,
    of_hidden: bool,
    of_weight: bool,
    inplace_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Loss, log-probabilities and entropies [T], and the loss's gradients in hidden and weight."""
    logps = hidden.new_empty(len(hidden), dtype=rows.working_dtype(hidden))
    entropies = torch.empty_like(logps) if with_entropy else logps.new_empty(0)
    loss = logps.new_zeros(())
    head = weight.to(hidden.dtype)
    gradients = Gradients(hidden, head, weight.dtype, of_hidden, of_weight)
    for part, logits in chunks_of_logits(hidden, head, chunk_rows):
        terms, logps[part], found = loss_rows(
            logits, token_ids[part], advantages[part], weights[part],
            None if old_logps is None else old_logps[part],
            None if ref_logps is None else ref_logps[part],
            temperature, epsilon, epsilon_high, beta,
            logits if of_hidden or of_weight else None, with_entropy,
        )  # fmt: skip
        loss += terms.sum()
        if with_entropy:
            entropies[part] = found
        if of_hidden or of_weight:
            gradients.add(part, logits)
    return loss, logps, entropies, *gradients.found()


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
    with_entropy: bool,
    of_hidden: bool,
    of_weight: bool,
    inplace_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    logps = hidden.new_empty(hidden.shape[0], dtype=rows.working_dtype(hidden))
    entropies = torch.empty_like(logps) if with_entropy else logps.new_empty(0)
    gradients = empty_gradients(hidden, weight, of_hidden, of_weight)
    return logps.new_empty(()), logps, entropies, *gradients


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, logps, entropies, grad_hidden, grad_weight = output
    ctx.inplace = inputs[-1]
    ctx.save_for_backward(grad_hidden, grad_weight)
    ctx.mark_non_differentiable(logps, entropies, grad_hidden, grad_weight)
    ctx.set_materialize_grads(False)


def _gradient(ctx: Any, slope: Tensor | None, *_: Any) -> tuple[Any, ...]:
    found: list[Tensor | None] = [None, None]
    for index, gradient in enumerate(ctx.saved_tensors):
        if slope is None or not ctx.needs_input_grad[index]:
            continue
        if ctx.inplace:
            scale_(gradient, slope)
            found[index] = gradient
        else:
            found[index] = gradient * slope.to(gradient.dtype)
    return (*found, *(None,) * 14)


_loss.register_autograd(_gradient, setup_context=_setup_context)
