"""What a step costs in counts, held to what its sizes say: no clock, so no noise.

Whole steps of every arm are counted in test_benchmark_step.py; here is what a token costs, and a
batch with completions of several lengths. The numbers of operators and allocations a layer are
those of torch 2.11 on a CPU; a part that does more by accident does so at every token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from live_memory import LiveMemory
from step_parts.counting import Counts, count
from torch import Tensor
from transformers import Qwen2Config

from r1omni.models.omni import OmniModel
from r1omni.models.sampler import Sampling, generate
from r1omni.models.sizes import config_from_sizes

SIZES = Path(__file__).resolve().parents[1] / "configs" / "mini" / "model.yaml"
VOCABULARY = 1280
# What is compared with itself costs the same of few layers as of more.
FEW_LAYERS = pytest.mark.parametrize("model", [2], indirect=True)
ENDS = tuple(range(0, VOCABULARY, 8))  # a random token is one of them in an eighth of cases
PERIOD = 4  # tokens between two looks at which rows have ended, on a CPU
FLOAT, DOUBLE = 4, 8


@pytest.fixture(scope="module", params=[2, 3])
def model(request: pytest.FixtureRequest) -> OmniModel:
    """Of the mini model's widths, with few layers."""
    torch.manual_seed(0)
    config = config_from_sizes(SIZES)
    sizes = {"num_hidden_layers": request.param, "layer_types": None, "vocab_size": VOCABULARY}
    language = Qwen2Config(**{**config.language.to_dict(), **sizes})
    return OmniModel(replace(config, language=language)).eval()


def layers(model: OmniModel) -> int:
    return int(model.config.language.num_hidden_layers)


def prompts(lengths: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [0.02 * torch.randn(length, 96, generator=generator) for length in lengths]


def drawn(
    model: OmniModel, lengths: list[int], members: int, tokens: int, ends: tuple[int, ...] = ()
) -> Callable[[], Tensor]:
    sampling = Sampling(tokens, 1.0, ends, 0)
    seeds = list(range(len(lengths) * members))
    given = prompts(lengths)
    return lambda: generate(model, given, sampling, group_size=members, seeds=seeds).mask


def positions(model: OmniModel, counts: Counts) -> tuple[float, int]:
    """Through the decoder layers, and through the head."""
    language = model.config.language
    trunk = counts.rows_through(language.intermediate_size, language.hidden_size)
    return trunk / layers(model), counts.rows_through(language.hidden_size, VOCABULARY)


# A token ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PerToken:
    """What a further token of all rows costs, between the 5th and the 13th."""

    launches: float
    copies: float
    copied_bytes: float
    joins: float
    allocations: float


def per_token(model: OmniModel, length: int, members: int) -> PerToken:
    short, long = (count(drawn(model, [length] * 2, members, tokens)) for tokens in (5, 13))
    names = PerToken.__dataclass_fields__
    return PerToken(*((getattr(long, name) - getattr(short, name)) / 8 for name in names))


def test_a_token_starts_copies_and_takes_what_its_sizes_say(model: OmniModel) -> None:
    members, rows = 3, 6
    found = per_token(model, 40, members)
    # A layer has 4 products with weights and 4 of attention; 2 norms of 5, which the library counts
    # as one and has 7 within, with 2 sums; softmax, the sum with the bias, silu and its product,
    # the turn; keys kept, and 3 copies into place. A token has 40 for position, columns, embedding,
    # last norm, head, choice and record; looking for ends is spread over the period.
    assert found.launches <= 29 * layers(model) + 40 + 1
    assert found.joins == 0  # no keys are joined, no cache grows
    assert found.copies <= 9 * layers(model) + 6
    assert found.allocations <= 30 * layers(model) + 41 + 1
    config = model.config.language
    width, kept = config.hidden_size, 2 * 48  # all heads; keys and values
    seen = 9  # own columns, on average between the 5th and the 13th token
    heads = config.num_attention_heads
    layer = rows * (heads * seen + 2 * width + (width + kept) + kept)  # scores, queries and what
    # attention found, bias, keys; the choice adds up blocks of the vocabulary in float64.
    choice = rows * DOUBLE * (VOCABULARY + 128)
    assert found.copied_bytes <= 1.02 * (FLOAT * layers(model) * layer + choice)


@FEW_LAYERS
def test_a_token_costs_no_more_calls_or_copies_with_a_longer_prompt_or_more_rows(
    model: OmniModel,
) -> None:
    base, longer, more = (per_token(model, *sizes) for sizes in ((40, 3), (80, 3), (40, 6)))
    assert longer == base
    assert (more.launches, more.copies, more.allocations) == (
        base.launches, base.copies, base.allocations,
    )  # fmt: skip
    assert more.copied_bytes <= 2 * base.copied_bytes


# A batch of several lengths ---------------------------------------------------------------------


def test_sampling_reads_a_prompt_once_and_ended_rows_soon_no_more(model: OmniModel) -> None:
    lengths, members, tokens = [31, 40], 8, 24
    masks: list[Tensor] = []
    work = drawn(model, lengths, members, tokens, ENDS)
    trunk, head = positions(model, count(lambda: masks.append(work())))
    written = masks[0].sum(dim=1)
    assert len(set(written.tolist())) > 4 and written.min() < 8 < written.max()
    # A row is there until the next look, and a group's rows until the longest of a group is over:
    # the smaller grid is a rectangle.
    last = int(written.max())
    looks = range(PERIOD, last + PERIOD, PERIOD)
    at_most = 0
    for look in looks:
        alive = (written > look - PERIOD).view(len(lengths), members).sum(dim=1)
        steps = min(PERIOD, tokens - look + PERIOD) - (look == PERIOD)
        at_most += steps * int((alive > 0).sum()) * int(alive.max())
    read = len(lengths) * max(lengths)  # prompts are padded to the longest, the one padding
    assert trunk <= read + at_most
    assert head <= len(lengths) + at_most
    assert at_most < 0.8 * members * len(lengths) * (last - 1)  # or nothing would have been spared


def scored(model: OmniModel, fused: bool) -> tuple[Callable[[], None], int, int]:
    """A scoring of completions of very different lengths, and the tokens that there are."""
    members, longest = 4, 20
    given = prompts([31, 40])
    counts = torch.tensor([20, 1, 7, 3, 12, 20, 5, 9])
    mask = torch.arange(longest) < counts[:, None]
    ids = torch.randint(0, VOCABULARY, mask.shape, generator=torch.Generator().manual_seed(2))
    assert len(mask) == members * len(given)

    def work() -> None:
        with torch.set_grad_enabled(not fused):
            found = model.completion_logps(given, ids, mask, with_entropy=not fused)[0]
        if not fused:
            found.sum().backward()

    return work, sum(map(len, given)), int(counts.sum())


@pytest.mark.parametrize("fused", [True, False], ids=["reference", "update"])
def test_scoring_has_no_padding_in_trunk_and_head(model: OmniModel, fused: bool) -> None:
    work, in_prompts, in_completions = scored(model, fused)
    trunk, head = positions(model, count(work))
    assert trunk == in_prompts + in_completions
    # The reference makes its logits inside an operator, a chunk of tokens at a time.
    assert head == in_completions


# Memory -----------------------------------------------------------------------------------------


@FEW_LAYERS
def test_a_prompt_is_held_once_for_its_rows_while_sampling(model: OmniModel) -> None:
    """The most that is held grows with the prompt alike for few rows and for many."""

    def peak(length: int, members: int, tokens: int) -> int:
        with LiveMemory() as live:
            drawn(model, [length] * 2, members, tokens)()
        return live.peak

    growth = [peak(300, members, 3) - peak(150, members, 3) for members in (2, 8)]
    assert growth[1] <= 1.01 * growth[0]
    # Per row and token: keys and values, and the random number, ids and log-probabilities twice.
    config = model.config.language
    kept = 2 * layers(model) * config.num_key_value_heads * 24 * FLOAT
    more = peak(20, 8, 80) - peak(20, 8, 40)
    assert more <= 1.1 * 16 * 40 * (kept + 2 * DOUBLE + 2 * (DOUBLE + FLOAT))


def test_an_update_holds_what_its_tokens_say(model: OmniModel) -> None:
    """No more than the numbers that a layer keeps of a token, of a prompt once for its rows."""
    config = model.config.language
    width, inner = config.hidden_size, config.intermediate_size
    members, length, tokens = 4, 200, 40
    given = prompts([length])
    ids = torch.zeros(members, tokens, dtype=torch.long)
    mask = torch.ones_like(ids, dtype=torch.bool)

    def work() -> None:
        model.completion_logps(given, ids, mask, with_entropy=True)[0].sum().backward()

    work()  # gradients are there from now on, as in every step after the first
    found = count(work).peak_bytes
    # Norms, queries, keys, values and the residual stream, 12.25 of its widths as torch keeps them;
    # gate, up, their activation and product.
    layer = (length + members * tokens) * (49 * width // 4 + 4 * inner)
    # What completions see of a prompt is laid out a row: keys and values of the heads of keys.
    shared = config.num_attention_heads // config.num_key_value_heads
    layer += 2 * members * (length + tokens) * width // shared
    bias = members * tokens * (length + tokens)
    # Logits, what the loss keeps of them, and their gradient.
    head = 3 * members * tokens * VOCABULARY + VOCABULARY * width
    assert found <= 1.03 * FLOAT * (layers(model) * layer + bias + head)
