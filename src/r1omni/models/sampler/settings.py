"""What sampling is asked for, and what it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from r1omni.options import TEMPERATURE, TOKENS, Ranges, at_least, check_number, check_options


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        max_new_tokens: longest completion, in tokens, the end token included.
        temperature: divides the logits, from 0.01 to 100; 0 takes the most probable token.
        end_ids: tokens that end a completion.
        pad_id: fills the rest of a finished completion.
        cuda_graphs: on a CUDA device, record a step once and replay it; without, every operation
            of every token is started by the host. Elsewhere it says nothing.

    Raises:
        UsageError: a number out of its range.
    """

    max_new_tokens: int
    temperature: float
    end_ids: tuple[int, ...]
    pad_id: int
    cuda_graphs: bool = True

    RANGES: ClassVar[Ranges] = {
        "max_new_tokens": TOKENS,
        "temperature": at_least(0, TEMPERATURE.high),
        "pad_id": at_least(0),
    }

    def __post_init__(self) -> None:
        check_options(self)
        if self.temperature:
            check_number("temperature", self.temperature, TEMPERATURE)


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


def mask_after_end(completion_ids: Tensor, end_ids: Sequence[int]) -> Tensor:
    """bool [N, C], True up to and including the first end token of each completion."""
    ends = torch.isin(completion_ids, completion_ids.new_tensor(end_ids)).long()
    return ends.cumsum(dim=1) - ends == 0
