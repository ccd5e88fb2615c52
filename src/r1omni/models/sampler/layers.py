"""One token a row through the language model: the layers of Qwen2 over keys kept in place.

Rows stand in a grid of B groups with G rows each. All rows of a group share the keys and values of
their prompt; each has its own for what it has written. A query attends to both under one softmax.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from r1omni.kernels.decoding import add_and_norm, attend, gated, rotate_and_keep
from r1omni.models.sampler.weights import DecoderWeights

# Entries of a matrix from which the order of its product matters on a CPU, and rows of its blocks.
_LARGE = 2**18
_BLOCK = 64


def decode(
    weights: DecoderWeights,
    embeds: Tensor,
    turns: Tensor,
    prompt: Tensor,
    own: Tensor,
    column: Tensor,
    bias: Tensor,
) -> Tensor:
    """Logits [n, V] of the tokens after the given ones; their keys and values are written.

    Args:
        weights: of the language model.
        embeds: [n, D], n = B * G, one token a row; changed in place.
        turns: complex64 [n, d / 2], rotary positions of the tokens.
        prompt: keys and values of the prompts, [layers, 2, B, Hkv, P, d].
        own: those of the rows, [layers, 2, B, Hkv, G, C, d].
        column: long [1], the place among C of the given tokens.
        bias: [B, P + L], added to the scores: 0 where a row of the group may look, else minus
            infinity. Its length says how many of C, L, are looked at.
    """
    hidden = embeds
    delta: Tensor | None = None
    columns = bias.shape[1] - prompt.shape[4]
    for layer, shared, written in zip(weights.layers, prompt, own, strict=True):
        read = add_and_norm(hidden, delta, layer.norm, weights.eps, weights.dtype)
        fused = product(read, layer.qkv, layer.qkv_bias)
        query = rotate_and_keep(fused, turns, written, column, weights.num_heads)
        mixed = attend(query, shared, written[..., :columns, :], bias)
        delta = F.linear(mixed, layer.out)
        read = add_and_norm(hidden, delta, layer.mlp_norm, weights.eps, weights.dtype)
        delta = F.linear(gated(product(read, layer.gate_up)), layer.down)
    read = add_and_norm(hidden, delta, weights.norm, weights.eps, weights.dtype)
    return product(read, weights.head)


def product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """rows @ weight.T + bias, [n, out], by the fastest of three orders.

    On a CPU, the library's float32 product of few rows with a large matrix that has more rows than
    columns is slow: a head of 32,000 x 256 takes 4.5 ms with 1 row, 10 with 2 and 7.8 with 8. One
    row with blocks of the matrix takes 1.4 ms, which is the time to read it; with the factors
    changed over, 2 rows take 2.2 and 8 rows 4.0. From 5 rows on the latter holds for narrow
    matrices only, and beyond 16 for none, nor does any of it for bfloat16 or on a GPU (one thread
    of an AVX-512 machine, torch 2.11).
    """
    count, (outer, inner) = len(rows), weight.shape
    tall = outer * inner >= _LARGE and outer >= 2 * inner
    if not tall or count > 16 or rows.device.type != "cpu" or rows.dtype != torch.float32:
        return F.linear(rows, weight, bias)
    if count == 1 and outer % _BLOCK == 0:
        blocks = weight.view(-1, _BLOCK, inner)
        # With the strides of a column; as a row, the same numbers would take ten times as long.
        found = torch.bmm(blocks, rows.t().expand(len(blocks), -1, 1)).view(1, outer)
    elif count > 1 and (count <= 4 or inner <= 512):
        found = torch.mm(weight, rows.t()).t().contiguous()
    else:
        return F.linear(rows, weight, bias)
    return found if bias is None else found.add_(bias)
