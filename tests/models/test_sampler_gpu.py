"""Sampling on a CUDA device: with and without graphs and Triton, the same completions.

`scripts/test.sh -m gpu tests/models/test_sampler_gpu.py`, or `python` on this file.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import Qwen2Config

from r1omni.kernels import use
from r1omni.models.omni import OmniModel
from r1omni.models.packed import pad_embeds
from r1omni.models.sampler import (
    Sampled,
    SamplerMemory,
    Sampling,
    WritingBeside,
    begun,
    generate,
    generate_each,
)
from r1omni.models.sizes import config_from_sizes
from r1omni.streams import stream_seed

pytestmark = pytest.mark.gpu

SIZES = Path(__file__).parents[2] / "configs" / "mini" / "model.yaml"
ENDS = tuple(range(0, 1000, 40))  # rows end after 1 to 100 tokens
GROUP_SIZE = 8


def made() -> tuple[OmniModel, list[Tensor]]:
    """A model with the heads of the release, and prompts of several lengths."""
    torch.manual_seed(0)
    language = Qwen2Config(
        vocab_size=1000, hidden_size=448, intermediate_size=900, num_hidden_layers=3,
        num_attention_heads=7, num_key_value_heads=1, max_position_embeddings=2048,
        tie_word_embeddings=True, initializer_range=0.05,
    )  # fmt: skip
    model = OmniModel(replace(config_from_sizes(SIZES), language=language)).cuda().eval()
    prompts = [torch.randn(length, 448, device="cuda") for length in (300, 40, 129, 1, 222)]
    return model, prompts


def draw(
    model: OmniModel, prompts: list[Tensor], graphs: bool, temperature: float = 1.0
) -> Sampled:
    sampling = Sampling(100, temperature, ENDS, 0, cuda_graphs=graphs)
    seeds = [stream_seed(row) for row in range(len(prompts) * GROUP_SIZE)]
    return generate(model, prompts, sampling, group_size=GROUP_SIZE, seeds=seeds)


@torch.no_grad()
def again(model: OmniModel, prompts: list[Tensor], found: Sampled) -> Tensor:
    """Log-probabilities [N, C] of what was sampled, by the library, one row at a time."""
    logps = torch.zeros_like(found.logps)
    for row, (ids, mask) in enumerate(zip(found.ids, found.mask, strict=True)):
        length = int(mask.sum())
        prompt = prompts[row // GROUP_SIZE]
        whole = torch.cat([prompt, model.embed_tokens(ids[: length - 1])])
        hidden = model.hidden_states(pad_embeds([whole]))[0, len(prompt) - 1 :]
        every = model.lm_head(hidden).float().log_softmax(dim=-1)
        logps[row, :length] = every.gather(1, ids[:length, None]).squeeze(1)
    return logps


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_graphs_and_kernels_change_nothing(temperature: float) -> None:
    model, prompts = made()
    found = {}
    for kernels in ("triton", "torch"):
        for graphs in (True, False):
            with use(kernels):
                found[kernels, graphs] = draw(model, prompts, graphs, temperature)
    first = found["torch", False]
    lengths = first.mask.sum(dim=1)
    assert temperature == 0 or lengths.unique().numel() > 8  # the grid got smaller several times
    for sampled in found.values():
        equal = (sampled.ids == first.ids).all(dim=1)
        assert equal.float().mean() > 0.9  # roundoff may turn a draw, of few rows
        assert_close(sampled.logps[equal], first.logps[equal], rtol=0, atol=1e-3)
    assert_close(first.logps, again(model, prompts, first), rtol=0, atol=1e-3)


def test_graphs_see_new_weights_and_new_prompts() -> None:
    model, prompts = made()
    draw(model, prompts, graphs=True)
    graphs = model.sampler_memory
    assert graphs is not None
    with torch.no_grad():
        for parameter in model.language_model.parameters():
            parameter.mul_(1.1)
    turned = prompts[::-1]
    found = draw(model, turned, graphs=True)
    assert model.sampler_memory is graphs
    assert_close(found.logps, again(model, turned, found), rtol=0, atol=1e-3)
    other = copy.deepcopy(model)
    assert_close(draw(other, turned, graphs=True).logps, found.logps, rtol=0, atol=1e-3)


def test_a_stream_gives_the_completions_of_batches() -> None:
    model, prompts = made()
    every, rows = [*prompts * 4][::-1], {}
    sampling = Sampling(100, 1.0, ENDS, 0)
    left = iter(every)

    def more(count: int) -> tuple[list[Tensor], bool]:
        taken = list(islice(left, count))
        return taken, len(taken) == count

    for ended in generate_each(model, more, sampling, 8, seed_of=stream_seed):
        if ended is not None:
            rows.update(zip(ended.places, ended.ids, strict=True))
    seeds = [stream_seed(place) for place in range(len(every))]
    found = generate(model, every, sampling, seeds=seeds)
    same = [
        ids[: int(mask.sum())].tolist() == rows[place]
        for place, (ids, mask) in enumerate(zip(found.ids, found.mask, strict=True))
    ]
    assert len(rows) == len(every) and sum(same) >= 0.9 * len(every)


@torch.no_grad()
def test_a_thread_samples_beside_an_update() -> None:
    """By the weights as they were, whatever is done to them meanwhile; graphs come later."""
    model, prompts = made()
    sampling = Sampling(100, 1.0, ENDS, 0)
    seeds = [stream_seed(row) for row in range(len(prompts) * GROUP_SIZE)]
    memory = SamplerMemory(copy_all=True)
    large = torch.randn(4096, 4096, device="cuda")
    for _ in range(3):  # eager, then replayed
        wanted = draw(model, prompts, graphs=True)
        with WritingBeside(begun(model, prompts, sampling, GROUP_SIZE, seeds, memory)) as beside:
            for parameter in model.parameters():
                parameter.mul_(1.05)
            for _ in range(50):
                large = torch.tanh(large @ large)
            found = beside.result()
        equal = (found.ids == wanted.ids).all(dim=1)
        assert equal.float().mean() > 0.9
        assert_close(found.logps[equal], wanted.logps[equal], rtol=0, atol=1e-3)
        assert memory.graphs._graphs and not memory.graphs._missing


@torch.no_grad()
def test_half_precision() -> None:
    model, prompts = made()
    with torch.autocast("cuda", torch.bfloat16):
        mixed = draw(model, prompts, graphs=True)
        assert (mixed.logps - again(model, prompts, mixed)).abs().mean() < 0.02
    model.to(torch.bfloat16)
    half = [prompt.bfloat16() for prompt in prompts]
    found = draw(model, half, graphs=True)
    assert (found.logps - again(model, half, found)).abs().mean() < 0.02


if __name__ == "__main__":
    for wanted in (0.0, 1.0):
        test_graphs_and_kernels_change_nothing(wanted)
    test_graphs_see_new_weights_and_new_prompts()
    test_a_stream_gives_the_completions_of_batches()
    test_a_thread_samples_beside_an_update()
    test_half_precision()
    print("sampling on this GPU agrees with the library")
