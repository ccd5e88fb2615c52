"""The steps of decoding one token a row that are no products: Triton on CUDA, torch elsewhere.

Rows stand in a grid of B groups with G rows each, n = B * G. The rows of a group share the keys and
values of a prompt; each has its own for what it has written. No gradients: nobody learns here.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from r1omni.kernels.dispatch import uses_triton


def add_and_norm(
    hidden: Tensor, delta: Tensor | None, weight: Tensor, eps: float, dtype: torch.dtype
) -> Tensor:
    """RMSNorm (arXiv 1910.07467) of hidden + delta, which `hidden` becomes, in place.

    Args:
        hidden: float [n, D], the residual stream.
        delta: float [n, D], or None for 0.
        weight: float [D].
        eps: added to the mean square.
        dtype: of the result.
    """
    if hidden.is_cuda and uses_triton(hidden):
        from r1omni.kernels import triton_decoding

        return triton_decoding.norm(hidden, delta, weight, eps, dtype)
    if delta is not None:
        hidden.add_(delta)
    if hidden.device.type != "cpu" or hidden.dtype != torch.float32:
        return torch.rms_norm(hidden, weight.shape, weight, eps).to(dtype)
    # The library has 7 calls within, which on a CPU are what a few rows cost. Here there are 5: the
    # root of the mean square plus eps is the longest side of a triangle.
    mean = torch.linalg.vector_norm(hidden, dim=1, keepdim=True).mul_(hidden.shape[1] ** -0.5)
    return hidden.div(mean.hypot_(_root(eps))).mul_(weight).to(dtype)


@cache
def _root(eps: float) -> Tensor:
    """The root of `eps`, float32, 0-dimensional, on the CPU whatever the default device is."""
    return torch.tensor(eps**0.5, dtype=torch.float32, device="cpu")


def rotate_and_keep(
    fused: Tensor, turns: Tensor, own: Tensor, column: Tensor, num_heads: int
) -> Tensor:
    """Turn queries and keys by their positions (arXiv 2104.09864), and keep keys and values.

    The two numbers that are turned together stand side by side: a pair is one complex number.

    Args:
        fused: [n, (H + 2 Hkv) d], queries, keys and values of one token a row; may be changed.
        turns: complex64 [n, d / 2], cos + i sin of the angles of each row's position.
        own: [2, B, Hkv, G, C, d], contiguous: keys and values of the rows, written at `column`.
        column: long [1].
        num_heads: H.

    Returns:
        queries [B, Hkv, G, H / Hkv, d], contiguous.
    """
    if fused.is_cuda and uses_triton(fused):
        from r1omni.kernels import triton_decoding

        return triton_decoding.rotate(fused, turns, own, column, num_heads)
    _, batch, kv_heads, members, _, width = own.shape
    num_rows, num_turned = len(fused), num_heads + kv_heads
    # Views by the cheapest calls: on a CPU with a small model they are a third of the time.
    numbers = fused.view(num_rows, num_turned + kv_heads, width // 2, 2).narrow(1, 0, num_turned)
    pairs = torch.view_as_complex(numbers.float())
    pairs.mul_(turns.unsqueeze(1))
    if fused.dtype != torch.float32:  # float32 was turned in place
        numbers.copy_(torch.view_as_real(pairs))
    heads = fused.view(batch, members, num_turned + kv_heads, width)
    kept = heads.narrow(2, num_heads, 2 * kv_heads)  # keys, then values
    kept = kept.view(batch, members, 2, kv_heads, 1, width).permute(2, 0, 3, 1, 4, 5)
    own.index_copy_(4, column, kept)
    query = heads.narrow(2, 0, num_heads).view(batch, members, kv_heads, -1, width)
    return query.transpose(1, 2).contiguous()


def attend(query: Tensor, prompt: Tensor, own: Tensor, bias: Tensor) -> Tensor:
    """One softmax over the keys of the prompt and of the row itself.

    Args:
        query: [B, Hkv, G, R, d], contiguous, scaled; R query heads a key head.
        prompt: [2, B, Hkv, P, d], contiguous.
        own: [2, B, Hkv, G, L, d], the first L columns of a contiguous tensor.
        bias: [B, P + L], added to the scores: 0 where a row of the group may look, else minus
            infinity.

    Returns:
        [n, H d].
    """
    if query.is_cuda and uses_triton(query):
        from r1omni.kernels import triton_decoding

        return triton_decoding.attend(query, prompt, own, bias)
    batch, kv_heads, members, repeats, width = query.shape
    length, pairs = prompt.shape[3], batch * kv_heads
    keys, values = prompt.view(2, pairs, length, width).unbind()
    own_keys, own_values = own.flatten(1, 3).unbind()
    # The G rows of a group side by side read the prompt's keys once.
    queries = query.view(pairs, members * repeats, width)
    scores = queries.new_empty(pairs, members * repeats, length + own.shape[4])
    by_row = scores.view(-1, repeats, scores.shape[2])
    torch.bmm(queries, keys.mT, out=scores.narrow(2, 0, length))
    # Copied: on a CPU, the product into every other piece of memory takes four times as long.
    own_scores = torch.bmm(query.view(-1, repeats, width), own_keys.mT)
    by_row.narrow(2, length, own.shape[4]).copy_(own_scores)
    scores.view(batch, -1, scores.shape[2]).add_(bias.unsqueeze(1))
    shares = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    mixed = torch.bmm(shares.narrow(2, 0, length), values).view(-1, repeats, width)
    mixed.baddbmm_(shares.view(by_row.shape).narrow(2, length, own.shape[4]), own_values)
    return mixed.view(query.shape).transpose(1, 2).reshape(batch * members, -1)


def gated(fused: Tensor) -> Tensor:
    """silu(gate) * up (arXiv 2002.05202), [n, I] from [n, 2 I]."""
    if fused.is_cuda and uses_triton(fused):
        from r1omni.kernels import triton_decoding

        return triton_decoding.gated(fused)
    gate, up = fused.chunk(2, dim=-1)
    return F.silu(gate).mul_(up)
