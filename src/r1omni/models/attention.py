"""Attention over prompts and completions that are packed into one row, without a square mask.

A mask over a prompt with G completions has (P + G*C)^2 entries, most of them closed: completions do
not see each other. Here the prompt attends to itself once, and each completion to the prompt and
itself, which is P^2 + G*C*(P + C) entries. At P = 131, C = 62, G = 8 that is a third. Attention
alone is computed over padded prompts and completions; everything else knows no padding. Query heads
that share a head of keys read the same numbers: keys are never laid out once a query head.

The language model runs this function in every layer; on anything but packed rows it is the
library's own scaled dot-product attention. `flex.py` has another way over packed rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from r1omni.models.flex import FlexRows
from r1omni.models.flex import attend as attend_by_flex

PACKED_ATTENTION = "r1omni_packed"
# Numbers, of rows of a bias that torch's memory-efficient kernel takes as they are.
_ALIGNMENT = 8


@dataclass(frozen=True)
class PackedRows:
    """Where the tokens of a packed row belong, and which of them they may see; stands for a mask.

    Attributes:
        grid: B, P and G: prompts, the longest prompt, completions a prompt.
        prompt_slots: long, for each token of a prompt its place in [B, P].
        completion_slots: long, for each token of a completion its place in [N, C], N = B * G.
        bias: float [N, 1, C, P + C], added to the attention scores of each token of a completion
            over its prompt and its completion: 0, or minus infinity where it may not look. Numbers,
            because a bool mask is turned into numbers again in every layer; and its rows begin at
            multiples of `_ALIGNMENT`, or a GPU's kernel would copy it in every layer.
    """

    grid: tuple[int, int, int]
    prompt_slots: Tensor
    completion_slots: Tensor
    bias: Tensor

    @property
    def group_size(self) -> int:
        """G."""
        return self.grid[2]

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of prompts, which are the first of the row."""
        return len(self.prompt_slots)

    @classmethod
    def of(cls, prompt_mask: Tensor, mask: Tensor, dtype: torch.dtype) -> PackedRows:
        """Rows of prompts and completions, each with its tokens first.

        Args:
            prompt_mask: bool [B, P].
            mask: bool [N, C].
            dtype: of the attention scores.
        """
        (batch, prompt_length), completion_length = prompt_mask.shape, mask.shape[1]
        group_size = len(mask) // batch
        # Padding of a completion needs no mask: it comes after every token that counts.
        causal = prompt_mask.new_ones(completion_length, completion_length).tril()
        shape = (batch, completion_length, -1)
        visible = torch.cat([prompt_mask[:, None].expand(shape), causal.expand(shape)], dim=2)
        visible = visible.repeat_interleave(group_size, dim=0)[:, None]
        seen = visible.shape[3]
        wide = -(-seen // _ALIGNMENT) * _ALIGNMENT
        bias = prompt_mask.new_zeros(*visible.shape[:3], wide, dtype=dtype)[..., :seen]
        bias.masked_fill_(~visible, float("-inf"))
        prompts, completions = (torch.nonzero(m.flatten()).flatten() for m in (prompt_mask, mask))
        return cls((batch, prompt_length, group_size), prompts, completions, bias)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | PackedRows | FlexRows | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of one layer, as transformers calls it.

    Args:
        module: the attention layer.
        query: float [1, H, T, d], all tokens of packed rows; or [B, H, L, d].
        key: float [1, Hkv, T, d], positions already rotated in; or [B, Hkv, L, d].
        value: as key.
        attention_mask: `PackedRows`, `FlexRows`, or a usual mask.
        scaling: factor of the scores.
        kwargs: what the library's attention takes besides.

    Returns:
        float [1, T, H, d] or [B, L, H, d], and None for the weights.
    """
    if isinstance(attention_mask, FlexRows):
        return attend_by_flex(query, key, value, attention_mask, scaling), None
    if not isinstance(attention_mask, PackedRows):
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    rows = attention_mask
    (prompt_q, own_q), (prompt_k, own_k), (prompt_v, own_v) = (
        _padded(tensor, rows) for tensor in (query, key, value)
    )
    # The prompt's padding is on the right, so no token that counts looks at it.
    prompt = _attend(prompt_q, prompt_k, prompt_v, None, scaling)
    seen_k, seen_v = (
        torch.cat([shared.repeat_interleave(rows.group_size, dim=0), own], dim=2)
        for shared, own in ((prompt_k, own_k), (prompt_v, own_v))
    )
    completions = _attend(own_q, seen_k, seen_v, rows.bias, scaling)  # [N, H, C, d]
    found = [
        grid.transpose(1, 2).flatten(0, 1)[slots]
        for grid, slots in ((prompt, rows.prompt_slots), (completions, rows.completion_slots))
    ]
    return torch.cat(found)[None], None


def _attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scaling: float | None
) -> Tensor:
    """Attention [n, H, L, d] of query heads that share heads of keys; causal without a bias.

    On a CPU torch's kernel takes shared heads as they are. On a GPU the one that takes a bias does
    not, and what torch falls back on keeps all scores: there the heads that share one go together,
    and see it through a view.
    """
    attend = partial(
        F.scaled_dot_product_attention, attn_mask=bias, is_causal=bias is None, scale=scaling
    )
    sharing = query.shape[1] // key.shape[1]
    if sharing == 1 or query.device.type == "cpu":
        return attend(query, key, value, enable_gqa=sharing > 1)
    return by_key_head(attend, query, key, value)


def by_key_head(
    attend: Callable[[Tensor, Tensor, Tensor], Tensor], query: Tensor, key: Tensor, value: Tensor
) -> Tensor:
    """What `attend` gives of [n, H, L, d], one head of keys after the other, without a copy of it.

    Args:
        attend: takes as many heads of keys as of queries.
        query: float [n, H, L, d].
        key: float [n, Hkv, K, d].
        value: as key.
    """
    sharing = query.shape[1] // key.shape[1]
    heads = zip(query.split(sharing, 1), key.split(1, 1), value.split(1, 1), strict=True)
    return torch.cat(
        [attend(q, *(t.expand(-1, sharing, -1, -1) for t in pair)) for q, *pair in heads], dim=1
    )


def _padded(tensor: Tensor, rows: PackedRows) -> tuple[Tensor, Tensor]:
    """[1, H, T, d] as prompts [B, H, P, d] and completions [N, H, C, d], 0 where no token is."""
    prompt, own = tensor[0].transpose(0, 1).tensor_split([rows.num_prompt_tokens])
    batch, prompt_length, group_size = rows.grid
    num_rows = batch * group_size
    return (
        _grid(prompt, rows.prompt_slots, batch, prompt_length),
        _grid(own, rows.completion_slots, num_rows, rows.bias.shape[2]),
    )


def _grid(tokens: Tensor, slots: Tensor, num_rows: int, length: int) -> Tensor:
    """[tokens, H, d] -> [rows, H, length, d]."""
    empty = tokens.new_zeros(num_rows * length, *tokens.shape[1:])
    return empty.index_copy(0, slots, tokens).unflatten(0, (num_rows, length)).transpose(1, 2)


AttentionInterface.register(PACKED_ATTENTION, packed_attention)
AttentionMaskInterface.register(PACKED_ATTENTION, sdpa_mask)
