"""Attention over prompts and completions that are packed into one row, without a square mask.

A mask over a prompt with G completions has (P + G*C)^2 entries, most of them closed: completions do
not see each other. Here the prompt attends to itself once, and each completion to the prompt and
itself, which is P^2 + G*C*(P + C) entries. At P = 131, C = 62, G = 8 that is a third. Attention
alone is computed over padded prompts and completions; everything else knows no padding. Query heads
that share a head of keys are read as more tokens of one head, so that keys are not laid out once a
query head, and their gradients are added up within the kernel.

The language model runs this function in every layer; on anything but packed rows it is the
library's own scaled dot-product attention. `flex.py` has another way over packed rows.
"""

from __future__ import annotations

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


class PackedRows:
    """Where the tokens of a packed row belong, and which of them they may see; stands for a mask.

    No dataclass: FSDP2 would cast the bias in one of those anew before every layer.

    Args:
        grid: B, P and G: prompts, the longest prompt, completions a prompt.
        prompt_slots: long, for each token of a prompt its place in [B, P].
        completion_slots: long, for each token of a completion its place in [N, C], N = B * G.
        bias: float [N, 1, S * C, P + C], S query heads that share a head of keys: added to the
            attention scores of each token of a completion over its prompt and its completion: 0,
            or minus infinity where it may not look. Numbers, because a bool mask is turned into
            numbers again in every layer; and its rows begin at multiples of `_ALIGNMENT`, or a
            GPU's kernel would copy it in every layer.
    """

    def __init__(
        self,
        grid: tuple[int, int, int],
        prompt_slots: Tensor,
        completion_slots: Tensor,
        bias: Tensor,
    ) -> None:
        self.grid, self.bias = grid, bias
        self.prompt_slots, self.completion_slots = prompt_slots, completion_slots

    @property
    def group_size(self) -> int:
        """G."""
        return self.grid[2]

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of prompts, which are the first of the row."""
        return len(self.prompt_slots)

    @classmethod
    def of(
        cls, prompt_mask: Tensor, mask: Tensor, dtype: torch.dtype, heads_per_key: int
    ) -> PackedRows:
        """Rows of prompts and completions, each with its tokens first.

        Args:
            prompt_mask: bool [B, P].
            mask: bool [N, C].
            dtype: of the products and scores of attention.
            heads_per_key: S, query heads that share a head of keys.
        """
        (batch, prompt_length), completion_length = prompt_mask.shape, mask.shape[1]
        group_size = len(mask) // batch
        # Padding of a completion needs no mask: it comes after every token that counts.
        causal = prompt_mask.new_ones(completion_length, completion_length).tril()
        shape = (batch, completion_length, -1)
        visible = torch.cat([prompt_mask[:, None].expand(shape), causal.expand(shape)], dim=2)
        visible = visible.repeat_interleave(group_size, dim=0).repeat(1, heads_per_key, 1)[:, None]
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
    # Under autocast queries and keys come in float32, from their positions.
    (prompt_q, own_q), (prompt_k, own_k), (prompt_v, own_v) = (
        _padded(tensor.to(rows.bias.dtype), rows) for tensor in (query, key, value)
    )
    prompt = _attend_causally(prompt_q, prompt_k, prompt_v, scaling)
    seen_k, seen_v = (
        torch.cat([shared.repeat_interleave(rows.group_size, dim=0), own], dim=2)
        for shared, own in ((prompt_k, own_k), (prompt_v, own_v))
    )
    heads_per_key = query.shape[1] // key.shape[1]
    asked = own_q.unflatten(1, (-1, heads_per_key)).flatten(2, 3)  # [N, Hkv, S * C, d]
    completions = F.scaled_dot_product_attention(
        asked, seen_k, seen_v, attn_mask=rows.bias, scale=scaling
    )
    # Back to [N, H, C, d].
    completions = completions.unflatten(2, (heads_per_key, own_q.shape[2])).flatten(1, 2)
    found = [
        grid.transpose(1, 2).flatten(0, 1)[slots]
        for grid, slots in ((prompt, rows.prompt_slots), (completions, rows.completion_slots))
    ]
    return torch.cat(found)[None], None


def _attend_causally(query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
    """Attention [B, H, P, d] of prompts; their padding is on the right, where nothing looks."""
    heads_per_key = query.shape[1] // key.shape[1]
    if query.is_cuda and query.dtype not in (torch.bfloat16, torch.float16):
        # No kernel of a GPU takes shared heads of other numbers, and what torch falls back on keeps
        # all scores.
        key, value = (t.repeat_interleave(heads_per_key, dim=1) for t in (key, value))
        heads_per_key = 1
    return F.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scaling, enable_gqa=heads_per_key > 1
    )


def _padded(tensor: Tensor, rows: PackedRows) -> tuple[Tensor, Tensor]:
    """[1, H, T, d] as prompts [B, H, P, d] and completions [N, H, C, d], 0 where no token is."""
    prompt, own = tensor[0].transpose(0, 1).tensor_split([rows.num_prompt_tokens])
    batch, prompt_length, group_size = rows.grid
    length = rows.bias.shape[3] - prompt_length
    return (
        _grid(prompt, rows.prompt_slots, batch, prompt_length),
        _grid(own, rows.completion_slots, batch * group_size, length),
    )


def _grid(tokens: Tensor, slots: Tensor, num_rows: int, length: int) -> Tensor:
    """[tokens, H, d] -> [rows, H, length, d]."""
    empty = tokens.new_zeros(num_rows * length, *tokens.shape[1:])
    # `index_copy` would keep the tokens for its backward pass.
    return empty.index_put((slots,), tokens).unflatten(0, (num_rows, length)).transpose(1, 2)


AttentionInterface.register(PACKED_ATTENTION, packed_attention)
AttentionMaskInterface.register(PACKED_ATTENTION, sdpa_mask)
