"""The steps of decoding one token a row that are no products: Triton on CUDA, torch elsewhere.

Rows stand in a grid of B groups with G rows each, n = B * G. The rows of a group share the keys and
values of a prompt; each has its own for what it has written. No gradients: nobody learns here.
"""

from __future__ import annotations

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
    if uses_triton(hidden):
        from r1omni.kernels import triton_decoding

        return triton_decoding.norm(hidden, delta, weight, eps, dtype)
    if delta is not None:
        hidden.add_(delta)
    return F.rms_norm(hidden, weight.shape, weight, eps).to(dtype)


def rotate_and_keep(
    fused: Tensor, cosines: Tensor, sines: Tensor, own: Tensor, column: Tensor, num_heads: int
) -> Tensor:
    """Turn queries and keys by their positions (arXiv 2104.09864), and keep keys and values.

    Args:
        fused: [n, (H + 2 Hkv) d], queries, keys and values of one token a row.
        cosines, sines: [n, d], of the tokens' positions; the first half of the sines is negative.
        own: [2, B, Hkv, G, C, d], contiguous: keys and values of the rows, written at `column`.
        column: long [1].
        num_heads: H.

    Returns:
        queries [B, Hkv, G, H / Hkv, d].
    """
    if uses_triton(fused):
        from r1omni.kernels import triton_decoding

        return triton_decoding.rotate(fused, cosines, sines, own, column, num_heads)
    _, batch, kv_heads, members, _, width = own.shape
    heads = fused.view(len(fused), -1, width)
    turned, values = heads.split([num_heads + kv_heads, kv_heads], dim=1)
    first, second = turned.chunk(2, dim=-1)
    swapped = torch.stack([second, first], dim=2).flatten(2)
    turned = torch.addcmul(turned * cosines[:, None], swapped, sines[:, None]).to(fused.dtype)
    grid = (batch, members, kv_heads, 1, width)
    own[0].index_copy_(3, column, turned[:, num_heads:].reshape(grid).transpose(1, 2))
    own[1].index_copy_(3, column, values.reshape(grid).transpose(1, 2))
    query = turned[:, :num_heads].view(batch, members, kv_heads, -1, width)
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
    if uses_triton(query):
        from r1omni.kernels import triton_decoding

        return triton_decoding.attend(query, prompt, own, bias)
    batch, kv_heads, members, repeats, width = query.shape
    length, per_head = prompt.shape[3], batch * kv_heads
    (keys, values), (own_keys, own_values) = prompt.flatten(1, 2), own.flatten(1, 3)
    # The G rows of a group side by side read the prompt's keys once.
    queries = query.view(per_head, members * repeats, width)
    scores = queries.new_empty(per_head, members * repeats, length + own.shape[4])
    torch.bmm(queries, keys.mT, out=scores[..., :length])
    own_scores = torch.bmm(queries.view(-1, repeats, width), own_keys.mT)
    scores[..., length:] = own_scores.view(per_head, members * repeats, -1)
    scores.unflatten(0, (batch, kv_heads)).add_(bias[:, None, None])
    shares = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    mixed = torch.bmm(shares[..., :length], values).view(-1, repeats, width)
    own_shares = shares[..., length:].reshape(len(mixed), repeats, -1)
    mixed = mixed.baddbmm_(own_shares, own_values).view(query.shape)
    return mixed.transpose(1, 2).reshape(batch * members, -1)


def gated(fused: Tensor) -> Tensor:
    """silu(gate) * up (arXiv 2002.05202), [n, I] from [n, 2 I]."""
    if uses_triton(fused):
        from r1omni.kernels import triton_decoding

        return triton_decoding.gated(fused)
    gate, up = fused.chunk(2, dim=-1)
    return F.silu(gate) * up
