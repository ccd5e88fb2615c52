"""Attention over packed rows `[prompt | completion 1 | ... | completion G]` without a square mask.

A mask over a packed row has (P + G*C)^2 entries, most of them closed: completions do not see each
other. Here the prompt attends to itself once, and each completion to the prompt and itself, which
is P^2 + G*C*(P + C) entries. At P = 131, C = 62, G = 8 that is a third.

The language model runs this function in every layer; on anything but packed rows it is the
library's own scaled dot-product attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PACKED_ATTENTION = "r1omni_packed"


@dataclass(frozen=True)
class PackedRows:
    """Which key a query of a packed row may see; stands where a mask would.

    Attributes:
        prompt_length: P, padding included.
        group_size: G.
        bias: float [N, 1, C, P + C], N = B * G, added to the attention scores of each token of a
            completion over its prompt and its completion: 0, or minus infinity where it may not
            look. Numbers, because a bool mask is turned into numbers again in every layer.
    """

    prompt_length: int
    group_size: int
    bias: Tensor

    @classmethod
    def of(
        cls, prompt_mask: Tensor, completion_length: int, group_size: int, dtype: torch.dtype
    ) -> PackedRows:
        """Rows whose prompts and completions are padded on the right.

        Args:
            prompt_mask: bool [B, P].
            completion_length: C, padding included. Padding needs no mask: it comes after every
                token that counts.
            group_size: G.
            dtype: of the attention scores.
        """
        batch, prompt_length = prompt_mask.shape
        causal = prompt_mask.new_ones(completion_length, completion_length).tril()
        shape = (batch, completion_length, -1)
        visible = torch.cat([prompt_mask[:, None].expand(shape), causal.expand(shape)], dim=2)
        visible = visible.repeat_interleave(group_size, dim=0)[:, None]
        bias = torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, float("-inf"))
        return cls(prompt_length, group_size, bias)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | PackedRows | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of one layer, as transformers calls it.

    Args:
        module: the attention layer.
        query: float [B, H, L, d], L = P + G * C for packed rows.
        key: float [B, Hkv, L, d], positions already rotated in.
        value: float [B, Hkv, L, d].
        attention_mask: `PackedRows`, or a usual mask.
        scaling: factor of the scores.
        kwargs: what the library's attention takes besides.

    Returns:
        float [B, L, H, d], and None for the weights.
    """
    if not isinstance(attention_mask, PackedRows):
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    rows = attention_mask
    repeats = query.shape[1] // key.shape[1]
    key, value = (t.repeat_interleave(repeats, dim=1) for t in (key, value))
    (prompt_q, own_q), (prompt_k, own_k), (prompt_v, own_v) = (
        _split(tensor, rows) for tensor in (query, key, value)
    )
    # The prompt's padding is on the right, so no token that counts looks at it.
    prompt = F.scaled_dot_product_attention(
        prompt_q, prompt_k, prompt_v, is_causal=True, scale=scaling
    )
    seen_k, seen_v = (
        torch.cat([shared.repeat_interleave(rows.group_size, dim=0), own], dim=2)
        for shared, own in ((prompt_k, own_k), (prompt_v, own_v))
    )
    completions = F.scaled_dot_product_attention(
        own_q, seen_k, seen_v, attn_mask=rows.bias, scale=scaling
    )  # [N, H, C, d]
    batch = query.shape[0]
    joined = completions.transpose(1, 2).reshape(batch, -1, query.shape[1], query.shape[3])
    return torch.cat([prompt.transpose(1, 2), joined], dim=1), None


def _split(tensor: Tensor, rows: PackedRows) -> tuple[Tensor, Tensor]:
    """[B, H, P + G*C, d] into the prompts [B, H, P, d] and the completions [N, H, C, d]."""
    prompt, packed = tensor.tensor_split([rows.prompt_length], dim=2)
    own = packed.unflatten(2, (rows.group_size, -1)).transpose(1, 2).flatten(0, 1)
    return prompt, own


AttentionInterface.register(PACKED_ATTENTION, packed_attention)
AttentionMaskInterface.register(PACKED_ATTENTION, sdpa_mask)
