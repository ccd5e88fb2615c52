"""What each arm of a step has to compute, by the sizes alone.

`scripts/benchmark_step.py` writes it beside what was counted, and where nothing can be run, in its
place. Operations are those of the language model: 2 a weight and position, and 4 d for a head and
each pair of a query and a key that it sees; an update takes three times a pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from r1omni.models.config import OmniConfig
from step_parts.work import Case


@dataclass(frozen=True)
class Passes:
    """What a phase does, once forward.

    Attributes:
        trunk: positions through the decoder layers.
        head: positions through the head.
        pairs: of a query and a key that it sees, in each layer.
    """

    trunk: int
    head: int
    pairs: int


@dataclass(frozen=True)
class Expected:
    """An arm's phases by name, and clips through the towers of picture and sound."""

    phases: Mapping[str, Passes]
    clips: int

    @property
    def trunk(self) -> int:
        """Positions through the decoder layers, in all passes forward."""
        return sum(passes.trunk for passes in self.phases.values())

    @property
    def head(self) -> int:
        """Positions through the head, in all passes forward."""
        return sum(passes.head for passes in self.phases.values())

    def operations(self, config: OmniConfig) -> dict[str, int]:
        """Of the language model, by phase."""
        language = config.language
        width, inner = language.hidden_size, language.intermediate_size
        heads, kept = language.num_attention_heads, language.num_key_value_heads
        keys = width * kept // heads
        layer = 2 * width * width + 2 * width * keys + 3 * width * inner
        layers = language.num_hidden_layers
        return {
            name: (3 if name == "update" else 1)
            * (
                2 * layers * layer * passes.trunk
                + 2 * width * language.vocab_size * passes.head
                + 4 * layers * width * passes.pairs
            )
            for name, passes in self.phases.items()
        }


def least(case: Case, prompt_length: int) -> Expected:
    """What no arrangement can do without: each distribution once, each prompt read once a pass."""
    prompts, rows, length = case.prompts, case.rows, case.completion
    further = rows * (length - 1)
    one = Passes(
        prompts * prompt_length + further,
        prompts + further,
        _pairs(prompts, prompt_length, rows, length - 1),
    )
    return Expected({"sampling": one, "reference": one, "update": one}, 0)


def expected(arm: str, case: Case, prompt_length: int) -> Expected:
    """What an arm of `scripts/benchmark_step.py` has to compute."""
    prompts, rows, length = case.prompts, case.rows, case.completion
    sampling = least(case, prompt_length).phases["sampling"]
    packed = Passes(
        prompts * prompt_length + rows * length, rows * length,
        _pairs(prompts, prompt_length, rows, length),
    )  # fmt: skip
    sampled_alone = Passes(
        rows * (prompt_length + length - 1), rows * length,
        _pairs(rows, prompt_length, rows, length - 1),
    )  # fmt: skip
    alone = Passes(
        rows * (prompt_length + length), rows * length, _pairs(rows, prompt_length, rows, length)
    )
    clips = 0
    if arm == "library_cache":
        sampling = Passes(sampling.trunk, rows * length, sampling.pairs)
    elif arm in ("prompt_per_completion", "trl", "trl_rows", "release"):
        sampling, packed = sampled_alone, alone
    elif arm == "plain_rows":
        packed = alone
    elif arm == "full_logits":
        packed = Passes(packed.trunk, packed.trunk, packed.pairs)
    elif arm == "towers_each_step":
        clips = prompts
    if arm == "release":
        packed = Passes(packed.trunk, packed.trunk, packed.pairs)
        clips = prompts * (2 * case.group_size + 1)
    if arm == "trl":
        clips = 3 * rows
        if case.device == "cpu":
            packed = Passes(packed.trunk, packed.trunk - rows, packed.pairs)
    return Expected({"sampling": sampling, "reference": packed, "update": packed}, clips)


def _pairs(prompts: int, prompt_length: int, rows: int, length: int) -> int:
    """Of prompts that see themselves, and of `length` further tokens a row that see a prompt."""
    inside = prompt_length * (prompt_length + 1) // 2
    return prompts * inside + rows * (length * prompt_length + length * (length + 1) // 2)
