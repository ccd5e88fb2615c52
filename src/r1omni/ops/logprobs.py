"""Log-probabilities of chosen tokens, and entropies, without a second copy of the logits.

`log_softmax` over a completion of C tokens holds another [C, V] tensor in float32, and autograd
keeps it for the backward pass. Here rows are worked through in chunks and only one number a row
is kept; the backward pass recomputes the softmax of each chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from r1omni.types import UsageError

# Elements of a chunk: 64 MiB in float32, some hundred rows of a vocabulary of 150,000.
_CHUNK_ELEMENTS = 2**24


def selective_logprob(logits: Tensor, token_ids: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probability of one token a row: log softmax(logits / temperature)[token_ids].

    Args:
        logits: float [..., V] of any precision; -inf rules a token out.
        token_ids: long [...].
        temperature: of the sampling, above 0.

    Returns:
        float32 [...] (float64 for float64 logits). Differentiable once, in `logits`.

    Raises:
        UsageError: shapes that do not fit, or a temperature that is not above 0.
    """
    _check_temperature(temperature)
    if logits.dim() < 1 or logits.shape[:-1] != token_ids.shape:
        raise UsageError(
            f"logits {list(logits.shape)} and token_ids {list(token_ids.shape)} do not fit; "
            "expected [..., V] and [...]"
        )
    rows = logits.reshape(-1, logits.shape[-1])
    values = _SelectiveLogprob.apply(rows, token_ids.reshape(-1), temperature)
    return cast(Tensor, values).view(token_ids.shape)


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy in nats of softmax(logits / temperature).

    Args:
        logits: float [..., V] of any precision; -inf rules a token out.
        temperature: of the sampling, above 0.

    Returns:
        float32 [...] (float64 for float64 logits). Differentiable once.

    Raises:
        UsageError: a temperature that is not above 0.
    """
    _check_temperature(temperature)
    rows = logits.reshape(-1, logits.shape[-1])
    return cast(Tensor, _Entropy.apply(rows, temperature)).view(logits.shape[:-1])


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise UsageError(f"temperature is {temperature}; it must be above 0")


def _working_dtype(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _chunks(logits: Tensor) -> Iterator[slice]:
    """Slices of the rows of `logits` [R, V] that bound the memory of one step."""
    step = max(1, _CHUNK_ELEMENTS // max(1, logits.shape[1]))
    for start in range(0, logits.shape[0], step):
        yield slice(start, start + step)


def _softmax(logits: Tensor, temperature: float) -> Tensor:
    return (logits.to(_working_dtype(logits)) / temperature).softmax(dim=-1)


class _SelectiveLogprob(torch.autograd.Function):
    """Rows [R, V] and ids [R] to [R]; d/dl_j = (1[j = id] - softmax_j) / temperature."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, token_ids: Tensor, temperature: float) -> Tensor:
        ctx.save_for_backward(logits, token_ids)
        ctx.temperature = temperature
        output = logits.new_empty(logits.shape[0], dtype=_working_dtype(logits))
        for rows in _chunks(logits):
            scaled = logits[rows].to(output.dtype) / temperature
            chosen = scaled.gather(1, token_ids[rows, None]).squeeze(1)
            output[rows] = chosen - scaled.logsumexp(dim=1)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        logits, token_ids = ctx.saved_tensors
        grad_logits = torch.empty_like(logits)
        for rows in _chunks(logits):
            slope = _softmax(logits[rows], ctx.temperature).neg_()
            one = torch.ones_like(slope[:, :1])
            slope.scatter_add_(1, token_ids[rows, None], one)
            grad_logits[rows] = slope.mul_(grad[rows, None] / ctx.temperature).to(logits.dtype)
        return grad_logits, None, None


class _Entropy(torch.autograd.Function):
    """Rows [R, V] to [R]; with e_j = -p_j log p_j, dH/dl_j = (e_j - p_j H) / temperature."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, temperature: float) -> Tensor:
        output = logits.new_empty(logits.shape[0], dtype=_working_dtype(logits))
        for rows in _chunks(logits):
            # entr(0) is 0, so a token ruled out adds nothing instead of 0 * -inf.
            output[rows] = torch.special.entr(_softmax(logits[rows], temperature)).sum(dim=1)
        ctx.save_for_backward(logits, output)
        ctx.temperature = temperature
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        logits, value = ctx.saved_tensors
        grad_logits = torch.empty_like(logits)
        for rows in _chunks(logits):
            share = _softmax(logits[rows], ctx.temperature)
            slope = torch.special.entr(share) - share * value[rows, None]
            grad_logits[rows] = slope.mul_(grad[rows, None] / ctx.temperature).to(logits.dtype)
        return grad_logits, None
