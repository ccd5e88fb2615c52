"""Embedded sequences side by side: padded to a batch, or packed with their completions in a row.

A prompt with its completions is one packed row `[prompt | completion 1 | ... | completion G]`:
every completion sees the prompt and itself, never a sibling, and its positions start again where
the prompt ends. The trunk reads P + G*C tokens instead of G*(P + C).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from r1omni.models.attention import PackedRows


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


def pack(
    prompts: Sequence[Tensor], completions: Tensor, mask: Tensor
) -> tuple[Embedded, PackedRows, Tensor]:
    """Packed rows ready for the language model.

    Args:
        prompts: B embedded prompts [P_i, D].
        completions: float [N, C, D] embedded completions, N = B * G.
        mask: bool [N, C].

    Returns:
        the packed batch, what sees what in it, and the prompt lengths, long [B].
    """
    left = pad_embeds(prompts)
    batch = len(prompts)
    group_size, completion_length = len(completions) // batch, completions.shape[1]
    lengths = left.mask.sum(dim=1)
    steps = torch.arange(completion_length, device=lengths.device).repeat(group_size)
    embedded = Embedded(
        embeds=torch.cat([left.embeds, completions.reshape(batch, -1, completions.shape[-1])], 1),
        mask=torch.cat([left.mask, mask.reshape(batch, -1)], dim=1),
        positions=torch.cat([left.positions, lengths[:, None] + steps[None]], dim=1),
    )
    rows = PackedRows.of(left.mask, completion_length, group_size, left.embeds.dtype)
    return embedded, rows, lengths


def predicting(hidden: Tensor, lengths: Tensor, num_rows: int, completion_length: int) -> Tensor:
    """Of the states of packed rows those that predict a completion token, [N, C, D].

    Token 0 of a completion is predicted by the prompt's last token, token j by token j - 1.

    Args:
        hidden: float [B, P + G * C, D].
        lengths: long [B], of the prompts.
        num_rows, completion_length: N and C.
    """
    batch = len(lengths)
    group_size = num_rows // batch
    first = hidden[torch.arange(batch, device=hidden.device), lengths - 1]  # [B, D]
    later = hidden[:, -group_size * completion_length :].unflatten(
        1, (group_size, completion_length)
    )
    return torch.cat(
        [first[:, None, None].expand(-1, group_size, 1, -1), later[:, :, :-1]], dim=2
    ).flatten(0, 1)
