"""Log-probabilities from hidden states and head, without [tokens, vocabulary].

Logits exist for a chunk of tokens at a time. The products are the library's; a step over the rows
turns the chunk's logits into log-probabilities, and in the backward pass into their own gradient,
in place. The gradient of the head is added up in float32. `linear_loss.py` makes the loss the same
way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from r1omni.kernels import rows
from r1omni.kernels.dispatch import ArgumentError, operator
from r1omni.kernels.selective import backward_rows, check_temperature, forward_rows

# Tokens of a chunk on CUDA: large enough for whole products, and the head's float32 gradient is
# read and written once a chunk.
_CUDA_ROWS = 2048
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

    Inside autocast both factors are taken in its dtype, as those of a linear layer are; gradients
    have the dtypes of `hidden` and `weight` all the same.

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
    flat, ids = flat_inputs(hidden, weight, token_ids)
    size = chunk_size(chunk_rows, flat, weight)
    logps, _ = _forward(flat, weight, ids, float(temperature), size)
    return logps.view(token_ids.shape)


def flat_inputs(hidden: Tensor, weight: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states [T, D] in the dtype of the products, and token ids [T].

    The operators themselves bring the head into that dtype: so its gradient, which is added up in
    float32, need not be rounded to it.

    Raises:
        ValueError: shapes or dtypes that do not fit.
    """
    fits = weight.dim() == 2 and hidden.dim() >= 1 and hidden.shape[-1] == weight.shape[1]
    if not fits or not weight.numel() or hidden.shape[:-1] != token_ids.shape:
        raise ArgumentError(
            f"hidden {list(hidden.shape)}, weight {list(weight.shape)} and token_ids "
            f"{list(token_ids.shape)} do not fit; expected [..., D], [V, D] and [...], "
            "D and V 1 or more"
        )
    dtype = _in_autocast(hidden)
    if dtype != _in_autocast(weight):
        raise ArgumentError(
            f"hidden is {hidden.dtype} and weight {weight.dtype}; expected one dtype"
        )
    return hidden.reshape(-1, hidden.shape[-1]).to(dtype), token_ids.reshape(-1)


def _in_autocast(tensor: Tensor) -> torch.dtype:
    """What a linear layer takes a tensor in; autocast leaves float64 alone."""
    device = tensor.device.type
    if tensor.dtype == torch.float64 or not torch.is_autocast_enabled(device):
        return tensor.dtype
    return torch.get_autocast_dtype(device)


def chunk_size(given: int | None, hidden: Tensor, weight: Tensor) -> int:
    """Tokens whose logits are held at a time.

    Raises:
        ValueError: `given` is below 1.
    """
    if given is not None and given < 1:
        raise ArgumentError(f"chunk_rows is {given}; it must be at least 1")
    if given is None:
        given = _CUDA_ROWS if hidden.is_cuda else _CPU_ELEMENTS // max(1, weight.shape[0])
    return max(1, given)


def chunks_of_logits(
    hidden: Tensor, head: Tensor, chunk_rows: int
) -> Iterator[tuple[slice, Tensor]]:
    """Slices of the tokens, each with its logits [t, V]; the next are written over them."""
    memory = hidden.new_empty(min(chunk_rows, len(hidden)), len(head))
    for start in range(0, len(hidden), chunk_rows):
        part = slice(start, min(start + chunk_rows, len(hidden)))
        yield part, torch.mm(hidden[part], head.T, out=memory[: part.stop - start])


# Log-probabilities --------------------------------------------------------------------------


@operator("r1omni::linear_logprob")
def _forward(
    hidden: Tensor, weight: Tensor, token_ids: Tensor, temperature: float, chunk_rows: int
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and log-sum-exps [T]."""
    logps = hidden.new_empty(len(hidden), dtype=rows.working_dtype(hidden))
    lses = torch.empty_like(logps)
    for part, logits in chunks_of_logits(hidden, weight.to(hidden.dtype), chunk_rows):
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
    head = weight.to(hidden.dtype)
    gradients = Gradients(hidden, head, weight.dtype, of_hidden, of_weight)
    for part, logits in chunks_of_logits(hidden, head, chunk_rows):
        backward_rows(
            logits, token_ids[part], lses[part], None, grad_logps[part], None, temperature, logits
        )
        gradients.add(part, logits)
    return gradients.found()


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
    return empty_gradients(hidden, weight, of_hidden, of_weight)


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


# Gradients ----------------------------------------------------------------------------------


class Gradients:
    """Gradients in hidden states and head, added up over chunks of tokens.

    Args:
        hidden: [T, D].
        head: [V, D], of the same dtype.
        dtype: that the head's gradient is wanted in.
        of_hidden, of_weight: which are wanted.
    """

    def __init__(
        self, hidden: Tensor, head: Tensor, dtype: torch.dtype, of_hidden: bool, of_weight: bool
    ) -> None:
        self._hidden, self._head, self._dtype = hidden, head, dtype
        self._of_hidden, _ = empty_gradients(hidden, head, of_hidden, False)
        # A sum over thousands of tokens loses what is small in bfloat16.
        shape = head.shape if of_weight else (0,)
        self._sum, self._has_sum = head.new_empty(shape, dtype=rows.working_dtype(head)), False

    def add(self, part: slice, grad_logits: Tensor) -> None:
        """Take in the gradient of a chunk's logits [t, V]."""
        if len(self._of_hidden):
            torch.mm(grad_logits, self._head, out=self._of_hidden[part])
        if len(self._sum):
            self._add_to_sum(grad_logits.T, self._hidden[part])
            self._has_sum = True

    def _add_to_sum(self, grad_logits: Tensor, hidden: Tensor) -> None:
        dtype, kept = self._sum.dtype, int(self._has_sum)  # the first is written over what is there
        if grad_logits.is_cuda and grad_logits.dtype != dtype:
            # The product adds to the sum by itself: nothing else moves [V, D] in float32.
            torch.addmm(self._sum, grad_logits, hidden, dtype, beta=kept, out=self._sum)
        else:
            self._sum.addmm_(grad_logits.to(dtype), hidden.to(dtype), beta=kept)

    def found(self) -> tuple[Tensor, Tensor]:
        """In hidden [T, D] and weight [V, D]; [0] if not wanted."""
        if not self._has_sum:  # there was no token
            self._sum.zero_()
        return self._of_hidden, self._sum.to(self._dtype)


def empty_gradients(
    hidden: Tensor, weight: Tensor, of_hidden: bool, of_weight: bool
) -> tuple[Tensor, Tensor]:
    """Room for both, [0] if not wanted."""
    dense = torch.contiguous_format
    return (
        torch.empty_like(hidden, memory_format=dense) if of_hidden else hidden.new_empty(0),
        torch.empty_like(weight, memory_format=dense) if of_weight else weight.new_empty(0),
    )
