"""Prompts that the language model has read: what is written or scored goes on from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from r1omni.models.omni import OmniModel
from r1omni.models.packed import Embedded, pad_embeds


@dataclass(frozen=True)
class ReadPrompts:
    """B prompts after their one pass through the language model.

    Attributes:
        embedded: the prompts, padded on the left.
        cache: their keys and values, of every layer.
        last: float [B, D], the state of each prompt's last token.
    """

    embedded: Embedded
    cache: DynamicCache
    last: Tensor

    def __len__(self) -> int:
        return len(self.last)


@torch.no_grad()
def read_prompts(model: OmniModel, prompts: Sequence[Tensor]) -> ReadPrompts:
    """Pass embedded prompts [P_i, D] through the language model, and keep what follows needs.

    Keys and values take 2 * layers * key-value heads * head width numbers a token of the padded
    batch, as long as the result is held.

    Raises:
        ValueError: there is no prompt, or one has no token.
    """
    if not prompts or not all(len(prompt) for prompt in prompts):
        raise ValueError("sampling needs one prompt or more, each of one token or more")
    embedded = pad_embeds(prompts, side="left")
    cache = DynamicCache(config=model.config.language)
    hidden = model.hidden_states(embedded, cache=cache)
    return ReadPrompts(embedded, cache, hidden[:, -1])
