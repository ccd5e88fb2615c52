"""Log-probabilities of G completions that share one long prompt, in one pass over the prompt.

A prompt with its completions is one packed row `[prompt | completion 1 | ... | completion G]`:
every completion sees the prompt and itself, never a sibling, and its positions start again where
the prompt ends. The trunk reads P + G*C tokens instead of G*(P + C).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from r1omni.models.attention import PackedRows
from r1omni.models.omni import Embedded, OmniModel, pad_embeds
from r1omni.ops.logprobs import (
    linear_logprob,
    selective_logprob,
    selective_logprob_and_entropy,
)


def pack(
    prompts: Sequence[Tensor], completions: Tensor, mask: Tensor, group_size: int
) -> tuple[Embedded, PackedRows, Tensor]:
    """Packed rows ready for the language model.

    Args:
        prompts: B embedded prompts [P_i, D].
        completions: float [N, C, D] embedded completions.
        mask: bool [N, C].
        group_size: G.

    Returns:
        the packed batch, what sees what in it, and the prompt lengths, long [B].
    """
    left = pad_embeds(prompts)
    batch = len(prompts)
    completion_length = completions.shape[1]
    lengths = left.mask.sum(dim=1)
    steps = torch.arange(completion_length, device=lengths.device).repeat(group_size)
    embedded = Embedded(
        embeds=torch.cat([left.embeds, completions.reshape(batch, -1, completions.shape[-1])], 1),
        mask=torch.cat([left.mask, mask.reshape(batch, -1)], dim=1),
        positions=torch.cat([left.positions, lengths[:, None] + steps[None]], dim=1),
    )
    rows = PackedRows.of(left.mask, completion_length, group_size, left.embeds.dtype)
    return embedded, rows, lengths


def completion_logps(
    model: OmniModel,
    prompts: Sequence[Tensor],
    completion_ids: Tensor,
    mask: Tensor,
    *,
    temperature: float = 1.0,
    with_entropy: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities of completions given their prompts.

    Only the positions that predict a completion token reach the language model's head: logits of
    the prompt are never computed.

    Args:
        model: the policy or the reference.
        prompts: B embedded prompts [P_i, D].
        completion_ids: long [N, C], group members side by side, N = B * G.
        mask: bool [N, C], True up to and including the end token.
        temperature: the temperature the completions were sampled at.
        with_entropy: also return the entropy of each predicting distribution.

    Returns:
        float32 [N, C] log-probabilities, 0 where `mask` is False; float32 [N, C] or None.
    """
    num_completions, completion_length = completion_ids.shape
    group_size = num_completions // len(prompts)
    completions = model.embed_tokens(completion_ids)
    embedded, rows, lengths = pack(prompts, completions, mask, group_size)
    hidden = model.hidden_states(embedded, rows)

    batch = len(prompts)
    # Token 0 of a completion is predicted by the prompt's last token, token j by token j - 1.
    first = hidden[torch.arange(batch, device=hidden.device), lengths - 1]  # [B, D]
    later = hidden[:, -group_size * completion_length :].unflatten(
        1, (group_size, completion_length)
    )
    predicting = torch.cat(
        [first[:, None, None].expand(-1, group_size, 1, -1), later[:, :, :-1]], dim=2
    ).flatten(0, 1)  # [N, C, D]

    blank = torch.zeros(mask.shape, dtype=torch.float32, device=mask.device)
    read, ids = predicting[mask], completion_ids[mask]  # [tokens, D], [tokens]
    if with_entropy:
        chosen, entropies = selective_logprob_and_entropy(model.lm_head(read), ids, temperature)
        return blank.masked_scatter(mask, chosen), blank.masked_scatter(mask, entropies)
    if torch.is_grad_enabled():
        chosen = selective_logprob(model.lm_head(read), ids, temperature)
    else:  # nobody needs the logits again, so they never exist as a whole
        chosen = linear_logprob(read, model.lm_head.weight, ids, temperature)
    return blank.masked_scatter(mask, chosen), None
