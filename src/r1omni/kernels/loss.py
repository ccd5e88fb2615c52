"""The GRPO objective straight from logits: terms and gradient in one operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from r1omni.kernels import rows
from r1omni.kernels.dispatch import ArgumentError, operator, uses_triton
from r1omni.kernels.scaling import scale_
from r1omni.kernels.selective import check_temperature


def grpo_loss(
    logits: Tensor,
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
) -> tuple[Tensor, Tensor]:
    """Sum over tokens of w (-min(r A, clip(r, 1 - epsilon, 1 + epsilon_high) A) + beta k3).

    r is the token's probability over that under the policy that sampled, held within exp(+-20);
    k3 = exp(d) - 1 - d with d = ref_logp - logp, held below 20. The weights hold mask and
    normaliser: 1 / (length of its completion * completions) for the loss of GRPO, 1 / tokens for
    that of DAPO. A token of weight 0 is not read. The gradient is computed with the loss, so the
    logits are read while they are at hand, and the backward pass only scales it.

    Args:
        logits: float32, float64, bfloat16 or float16 [T, V].
        token_ids: long [T].
        advantages: float [T], one a token.
        weights: float [T].
        old_logps: float [T], or None for a ratio of 1 that has a gradient.
        ref_logps: float [T]; needed for a beta other than 0.
        temperature: of the sampling, above 0.
        epsilon: how far below 1 a ratio has a gradient.
        epsilon_high: how far above; None is `epsilon`.
        beta: weight of k3.
        inplace_grad: scale the gradient where it is, which saves a copy [T, V]; a second backward
            pass is then refused.

    Returns:
        The loss, 0-dimensional, differentiable once in `logits`; and the log-probabilities [T], 0
        where the weight is 0, without a gradient. float32, or float64 for float64 logits.

    Raises:
        ValueError: shapes that do not fit, a number out of range, or a missing reference.
    """
    if logits.dim() != 2:
        raise ArgumentError(f"logits have shape {list(logits.shape)}; expected [T, V]")
    high = check_settings(temperature, epsilon, epsilon_high, beta, ref_logps)
    check_tokens(
        logits.shape[0], token_ids=token_ids, advantages=advantages, weights=weights,
        old_logps=old_logps, ref_logps=ref_logps,
    )  # fmt: skip
    loss, logps, _ = _loss(
        logits, token_ids, advantages, weights, old_logps, ref_logps,
        float(temperature), float(epsilon), high, float(beta),
        logits.requires_grad and torch.is_grad_enabled(), inplace_grad,
    )  # fmt: skip
    return loss, logps


def check_settings(
    temperature: float,
    epsilon: float,
    epsilon_high: float | None,
    beta: float,
    ref_logps: Tensor | None,
) -> float:
    """The upper epsilon, everything checked.

    Raises:
        ValueError: a number out of range, or a missing reference.
    """
    check_temperature(temperature)
    high = epsilon if epsilon_high is None else epsilon_high
    if not (0 <= epsilon <= 1 and 0 <= high < float("inf")):
        raise ArgumentError(
            f"epsilon is {epsilon} below and {high} above; expected 0 to 1, and 0 on"
        )
    if not 0 <= beta < float("inf"):
        raise ArgumentError(f"beta is {beta}; it must be 0 or more")
    if beta != 0 and ref_logps is None:
        raise ArgumentError(f"beta is {beta} but ref_logps is missing; pass it or set beta 0")
    return float(high)


def check_tokens(num_tokens: int, **tensors: Tensor | None) -> None:
    """Refuse tensors that have not one entry a token.

    Raises:
        ValueError: naming the tensor.
    """
    for name, tensor in tensors.items():
        if tensor is not None and tensor.shape != (num_tokens,):
            raise ArgumentError(f"{name} has shape {list(tensor.shape)}; expected [{num_tokens}]")


@operator("r1omni::grpo_loss")
def _loss(
    logits: Tensor,
    token_ids: Tensor,
    advantages: Tensor,
    weights: Tensor,
    old_logps: Tensor | None,
    ref_logps: Tensor | None,
    temperature: float,
    epsilon: float,
    epsilon_high: float,
    beta: float,
    with_grad: bool,
    inplace_grad: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, log-probabilities [T], and the gradient of the loss ([0] if not wanted)."""
    if with_grad:
        gradient = torch.empty_like(logits, memory_format=torch.contiguous_format)
    else:
        gradient = logits.new_empty(0)
    terms, logps, _ = loss_rows(
        logits, token_ids, advantages, weights, old_logps, ref_logps,
        temperature, epsilon, epsilon_high, beta, gradient if with_grad else None,
    )  # fmt: skip
    return terms.sum(), logps, gradient


@_loss.register_fake
def _(
    logits: Tensor,
    token_ids: Tensor,
    advantages: Tensor,
    weights: Tensor,
    old_logps: Tensor | None,
    ref_logps: Tensor | None,
    temperature: float,
    epsilon: float,
    epsilon_high: float,
    beta: float,
    with_grad: bool,
    inplace_grad: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    logps = logits.new_empty(logits.shape[0], dtype=rows.working_dtype(logits))
    dense = torch.empty_like(logits, memory_format=torch.contiguous_format)
    return logps.new_empty(()), logps, dense if with_grad else logits.new_empty(0)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, logps, gradient = output
    ctx.inplace = inputs[-1]
    ctx.save_for_backward(gradient)
    ctx.mark_non_differentiable(logps, gradient)
    ctx.set_materialize_grads(False)


def _gradient(ctx: Any, slope: Tensor | None, *_: Any) -> tuple[Any, ...]:
    if slope is None:
        return (None,) * 12
    (gradient,) = ctx.saved_tensors
    if ctx.inplace:
        scale_(gradient, slope)
    else:
        gradient = gradient * slope.to(gradient.dtype)
    return (gradient, *(None,) * 11)


_loss.register_autograd(_gradient, setup_context=_setup_context)


def loss_rows(
    logits: Tensor,
    token_ids: Tensor,
    advantages: Tensor,
    weights: Tensor,
    old_logps: Tensor | None,
    ref_logps: Tensor | None,
    temperature: float,
    epsilon: float,
    epsilon_high: float,
    beta: float,
    out: Tensor | None,
    with_entropy: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Terms, log-probabilities and entropies [T], the terms' gradient in `out`, by Triton or torch.

    Entropies are [0] if not wanted.
    """
    if not uses_triton(logits):
        return rows.loss_and_grad(
            logits, token_ids, advantages, weights, old_logps, ref_logps,
            temperature, epsilon, epsilon_high, beta, out, with_entropy,
        )  # fmt: skip
    from r1omni.kernels import triton_grpo

    dense = logits if logits.stride(-1) == 1 else logits.contiguous()
    return triton_grpo.loss_and_grad(
        dense, token_ids, advantages.float(), weights.float(),
        None if old_logps is None else old_logps.float(),
        None if ref_logps is None else ref_logps.float(),
        temperature, epsilon, epsilon_high, beta, out, with_entropy,
    )  # fmt: skip
