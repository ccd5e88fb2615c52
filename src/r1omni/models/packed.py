"""Embedded sequences side by side: padded to a batch, or packed into one row without padding.

Prompts with their completions are packed as `[prompt 1 | ... | prompt B | completion 1 | ...]`.
Every completion sees its prompt and itself, never a sibling, and its positions start again where
the prompt ends. The trunk reads each prompt once and no padding, so what it costs is the number of
tokens that there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from r1omni.models.attention import PackedRows
from r1omni.models.flex import Attention, FlexRows


@dataclass(frozen=True)
class Embedded:
    """Embedded sequences of a batch, padded.

    Attributes:
        embeds: float [B, L, D].
        mask: bool [B, L], True at real tokens.
        positions: long [B, L], 0 at the first real token of each row.
    """

    embeds: Tensor
    mask: Tensor
    positions: Tensor


def pad_ids(
    rows: Sequence[Tensor], device: torch.device, padding: int = 0
) -> tuple[Tensor, Tensor]:
    """Token ids [L_i] as one batch, long [N, L], padded on the right; and which are real, bool."""
    ids = pad_sequence(list(rows), batch_first=True, padding_value=padding).to(device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return ids, torch.arange(ids.shape[1], device=device) < lengths[:, None]


def pad_embeds(rows: Sequence[Tensor], side: str = "right") -> Embedded:
    """Pad rows of embeddings [L_i, D] to one batch, on the left for generation."""
    embeds = pad_sequence(list(rows), batch_first=True, padding_side=side)
    lengths = torch.tensor([len(row) for row in rows], device=embeds.device)
    steps = torch.arange(embeds.shape[1], device=embeds.device)[None]
    offset = embeds.shape[1] - lengths if side == "left" else torch.zeros_like(lengths)
    positions = steps - offset[:, None]
    mask = (positions >= 0) & (positions < lengths[:, None])
    return Embedded(embeds, mask, positions.clamp(min=0))


@dataclass(frozen=True)
class Packed:
    """Prompts and their completions in one row without padding, ready for the language model.

    Attributes:
        embedded: one row of T tokens: all prompts, then all completions.
        rows: which token sees which.
        ends: long [B], where each prompt's last token is.
        starts: long, for each completion that has a token, where its first is among completions.
        filled: long, which of the N completions these are.
    """

    embedded: Embedded
    rows: PackedRows | FlexRows
    ends: Tensor
    starts: Tensor
    filled: Tensor

    def predicting(self, hidden: Tensor) -> Tensor:
        """The states that predict the tokens of completions, [tokens, D], row after row.

        Token 0 of a completion is predicted by the prompt's last token, token j by token j - 1.
        Each state is read once, so that the gradient adds up in one order, on a GPU too.

        Args:
            hidden: float [1, T, D], states of the row.
        """
        last = hidden[0, self.ends]
        first = last[:, None].expand(-1, self.rows.group_size, -1).flatten(0, 1)
        states = hidden[0, self.rows.num_prompt_tokens :]
        before = torch.cat([states[:1], states[:-1]])
        return before.index_copy(0, self.starts, first[self.filled])


def _dtype_of_scores(embeds: Tensor) -> torch.dtype:
    """What attention is computed in; a bias of another dtype would be converted in every layer.

    What is converted is kept for the backward pass: 12 MB a layer for 8 completions of 512.
    """
    kind = embeds.device.type
    if embeds.dtype == torch.float64 or not torch.is_autocast_enabled(kind):
        return embeds.dtype
    return torch.get_autocast_dtype(kind)


def pack(
    prompts: Sequence[Tensor],
    completions: Tensor,
    mask: Tensor,
    heads_per_key: int,
    attention: Attention = "sdpa",
) -> Packed:
    """Put prompts and completions into one row.

    Args:
        prompts: B embedded prompts [P_i, D].
        completions: float [tokens, D], the embedded tokens of N = B * G completions, row by row.
        mask: bool [N, C], which tokens these are; the first ones of each row.
        heads_per_key: query heads that share a head of keys.
        attention: how attention over the row will be computed.
    """
    device = completions.device
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    counts = mask.sum(dim=1)
    prompt_length, length = (int(most) for most in torch.stack([lengths.max(), counts.max()]))
    in_prompts = torch.arange(prompt_length, device=device) < lengths[:, None]
    steps = torch.arange(length, device=device)
    group_size = len(mask) // len(prompts)
    positions = lengths.repeat_interleave(group_size)[:, None] + steps  # [N, C]
    embeds = torch.cat([*prompts, completions])[None]
    own = torch.arange(prompt_length, device=device).expand(len(prompts), -1)[in_prompts]
    dtype, own_mask = _dtype_of_scores(embeds), mask[:, :length]
    embedded = Embedded(
        embeds=embeds,
        mask=torch.ones(embeds.shape[:2], dtype=torch.bool, device=device),
        positions=torch.cat([own, positions[own_mask]])[None],
    )
    rows: PackedRows | FlexRows = (
        FlexRows.of(in_prompts, own_mask, dtype)
        if attention == "flex" else PackedRows.of(in_prompts, own_mask, dtype, heads_per_key)
    )  # fmt: skip
    filled = torch.nonzero(counts).flatten()
    return Packed(
        embedded, rows, lengths.cumsum(0) - 1, (counts.cumsum(0) - counts)[filled], filled
    )
