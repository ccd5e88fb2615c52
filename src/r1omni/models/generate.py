"""Sampling completions: one pass over each prompt, G completions from its keys and values.

Every completion draws from a random stream of its own, so what is sampled does not depend on the
batch it was sampled in, on the number of ranks, or on what was sampled before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from transformers import DynamicCache

from r1omni.models.omni import Embedded, OmniModel, pad_embeds
from r1omni.options import TOKENS, Ranges, at_least, check_numbers
from r1omni.streams import uniform_streams


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        max_new_tokens: longest completion, in tokens, the end token included.
        temperature: divides the logits; 0 takes the most probable token.
        end_ids: tokens that end a completion.
        pad_id: fills the rest of a finished completion.

    Raises:
        UsageError: a number out of its range.
    """

    max_new_tokens: int
    temperature: float
    end_ids: tuple[int, ...]
    pad_id: int

    RANGES: ClassVar[Ranges] = {
        "max_new_tokens": TOKENS,
        "temperature": at_least(0),
        "pad_id": at_least(0),
    }

    def __post_init__(self) -> None:
        check_numbers(self)


@dataclass(frozen=True)
class Sampled:
    """Sampled completions.

    Attributes:
        ids: long [N, C], padded on the right with `pad_id`; C is the longest that occurred.
        mask: bool [N, C], True up to and including the first end token.
        logps: float32 [N, C] at the sampling temperature (1 when greedy), 0 where masked out.
    """

    ids: Tensor
    mask: Tensor
    logps: Tensor


@torch.no_grad()
def generate(
    model: OmniModel,
    prompts: Sequence[Tensor],
    sampling: Sampling,
    *,
    group_size: int = 1,
    seeds: Sequence[int] | None = None,
) -> Sampled:
    """Sample `group_size` completions of every prompt.

    Args:
        model: the policy.
        prompts: B embedded prompts [P_i, D].
        sampling: how to draw.
        group_size: G.
        seeds: N seeds of `stream_seed`, group members side by side; needed when the temperature
            is above 0.

    Raises:
        ValueError: a positive temperature without N seeds.
    """
    num_rows = len(prompts) * group_size
    uniforms = None
    if sampling.temperature > 0:
        if seeds is None or len(seeds) != num_rows:
            raise ValueError(f"sampling needs one seed a completion, {num_rows} in all")
        uniforms = uniform_streams(seeds, sampling.max_new_tokens).to(model.device)

    embedded = pad_embeds(prompts, side="left")
    cache = DynamicCache(config=model.config.language)
    hidden = model.hidden_states(embedded, cache=cache)[:, -1]  # [B, D]
    cache.batch_repeat_interleave(group_size)
    hidden = hidden.repeat_interleave(group_size, dim=0)
    keys = embedded.mask.repeat_interleave(group_size, dim=0)
    position = embedded.mask.sum(dim=1).repeat_interleave(group_size)[:, None]  # [N, 1]

    ids = torch.full((num_rows, sampling.max_new_tokens), sampling.pad_id, device=model.device)
    logps = torch.zeros(ids.shape, dtype=torch.float32, device=model.device)
    mask = torch.zeros(ids.shape, dtype=torch.bool, device=model.device)
    end_ids = torch.tensor(sampling.end_ids, device=model.device)
    alive = torch.arange(num_rows, device=model.device)  # rows still being written

    for step in range(sampling.max_new_tokens):
        uniform = None if uniforms is None else uniforms[alive, step]
        tokens, chosen = _choose(model.lm_head(hidden), sampling.temperature, uniform)
        ids[alive, step], logps[alive, step], mask[alive, step] = tokens, chosen, True
        going = ~torch.isin(tokens, end_ids)
        if step + 1 == sampling.max_new_tokens or not going.any():
            break
        if not going.all():
            # Finished rows leave the batch: the longest completion does not cost all of them.
            kept = torch.nonzero(going).flatten()
            alive, tokens, keys, position = alive[kept], tokens[kept], keys[kept], position[kept]
            cache.batch_select_indices(kept)
        keys = torch.cat([keys, keys.new_ones(len(alive), 1)], dim=1)
        new = Embedded(model.embed_tokens(tokens[:, None]), keys, position)
        hidden = model.hidden_states(new, cache=cache)[:, -1]
        position = position + 1

    longest = int(mask.sum(dim=1).max())
    return Sampled(ids[:, :longest], mask[:, :longest], logps[:, :longest])


def _choose(logits: Tensor, temperature: float, uniform: Tensor | None) -> tuple[Tensor, Tensor]:
    """Next tokens [n] and their log-probabilities [n], by inverting the distribution function."""
    logits = logits.float()
    if uniform is None:
        tokens = logits.argmax(dim=-1)
        return tokens, logits.log_softmax(dim=-1).gather(1, tokens[:, None]).squeeze(1)
    logps = (logits / temperature).log_softmax(dim=-1)
    # float64: with a vocabulary of 150,000 the sum would lose the rare tokens.
    cumulative = logps.double().exp().cumsum(dim=-1)
    threshold = uniform[:, None] * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, threshold, right=True).squeeze(1)
    tokens = tokens.clamp(max=logits.shape[-1] - 1)
    return tokens, logps.gather(1, tokens[:, None]).squeeze(1)


def mask_after_end(completion_ids: Tensor, end_ids: Sequence[int]) -> Tensor:
    """bool [N, C], True up to and including the first end token of each completion."""
    ends = torch.isin(completion_ids, completion_ids.new_tensor(end_ids)).long()
    return ends.cumsum(dim=1) - ends == 0
