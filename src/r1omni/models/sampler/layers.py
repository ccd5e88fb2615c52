"""One token a row through the language model: the layers of Qwen2 over keys kept in place.

Rows stand in a grid of B groups with G rows each. All rows of a group share the keys and values of
their prompt; each has its own for what it has written. A query attends to both under one softmax.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from r1omni.models.sampler.weights import DecoderWeights, LayerWeights

# Rows from which a product of the head on a CPU is no longer faster the other way round.
_FEW_ROWS = 64


def decode(
    weights: DecoderWeights,
    embeds: Tensor,
    rotary: tuple[Tensor, Tensor],
    prompt: Tensor,
    own: Tensor,
    column: Tensor,
    bias: Tensor,
) -> Tensor:
    """Logits [n, V] of the tokens after the given ones; their keys and values are written.

    Args:
        weights: of the language model.
        embeds: [n, D], n = B * G, one token a row.
        rotary: cosines and sines of the tokens' positions, each [n, 1, d], the first half of the
            sines negative.
        prompt: keys and values of the prompts, [layers, 2, B, Hkv, P, d].
        own: those of the rows, [layers, 2, B, Hkv, G, C, d].
        column: long [1], the place among C of the given tokens.
        bias: [B, 1, P + L], added to the scores: 0 where a row of the group may look, else minus
            infinity. Its length says how many of C, L, are looked at.
    """
    hidden = embeds
    for layer, shared, written in zip(weights.layers, prompt, own, strict=True):
        mixed = _attention(weights, layer, hidden, rotary, shared, written, column, bias)
        hidden = _add_product(hidden, mixed, layer.out)
        read = _norm(hidden, layer.mlp_norm, weights)
        gate, up = F.linear(read, layer.gate_up).chunk(2, dim=-1)
        hidden = _add_product(hidden, weights.activation(gate) * up, layer.down)
    return head_product(_norm(hidden, weights.norm, weights), weights.head)


def head_product(hidden: Tensor, head: Tensor) -> Tensor:
    """Logits [n, V] = hidden @ head.T, by the faster of two orders.

    On a CPU the float32 product of few rows with a head of 32,000 x 256 takes 2 to 4 times as long
    one way as the other; in bfloat16, on a GPU and from about 64 rows on it does not matter.
    """
    few = 1 < len(hidden) <= _FEW_ROWS
    if few and hidden.device.type == "cpu" and hidden.dtype == torch.float32:
        return torch.mm(head, hidden.t()).t()
    return F.linear(hidden, head)


def _attention(
    weights: DecoderWeights,
    layer: LayerWeights,
    hidden: Tensor,
    rotary: tuple[Tensor, Tensor],
    prompt: Tensor,
    own: Tensor,
    column: Tensor,
    bias: Tensor,
) -> Tensor:
    """What the heads read, [n, H d]."""
    _, batch, kv_heads, members, _, width = own.shape
    heads = weights.num_heads
    fused = F.linear(_norm(hidden, layer.norm, weights), layer.qkv, layer.qkv_bias)
    fused = fused.view(len(hidden), -1, width)  # [n, H + 2 Hkv, d]
    turned = _rotate(fused[:, : heads + kv_heads], rotary)
    own[0].index_copy_(3, column, _in_grid(turned[:, heads:], batch).unsqueeze(3))
    own[1].index_copy_(3, column, _in_grid(fused[:, heads + kv_heads :], batch).unsqueeze(3))
    query = turned[:, :heads].view(batch, members, kv_heads, -1, width).transpose(1, 2)
    mixed = attend(query, prompt, own[..., : bias.shape[2] - prompt.shape[3], :], bias)
    return mixed.transpose(1, 2).reshape(len(hidden), -1)


def attend(query: Tensor, prompt: Tensor, own: Tensor, bias: Tensor) -> Tensor:
    """One softmax over the keys of the prompt and of the row itself.

    Args:
        query: [B, Hkv, G, R, d], R query heads a key head, scaled.
        prompt: [2, B, Hkv, P, d].
        own: [2, B, Hkv, G, L, d].
        bias: [B, 1, P + L].

    Returns:
        [B, Hkv, G, R, d].
    """
    batch, kv_heads, members, repeats, width = query.shape
    length, per_head = prompt.shape[3], batch * kv_heads
    (keys, values), (own_keys, own_values) = prompt.flatten(1, 2), own.flatten(1, 3)
    # The G rows of a group side by side read the prompt's keys once.
    queries = query.reshape(per_head, members * repeats, width)
    scores = queries.new_empty(per_head, members * repeats, length + own.shape[4])
    torch.bmm(queries, keys.mT, out=scores[..., :length])
    own_scores = torch.bmm(queries.view(-1, repeats, width), own_keys.mT)
    scores[..., length:] = own_scores.view(per_head, members * repeats, -1)
    scores.unflatten(0, (batch, kv_heads)).add_(bias[:, None])
    shares = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    mixed = torch.bmm(shares[..., :length], values).view(-1, repeats, width)
    own_shares = shares[..., length:].reshape(len(mixed), repeats, -1)
    return mixed.baddbmm_(own_shares, own_values).view(query.shape)


def _in_grid(tensor: Tensor, batch: int) -> Tensor:
    """[n, Hkv, d] as [B, Hkv, G, d]."""
    return tensor.unflatten(0, (batch, -1)).transpose(1, 2)


def _rotate(heads: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions (arXiv 2104.09864) in [n, heads, d], in the layout of Qwen2."""
    cosines, sines = rotary
    turned = torch.addcmul(heads * cosines, heads.roll(heads.shape[-1] // 2, -1), sines)
    return turned.to(heads.dtype)


def _norm(hidden: Tensor, weight: Tensor, weights: DecoderWeights) -> Tensor:
    """RMSNorm (arXiv 1910.07467) in the dtype of the products."""
    return F.rms_norm(hidden, weight.shape, weight, weights.eps).to(weights.dtype)


def _add_product(hidden: Tensor, factor: Tensor, weight: Tensor) -> Tensor:
    """hidden + factor @ weight.T, in the dtype of the residual stream."""
    if hidden.dtype == factor.dtype:
        return torch.addmm(hidden, factor, weight.t())
    return hidden + F.linear(factor, weight)
