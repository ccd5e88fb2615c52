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

# Rows from which a product of the head on a CPU is no longer faster the other way round.
_FEW_ROWS = 64


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
        fused = F.linear(read, layer.qkv, layer.qkv_bias)
        query = rotate_and_keep(fused, turns, written, column, weights.num_heads)
        mixed = attend(query, shared, written[..., :columns, :], bias)
        delta = F.linear(mixed, layer.out)
        read = add_and_norm(hidden, delta, layer.mlp_norm, weights.eps, weights.dtype)
        delta = F.linear(gated(F.linear(read, layer.gate_up)), layer.down)
    read = add_and_norm(hidden, delta, weights.norm, weights.eps, weights.dtype)
    return head_product(read, weights.head)


def head_product(hidden: Tensor, head: Tensor) -> Tensor:
    """Logits [n, V] = hidden @ head.T, by the faster of two orders.

    On a CPU the float32 product of few rows with a head of 32,000 x 256 takes 2 to 4 times as long
    one way as the other; in bfloat16, on a GPU and from about 64 rows on it does not matter.
    """
    few = 1 < len(hidden) <= _FEW_ROWS
    if few and hidden.device.type == "cpu" and hidden.dtype == torch.float32:
        return torch.mm(head, hidden.t()).t()
    return F.linear(hidden, head)
