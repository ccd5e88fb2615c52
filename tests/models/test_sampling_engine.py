"""The decoding step against the library's model, and what it must not cost."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from short_prompts import embed, prompts_of
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from r1omni.kernels import use
from r1omni.kernels.choice import choose
from r1omni.models import R1Omni
from r1omni.models.adapters import LoRAConfig, adapters_off, add_adapters
from r1omni.models.omni import OmniModel
from r1omni.models.packed import pad_embeds
from r1omni.models.sampler import Sampled, Sampling, generate, generate_stream
from r1omni.models.sampler import engine as sampler_engine
from r1omni.models.sampler import grid as sampler_grid
from r1omni.models.sampler import writer as sampler_writer
from r1omni.models.sampler.grid import fewer_slots
from r1omni.models.sampler.layers import product
from r1omni.models.sampler.weights import WeightReader
from r1omni.streams import stream_seed, uniform_streams

PAD = 385
MANY_ENDS = tuple(range(0, 384, 6))
GROUP_SIZE = 3
LENGTH = 14


@pytest.fixture(scope="module")
def prompts(tiny: R1Omni) -> list[Tensor]:
    return embed(tiny, prompts_of(tiny))


@pytest.fixture(scope="module")
def adapted(tiny_dir: Any) -> R1Omni:
    """The tiny model with adapters that change it."""
    omni = R1Omni.from_pretrained(tiny_dir / "R1-Omni-tiny")
    add_adapters(omni.model, LoRAConfig(rank=4, alpha=8))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in omni.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1, generator=generator)
    return omni


@pytest.fixture(params=["cpu", "cuda"])
def pace(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of writing, on the CPU; one of a GPU's columns is enough here."""
    paces = {"cpu": sampler_writer.CPU_PACE, "cuda": sampler_writer.CUDA_PACE}
    monkeypatch.setattr(sampler_engine, "pace_of", lambda _: paces[request.param])


def seeds_for(num_rows: int) -> list[int]:
    return [stream_seed("sampler", row) for row in range(num_rows)]


def draw(model: OmniModel, prompts: list[Tensor], temperature: float, **options: Any) -> Sampled:
    settings: dict[str, Any] = {"length": LENGTH, "ends": MANY_ENDS} | options
    sampling = Sampling(settings["length"], temperature, settings["ends"], PAD)
    seeds = seeds_for(len(prompts) * GROUP_SIZE)
    return generate(model, prompts, sampling, group_size=GROUP_SIZE, seeds=seeds)


def flat_choice(logits: Tensor, temperature: float, uniform: float) -> int:
    """The definition: the first token whose cumulative probability exceeds the number."""
    if temperature == 0:
        return int(logits.argmax())
    sums = (logits.double() / temperature).softmax(dim=-1).cumsum(dim=-1)
    return int(torch.searchsorted(sums, uniform * sums[-1:], right=True))


@torch.no_grad()
def by_whole_passes(
    model: OmniModel, prompt: Tensor, temperature: float, seed: int, wanted: int
) -> tuple[list[int], Tensor]:
    """Tokens of one row until it ends, and logits [C, V]: a pass over everything at each token."""
    uniforms = uniform_streams([seed], wanted)[0]
    whole, ids, every = prompt, [], []
    for step in range(wanted):
        logits = model.lm_head(model.hidden_states(pad_embeds([whole])))[0, -1].float()
        every.append(logits)
        ids.append(flat_choice(logits, temperature, uniforms[step].item()))
        if ids[-1] in MANY_ENDS:
            break
        whole = torch.cat([whole, model.embed_tokens(torch.tensor(ids[-1:]))])
    return ids, torch.stack(every)


@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.7])
@pytest.mark.parametrize("with_adapters", [False, True])
@pytest.mark.usefixtures("pace")
def test_tokens_and_probabilities_are_those_of_the_library(
    tiny: R1Omni, adapted: R1Omni, prompts: list[Tensor], temperature: float, with_adapters: bool
) -> None:
    model = (adapted if with_adapters else tiny).model
    found = draw(model, prompts, temperature)
    lengths = set()
    for row, seed in enumerate(seeds_for(len(prompts) * GROUP_SIZE)):
        prompt = prompts[row // GROUP_SIZE]
        ids, logits = by_whole_passes(model, prompt, temperature, seed, LENGTH)
        assert found.ids[row, : len(ids)].tolist() == ids
        assert found.mask[row].sum() == len(ids)
        logps = (logits / (temperature or 1)).log_softmax(dim=-1)
        chosen = logps.gather(1, torch.tensor(ids)[:, None]).squeeze(1)
        assert_close(found.logps[row, : len(ids)], chosen, rtol=0, atol=1e-5)
        lengths.add(len(ids))
    assert len(prompts) > 3 and len({len(prompt) for prompt in prompts}) > 2
    assert temperature == 0 or len(lengths) > 3  # rows left the grid at several places


@pytest.mark.usefixtures("pace")
@pytest.mark.parametrize("ends", [MANY_ENDS, ()])
def test_a_stream_gives_the_same_completions_in_pieces(
    tiny: R1Omni, prompts: list[Tensor], ends: tuple[int, ...]
) -> None:
    whole = draw(tiny.model, prompts, 1.0, ends=ends)
    sampling = Sampling(LENGTH, 1.0, ends, PAD)
    seeds = seeds_for(len(whole.ids))
    pieces = []
    for piece in generate_stream(tiny.model, prompts, sampling, group_size=GROUP_SIZE, seeds=seeds):
        assert piece.shape[0] == len(whole.ids) and 1 <= piece.shape[1] <= 8
        pieces.append(piece)
        generate(tiny.model, prompts[:1], Sampling(2, 0.0, (), PAD))  # another call between
    assert len(pieces) >= 2
    assert torch.equal(torch.cat(pieces, dim=1), whole.ids)


def test_triton_is_refused_on_a_cpu(tiny: R1Omni, prompts: list[Tensor]) -> None:
    with use("triton"), pytest.raises(ValueError, match="a tensor is on cpu"):
        draw(tiny.model, prompts, 1.0)


@pytest.mark.usefixtures("pace")
def test_logits_are_those_of_the_library(
    tiny: R1Omni, prompts: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def listening(logits: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        seen.append(logits.clone())
        return choose(logits, *rest)

    for place in (sampler_grid, sampler_writer):  # the first token, and all others
        monkeypatch.setattr(place, "choose", listening)
    found = draw(tiny.model, prompts, 1.0, length=6, ends=())
    with torch.no_grad():
        for row in range(len(found.ids)):
            tokens = tiny.model.embed_tokens(found.ids[row, :-1])
            whole = torch.cat([prompts[row // GROUP_SIZE], tokens])
            wanted = tiny.model.lm_head(tiny.model.hidden_states(pad_embeds([whole])))[0, -6:]
            for step, logits in enumerate(wanted):
                assert_close(seen[step][row], logits, rtol=0, atol=1e-5)


def test_adapters_count_while_they_are_on(
    tiny: R1Omni, adapted: R1Omni, prompts: list[Tensor]
) -> None:
    before = {name: p.detach().clone() for name, p in adapted.model.named_parameters()}
    on = draw(adapted.model, prompts, 1.0)
    with adapters_off(adapted.model):
        off = draw(adapted.model, prompts, 1.0)
    assert torch.equal(off.ids, draw(tiny.model, prompts, 1.0).ids)
    assert not torch.equal(on.ids[:, :4], off.ids[:, :4])
    assert all(torch.equal(before[name], p) for name, p in adapted.model.named_parameters())


@pytest.mark.parametrize("rows", [1, 2, 4, 8, 16, 40])
@pytest.mark.parametrize("shape", [(4096, 64), (600, 600), (640, 1280), (8000, 33)])
def test_products_in_either_order(rows: int, shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(rows)
    x, weight = (torch.randn(n, shape[1], generator=generator) for n in (rows, shape[0]))
    bias = torch.randn(shape[0], generator=generator)
    expected = x.double() @ weight.double().t() + bias
    found = product(x, weight, bias)
    assert found.is_contiguous()
    assert_close(found, expected.float(), rtol=1e-4, atol=1e-4)
    assert_close(product(x, weight), (expected - bias).float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_tokens", [1, 100, 128, 384, 1000])
@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.3])
def test_the_choice_is_the_definition_s(num_tokens: int, temperature: float) -> None:
    generator = torch.Generator().manual_seed(num_tokens)
    logits = 4 * torch.randn(200, num_tokens, generator=generator)
    logits[::3, num_tokens // 2 :] = float("-inf")  # tokens that cannot be
    if num_tokens == 1:
        logits.zero_()
    uniform = torch.rand(200, dtype=torch.float64, generator=generator)
    uniform[:4] = torch.tensor([0.0, 1 - 2**-53, 1 - 2**-30, 2**-53], dtype=torch.float64)
    given = None if temperature == 0 else uniform
    ids, logps = choose(logits, temperature, given)
    wanted = [
        flat_choice(row, temperature, number)
        for row, number in zip(logits, uniform.tolist(), strict=True)
    ]
    # At the very end of a row, roundoff of the definition's own sum decides.
    assert ids[2:].tolist() == wanted[2:] and ids[0] == wanted[0]
    expected = (logits / (temperature or 1)).log_softmax(dim=-1).gather(1, ids[:, None])
    assert_close(logps, expected.squeeze(1), rtol=1e-5, atol=1e-5)
    assert logps.isfinite().all()


@pytest.mark.parametrize("num_tokens", [300, 1000, 4096])
def test_no_number_draws_a_ruled_out_token(num_tokens: int) -> None:
    """The last of each 128 tokens cannot be, and numbers fall on the borders before and after."""
    generator = torch.Generator().manual_seed(num_tokens)
    logits = 4 * torch.randn(500, num_tokens, generator=generator)
    tokens = torch.arange(num_tokens)
    logits[:, (tokens % 128 > 100) | (tokens % 128 < 2) | (tokens > num_tokens - 20)] = -torch.inf
    shares = logits.softmax(dim=-1).double().cumsum(dim=-1)
    borders = shares[:, ::128] / shares[:, -1:]  # where a block begins
    just_below_1 = torch.full((500, 1), 1 - 2**-53, dtype=torch.float64)
    for number in torch.cat([borders, just_below_1], dim=1).unbind(dim=1):
        for uniform in (number, torch.nextafter(number, torch.zeros_like(number))):
            ids, logps = choose(logits, 1.0, uniform.clamp(max=1 - 2**-53))
            assert logps.isfinite().all()
            assert logits.gather(1, ids[:, None]).isfinite().all()


def test_rare_tokens_are_drawn() -> None:
    logits = torch.zeros(1, 150_000)
    uniform = torch.tensor([0.999999], dtype=torch.float64)
    assert choose(logits, 1.0, uniform)[0].item() == 149_999
    logits[0, 0] = 30.0  # the others share about 1e-8, less than float32 has beside 1
    uniform = 1 - torch.tensor([0.5e-8], dtype=torch.float64)
    assert choose(logits, 1.0, uniform)[0].item() > 1000


@pytest.mark.parametrize(
    ("live", "halve", "slots", "num_real"),
    [
        ([0, 1, 5, 11], False, [[0, 1], [5, 5], [11, 11]], 4),
        ([4, 5, 6, 7], False, [[4, 5, 6, 7]], 4),
        ([5], True, [[5]], 1),
        ([0, 1, 2, 5, 11], True, [[0, 1, 2, 0], [5] * 4, [11] * 4], 5),
        ([0, 5], True, [[0], [5]], 2),
        ([0, 5, 11], True, [[0], [5], [11]], 3),
    ],
)
def test_smaller_grids(live: list[int], halve: bool, slots: list[list[int]], num_real: int) -> None:
    found, real = fewer_slots(live, (3, 4), halve=halve)
    assert found == slots
    kept = [s for line, reals in zip(found, real, strict=True)
            for s, is_real in zip(line, reals, strict=True) if is_real]  # fmt: skip
    assert kept == live and len(kept) == num_real


def test_shapes_of_a_device_change_nothing(
    tiny: R1Omni, prompts: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many batches one after the other in the same memory, rows ending soon and late."""
    memory = sampler_writer.SamplerMemory()
    paces = sampler_writer.CPU_PACE, sampler_writer.CUDA_PACE
    for batch, members, length, every in (
        (5, 3, 40, 20),
        (1, 8, 70, 40),
        (3, 1, 9, 5),
        (4, 5, 2, 3),
    ):
        sampling = Sampling(length, 1.0, tuple(range(0, 384, every)), PAD)
        found = []
        for pace in paces:
            monkeypatch.setattr(sampler_engine, "pace_of", lambda _, pace=pace: pace)
            monkeypatch.setattr(sampler_engine, "SamplerMemory", lambda: memory)
            seeds = seeds_for(batch * members)
            found.append(
                generate(tiny.model, prompts[:batch], sampling, group_size=members, seeds=seeds)
            )
        assert torch.equal(found[0].ids, found[1].ids)
        assert torch.equal(found[0].mask, found[1].mask)
        assert_close(found[0].logps, found[1].logps, rtol=0, atol=1e-5)


# What a token costs ---------------------------------------------------------------------------


class Operations(TorchDispatchMode):
    """Counts the operations that compute or copy; views are free."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.counts[func.overloadpacket.__name__] += 1
        return result


def operations(run: Callable[[], object]) -> Counter[str]:
    with Operations() as counted:
        run()
    return counted.counts


def test_operations_of_a_token(tiny: R1Omni, prompts: list[Tensor]) -> None:
    model = tiny.model
    layers = model.config.language.num_hidden_layers

    def of(length: int) -> Counter[str]:
        return operations(lambda: draw(model, prompts, 1.0, length=length, ends=()))

    draw(model, prompts, 1.0, length=2, ends=())
    # Multiples of the period: what it costs to look for ends counts, too.
    per_token = of(25)
    per_token.subtract(of(17))
    total = {name: count / 8 for name, count in per_token.items() if count}
    assert total.get("cat", 0) == 0  # no keys are joined, no cache grows
    assert total.get("_local_scalar_dense", 0) <= 1  # at most one wait for the device a token
    assert sum(total.values()) <= 42 * layers + 46


@torch.no_grad()
def test_autocast_copies_weights_once_and_keeps_keys_in_its_dtype(
    tiny: R1Omni, prompts: list[Tensor]
) -> None:
    exact = draw(tiny.model, prompts, 1.0, ends=())
    with torch.autocast("cpu", torch.bfloat16):
        assert WeightReader().read(tiny.model).dtype == torch.bfloat16
        found = draw(tiny.model, prompts, 1.0, ends=())
        short = operations(lambda: draw(tiny.model, prompts, 1.0, length=17, ends=()))
        long = operations(lambda: draw(tiny.model, prompts, 1.0, length=25, ends=()))
    # Casts of a token are of its hidden states: as many as there are norms and products, not
    # as many as there are weights.
    layers = tiny.model.config.language.num_hidden_layers
    assert (long["_to_copy"] - short["_to_copy"]) / 8 <= 8 * layers + 12
    same = (found.ids == exact.ids).all(dim=1)
    assert same.any()
    assert_close(found.logps[same], exact.logps[same], rtol=0, atol=0.1)
    assert not torch.equal(found.logps[same], exact.logps[same])


@pytest.mark.parametrize("copy_all", [False, True])
@torch.no_grad()
def test_weights_are_read_again_into_the_same_memory(tiny: R1Omni, copy_all: bool) -> None:
    model = copy.deepcopy(tiny.model)
    reader = WeightReader(copy_all)
    first = reader.read(model)
    own = {parameter.data_ptr() for parameter in model.parameters()}
    assert own.isdisjoint(first.addresses()) == copy_all
    places, before = first.addresses(), [tensor.clone() for tensor in first.tensors()]
    if copy_all:  # a sharded model's weights may lie elsewhere the next time
        model = copy.deepcopy(model)
    for parameter in model.language_model.parameters():
        parameter.mul_(2)
    if not model.config.language.tie_word_embeddings:
        model.lm_head.weight.mul_(2)
    second = reader.read(model)
    assert second.addresses() == places
    for old, new in zip(before, second.tensors(), strict=True):
        assert_close(2 * old, new)
