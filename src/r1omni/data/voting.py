"""Completions that vote on a clip's answer: how many, how they are drawn, and their seeds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from r1omni.options import TEMPERATURE, Conditions, OnlyWith, Range, Ranges, check_options
from r1omni.streams import stream_seed


@dataclass(frozen=True)
class Voting:
    """Completions that `test` samples of every clip beside the answer, to vote on it.

    Self-consistency (Wang et al. 2022, arXiv 2203.11171) for classes: the label that most of them
    name. The answer itself, of the most probable tokens, is no vote.

    Attributes:
        samples: how many, of each clip and condition; 0 for none. A batch writes
            `eval_batch_size` times as many at once.
        temperature: divides the logits that they are drawn by.

    Raises:
        UsageError: a number out of its range, or a temperature that nothing is drawn with.
    """

    samples: int = 0
    temperature: float = 1.0

    RANGES: ClassVar[Ranges] = {"samples": Range(0, 1000), "temperature": TEMPERATURE}
    ONLY_WITH: ClassVar[Conditions] = {
        "temperature": OnlyWith("samples", "above 0", lambda v: v.samples > 0)
    }

    def __post_init__(self) -> None:
        check_options(self, "data.voting.")

    def seeds(self, seed: int, sample_ids: Iterable[str]) -> list[int]:
        """Seeds of the votes on samples, those of a sample side by side.

        A vote is fixed by seed, sample and its number, so fewer votes are the first of more.
        """
        return [
            stream_seed("vote", seed, sample_id, number)
            for sample_id in sample_ids
            for number in range(self.samples)
        ]
