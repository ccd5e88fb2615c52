"""Sampling: what is drawn, what is recorded, and what it must not depend on."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare
from short_prompts import embed, prompts_of
from torch import Tensor
from torch.testing import assert_close

from r1omni.models import R1Omni
from r1omni.models.packed import pad_embeds
from r1omni.models.sampler import Sampled, Sampling, generate
from r1omni.streams import stream_seed

PAD = 385
MANY_ENDS = tuple(range(0, 384, 6))  # a sixth of the vocabulary: rows end after 1 to 20 tokens
GROUP_SIZE = 4


def seeds_for(num_rows: int, name: str = "test") -> list[int]:
    return [stream_seed(name, row) for row in range(num_rows)]


@pytest.fixture(scope="module")
def prompts(tiny: R1Omni) -> list[Tensor]:
    return embed(tiny, prompts_of(tiny))


def draw(
    tiny: R1Omni, prompts: list[Tensor], temperature: float = 1.0, name: str = "test"
) -> Sampled:
    sampling = Sampling(20, temperature, MANY_ENDS, PAD)
    seeds = seeds_for(len(prompts) * GROUP_SIZE, name)
    return generate(tiny.model, prompts, sampling, group_size=GROUP_SIZE, seeds=seeds)


@pytest.fixture(scope="module")
def sampled(tiny: R1Omni, prompts: list[Tensor]) -> Sampled:
    return draw(tiny, prompts)


@torch.no_grad()
def test_greedy_takes_the_best_token_of_a_full_forward_pass(
    tiny: R1Omni, prompts: list[Tensor]
) -> None:
    found = generate(tiny.model, prompts, Sampling(5, 0.0, (), PAD))
    for row, prompt in enumerate(prompts):
        whole = prompt
        for step in range(5):
            hidden = tiny.model.hidden_states(pad_embeds([whole]))[:, -1]
            logps = tiny.model.lm_head(hidden)[0].log_softmax(dim=-1)
            token = logps.argmax()
            assert found.ids[row, step] == token
            assert found.logps[row, step].item() == pytest.approx(logps[token].item(), abs=1e-5)
            whole = torch.cat([whole, tiny.model.embed_tokens(token[None])])
    assert found.mask.all()


def test_greedy_needs_no_seeds_and_repeats_itself(tiny: R1Omni, prompts: list[Tensor]) -> None:
    sampling = Sampling(4, 0.0, (), PAD)
    found = generate(tiny.model, prompts[:2], sampling, group_size=2)
    assert torch.equal(found.ids[0::2], found.ids[1::2])
    assert torch.equal(found.ids[0::2], generate(tiny.model, prompts[:2], sampling).ids)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@torch.no_grad()
def test_recorded_log_probabilities_are_those_of_a_second_pass(
    tiny: R1Omni, prompts: list[Tensor], temperature: float
) -> None:
    found = draw(tiny, prompts, temperature)
    again, _ = tiny.model.completion_logps(prompts, found.ids, found.mask, temperature=temperature)
    assert_close(found.logps, again, rtol=0, atol=1e-4)


def test_rows_stop_at_their_first_end_token(sampled: Sampled) -> None:
    lengths = sampled.mask.sum(dim=1)
    assert len(set(lengths.tolist())) > 3  # several lengths, or the test shows nothing
    assert sampled.ids.shape[1] == lengths.max()  # C is the longest that occurred
    used = set()
    for ids, mask, logps, length in zip(
        sampled.ids.tolist(), sampled.mask.tolist(), sampled.logps, lengths.tolist(), strict=True
    ):
        assert mask == [True] * length + [False] * (len(mask) - length)
        assert not set(ids[: length - 1]) & set(MANY_ENDS)
        assert ids[length - 1] in MANY_ENDS or length == 20
        assert set(ids[length:]) <= {PAD}
        assert (logps[:length] < 0).all() and not logps[length:].any()
        used.add(ids[length - 1])
    assert len(used & set(MANY_ENDS)) > 3  # different end tokens ended them


@pytest.mark.parametrize("max_new_tokens", [1, 3])
def test_the_longest_completion(tiny: R1Omni, prompts: list[Tensor], max_new_tokens: int) -> None:
    sampling = Sampling(max_new_tokens, 1.0, (), PAD)
    found = generate(tiny.model, prompts, sampling, seeds=seeds_for(len(prompts)))
    assert found.ids.shape == (len(prompts), max_new_tokens)
    assert found.mask.all()


def test_a_row_alone_is_the_row_in_its_batch(
    tiny: R1Omni, prompts: list[Tensor], sampled: Sampled
) -> None:
    sampling = Sampling(20, 1.0, MANY_ENDS, PAD)
    for row, seed in enumerate(seeds_for(len(prompts) * GROUP_SIZE)):
        alone = generate(tiny.model, [prompts[row // GROUP_SIZE]], sampling, seeds=[seed])
        length = alone.ids.shape[1]
        assert sampled.ids[row, :length].tolist() == alone.ids[0].tolist()
        assert sampled.mask[row].sum() == length
        assert_close(sampled.logps[row, :length], alone.logps[0], rtol=0, atol=1e-5)


def test_the_order_of_prompts_does_not_matter(
    tiny: R1Omni, prompts: list[Tensor], sampled: Sampled
) -> None:
    rows = torch.arange(len(sampled.ids)).view(len(prompts), GROUP_SIZE).flip(0).flatten()
    seeds = seeds_for(len(rows))
    turned = generate(
        tiny.model,
        prompts[::-1],
        Sampling(20, 1.0, MANY_ENDS, PAD),
        group_size=GROUP_SIZE,
        seeds=[seeds[row] for row in rows],
    )
    assert torch.equal(turned.ids, sampled.ids[rows])


def test_seeds_decide(tiny: R1Omni, prompts: list[Tensor], sampled: Sampled) -> None:
    assert torch.equal(draw(tiny, prompts).ids, sampled.ids)
    other = draw(tiny, prompts, name="other")
    equal = [
        first[:3].tolist() == second[:3].tolist()
        for first, second in zip(other.ids, sampled.ids, strict=True)
    ]
    assert not any(equal)
    members = sampled.ids[:GROUP_SIZE].tolist()
    assert len({tuple(member) for member in members}) == GROUP_SIZE


@pytest.mark.parametrize("seeds", [None, [], [1], [1, 2, 3]])
def test_sampling_without_a_seed_a_completion_is_refused(
    tiny: R1Omni, prompts: list[Tensor], seeds: list[int] | None
) -> None:
    sampling = Sampling(2, 1.0, (), PAD)
    with pytest.raises(ValueError, match="2 in all"):
        generate(tiny.model, prompts[:1], sampling, group_size=2, seeds=seeds)


def test_prompts_of_nothing_are_refused(tiny: R1Omni, prompts: list[Tensor]) -> None:
    for few in ([], [prompts[0][:0]], [prompts[0], prompts[1][:0]]):
        with pytest.raises(ValueError, match="each of one token or more"):
            generate(tiny.model, few, Sampling(2, 0.0, (), PAD))


@pytest.mark.parametrize(("temperature", "other"), [(1.0, 0.7), (0.7, 1.0)])
@torch.no_grad()
def test_tokens_are_drawn_as_often_as_the_model_says(
    tiny: R1Omni, prompts: list[Tensor], temperature: float, other: float
) -> None:
    num_draws = 4_000
    prompt = prompts[0][-12:]  # a cache of 4,000 copies stays small
    found = generate(
        tiny.model,
        [prompt],
        Sampling(1, temperature, (), PAD),
        group_size=num_draws,
        seeds=seeds_for(num_draws),
    )
    logits = tiny.model.lm_head(tiny.model.hidden_states(pad_embeds([prompt])))[0, -1].double()
    counts = torch.bincount(found.ids.flatten(), minlength=len(logits))

    def p_value(at: float) -> float:
        wanted = (logits / at).softmax(dim=-1) * num_draws
        rare = wanted < 8  # put together, as the chi-square approximation needs
        observed = [*counts[~rare].tolist(), int(counts[rare].sum())]
        return chisquare(observed, [*wanted[~rare].tolist(), float(wanted[rare].sum())]).pvalue

    assert p_value(temperature) > 0.01
    assert p_value(other) < 1e-6  # the test can tell
