"""Attention over packed rows by torch's FlexAttention (arXiv 2412.05496), for a CUDA device.

One kernel goes over the whole row: no prompt is laid out for its completions, no row is padded, and
blocks of 128 x 128 tokens that see nothing of each other are never computed. Which blocks these are
is found once a pass, from what each token sees: a stretch of its prompt and a stretch of its own
completion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from r1omni.types import UsageError

# How attention over packed rows is computed: piece by piece (`attention.py`), or by FlexAttention.
Attention = Literal["sdpa", "flex"]

_SIDE = 128
# Numbers a head has at least for torch's kernel.
_LEAST_WIDTH = 16


@dataclass(frozen=True)
class FlexRows:
    """Which tokens of a packed row see which, by blocks; stands for a mask.

    Attributes:
        group_size: G, completions a prompt.
        num_prompt_tokens: tokens of prompts, which are the first of the row.
        blocks: which blocks of tokens see each other in part or in full.
        dtype: of the products.
    """

    group_size: int
    num_prompt_tokens: int
    blocks: BlockMask
    dtype: torch.dtype

    @classmethod
    def of(cls, prompt_mask: Tensor, mask: Tensor, dtype: torch.dtype) -> FlexRows:
        """Rows of prompts and completions, each with its tokens first.

        Args:
            prompt_mask: bool [B, P].
            mask: bool [N, C], N = B * G.
            dtype: of the products.
        """
        group_size = len(mask) // len(prompt_mask)
        prompts, rows = (torch.nonzero(m)[:, 0] for m in (prompt_mask, mask))  # whose each token is
        count = len(prompts)
        index = torch.arange(count + len(rows), device=mask.device)
        nothing = torch.zeros_like(prompts)
        lengths, written = prompt_mask.sum(dim=1), mask.sum(dim=1)
        ends, own_ends = lengths.cumsum(0), count + written.cumsum(0)
        of_prompt = rows // group_size
        # A prompt's token sees its prompt up to itself; a completion's all of its prompt, and its
        # completion up to itself.
        first = torch.cat([(ends - lengths)[prompts], (ends - lengths)[of_prompt]])
        last = torch.cat([index[:count] + 1, ends[of_prompt]])
        own_first = torch.cat([nothing, (own_ends - written)[rows]])
        own_last = torch.cat([nothing, index[count:] + 1])
        return cls(group_size, count, _blocks((first, last), (own_first, own_last)), dtype)


def _blocks(prompt: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor]) -> BlockMask:
    """The blocks of tokens that each see two stretches of the row.

    Args:
        prompt: long [T] each, the first token of the one stretch, and the one behind its last.
        own: the same of the other, which does not overlap it.
    """
    total = len(prompt[0])
    num_blocks = -(-total // _SIDE)
    stretches = [tuple(bound.int() for bound in bounds) for bounds in (prompt, own)]
    edges = _SIDE * torch.arange(num_blocks, dtype=torch.int32, device=prompt[0].device)
    seen = torch.zeros(num_blocks * _SIDE, num_blocks, dtype=torch.int32, device=edges.device)
    for first, last in stretches:
        stop, start = last[:, None].minimum(edges + _SIDE), first[:, None].maximum(edges)
        seen[:total] += (stop - start).clamp(min=0)
    pairs = seen.view(num_blocks, _SIDE, num_blocks).sum(dim=1)
    (first, last), (own_first, own_last) = stretches

    def sees(_: Tensor, __: Tensor, query: Tensor, key: Tensor) -> Tensor:
        of_prompt = (key >= first[query]) & (key < last[query])
        return of_prompt | ((key >= own_first[query]) & (key < own_last[query]))

    full = pairs == _SIDE**2
    return BlockMask.from_kv_blocks(
        *_listed((pairs > 0) & ~full), *_listed(full), BLOCK_SIZE=_SIDE, mask_mod=sees,
        seq_lengths=(total, total),
    )  # fmt: skip


def _listed(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Bool [blocks, blocks] as `BlockMask` has it: how many of each row, and these first."""
    order = chosen.int().argsort(dim=1, descending=True, stable=True)
    return chosen.sum(dim=1).int()[None, None], order.int()[None, None]


def attend(
    query: Tensor, key: Tensor, value: Tensor, rows: FlexRows, scaling: float | None
) -> Tensor:
    """Attention of one layer, float [1, T, H, d].

    Compiled on a CUDA device at the first call. Elsewhere it is computed as it is defined, with all
    scores at once, which is for comparisons alone.

    Args:
        query: float [1, H, T, d], all tokens of packed rows.
        key: float [1, Hkv, T, d], positions already rotated in.
        value: as key.
        rows: who sees whom.
        scaling: factor of the scores.
    """
    compute = _compiled() if query.device.type == "cuda" else flex_attention
    # Under autocast queries and keys come in float32, from their positions.
    parts = (tensor.to(rows.dtype) for tensor in (query, key, value))
    found: Any = compute(*parts, block_mask=rows.blocks, scale=scaling, enable_gqa=True)
    return found.transpose(1, 2)  # type: ignore[no-any-return]


@cache
def _compiled() -> Callable[..., Any]:
    return torch.compile(flex_attention)


def check_flex(device: torch.device, head_dim: int) -> None:
    """Refuse what FlexAttention cannot train.

    Raises:
        UsageError: naming the option and what to set instead.
    """
    if device.type != "cuda":
        raise UsageError(
            f"model.init_args.attention flex needs a CUDA device, not {device.type}: torch's "
            "FlexAttention has no backward pass elsewhere; set it to sdpa"
        )
    if head_dim < _LEAST_WIDTH:
        raise UsageError(
            f"model.init_args.attention flex needs heads of at least {_LEAST_WIDTH} numbers, but "
            f"those of this model have {head_dim}; set it to sdpa"
        )
