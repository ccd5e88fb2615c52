"""G completions behind one prompt in one row, against each completion in a row of its own."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from short_prompts import embed, prompts_of
from torch import Tensor
from torch.testing import assert_close

from r1omni.models import R1Omni
from r1omni.models.attention import PackedRows, packed_attention
from r1omni.models.packed import pad_embeds

LENGTH = 7


def completions(num_rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random tokens [N, C] and a mask of different lengths, the first 1, the longest C."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 384, (num_rows, LENGTH), generator=generator)
    lengths = torch.randint(1, LENGTH + 1, (num_rows,), generator=generator)
    lengths[0], lengths[-1] = 1, LENGTH
    return ids, torch.arange(LENGTH)[None] < lengths[:, None]


def one_by_one(
    omni: R1Omni, prompts: Sequence[Tensor], ids: Tensor, mask: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies [N, C] from a forward pass for every completion."""
    group_size = len(ids) // len(prompts)
    logps, entropies = torch.zeros(ids.shape), torch.zeros(ids.shape)
    for row in range(len(ids)):
        prompt, length = prompts[row // group_size], int(mask[row].sum())
        tokens = ids[row, :length]
        whole = torch.cat([prompt, omni.model.embed_tokens(tokens)])
        logits = omni.model.lm_head(omni.model.hidden_states(pad_embeds([whole])))[0]
        scaled = (logits[len(prompt) - 1 : -1] / temperature).log_softmax(dim=-1)
        logps[row, :length] = scaled.gather(1, tokens[:, None]).squeeze(1)
        entropies[row, :length] = -(scaled.exp() * scaled).sum(dim=-1)
    return logps, entropies


@pytest.mark.parametrize("group_size", [1, 3])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@torch.no_grad()
def test_packed_equals_one_by_one(tiny: R1Omni, group_size: int, temperature: float) -> None:
    prompts = embed(tiny, prompts_of(tiny))
    assert len({len(prompt) for prompt in prompts}) > 2
    ids, mask = completions(len(prompts) * group_size)
    packed, entropies = tiny.model.completion_logps(
        prompts, ids, mask, temperature=temperature, with_entropy=True
    )
    wanted, wanted_entropies = one_by_one(tiny, prompts, ids, mask, temperature)
    assert packed.dtype == torch.float32
    assert_close(packed, wanted, rtol=0, atol=1e-5)
    assert_close(entropies, wanted_entropies, rtol=0, atol=1e-5)
    assert packed[~mask].abs().sum() == 0 and entropies[~mask].abs().sum() == 0
    assert (packed[mask] < 0).all()


@pytest.mark.parametrize("group_size", [1, 3])
def test_gradients_are_equal(tiny: R1Omni, group_size: int) -> None:
    inputs = prompts_of(tiny)
    ids, mask = completions(len(inputs) * group_size, seed=1)
    weights = torch.randn(ids.shape, generator=torch.Generator().manual_seed(2))
    model = tiny.model
    parameters = {
        "head": model.lm_head.weight,
        "keys": model.language_model.layers[0].self_attn.k_proj.weight,
        "last": model.language_model.layers[-1].mlp.down_proj.weight,
        "audio": model.audio_projector[0].weight,
        "video": model.video_projector.readout_body[0].weight,
        "gate": model.gate[2].weight,
    }

    def gradients(packed: bool) -> dict[str, Tensor]:
        prompts = model.embed_prompts(inputs)
        if packed:
            logps, _ = model.completion_logps(prompts, ids, mask)
        else:
            logps, _ = one_by_one(tiny, prompts, ids, mask, 1.0)
        found = torch.autograd.grad((logps * weights).sum(), list(parameters.values()))
        return dict(zip(parameters, found, strict=True))

    wanted = gradients(packed=False)
    for name, gradient in gradients(packed=True).items():
        scale = wanted[name].abs().max()
        assert scale > 0
        assert_close(gradient, wanted[name], rtol=0, atol=float(scale) * 1e-4, msg=name)


@torch.no_grad()
def test_what_stands_behind_the_end_does_not_matter(tiny: R1Omni) -> None:
    prompts = embed(tiny, prompts_of(tiny))
    ids, mask = completions(len(prompts) * 3)
    before, _ = tiny.model.completion_logps(prompts, ids, mask)
    after, _ = tiny.model.completion_logps(prompts, ids.masked_fill(~mask, 385), mask)
    assert torch.equal(before, after)


@torch.no_grad()
def test_siblings_do_not_see_each_other(tiny: R1Omni) -> None:
    prompts = embed(tiny, prompts_of(tiny))
    ids, mask = completions(len(prompts) * 3)
    others = ids.clone()
    others[1::3] = (others[1::3] + 1) % 384  # the second member of every group
    before, _ = tiny.model.completion_logps(prompts, ids, mask)
    after, _ = tiny.model.completion_logps(prompts, others, mask)
    kept = torch.ones(len(ids), dtype=torch.bool)
    kept[1::3] = False
    assert_close(after[kept], before[kept], rtol=0, atol=1e-6)
    assert not torch.equal(after[1::3], before[1::3])


def test_visible_by_hand() -> None:
    # Prompts of two tokens and of one, two completions each of up to three tokens.
    prompts = torch.tensor([[True, True], [True, False]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]]).bool()
    rows = PackedRows.of(prompts, mask, torch.float32, heads_per_key=2)
    assert rows.prompt_slots.tolist() == [0, 1, 2]
    assert rows.completion_slots.tolist() == [0, 1, 2, 3, 9, 10]
    assert (rows.group_size, rows.num_prompt_tokens) == (2, 3)
    assert rows.bias.shape == (4, 1, 6, 5)
    first = [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    second = [[1, 0, 1, 0, 0], [1, 0, 1, 1, 0], [1, 0, 1, 1, 1]]
    seen = (rows.bias == 0).int()[:, 0].tolist()
    assert seen == [2 * first, 2 * first, 2 * second, 2 * second]  # once a query head
    assert rows.bias[rows.bias != 0].isneginf().all()


def test_attention_equals_a_square_mask() -> None:
    torch.manual_seed(0)
    heads, width, group_size = 4, 8, 3
    prompts = torch.arange(5) < torch.tensor([5, 3])[:, None]
    mask = torch.arange(4) < torch.tensor([4, 1, 3, 0, 2, 4])[:, None]
    rows = PackedRows.of(prompts, mask, torch.float64, heads_per_key=2)
    # Of each token which prompt it belongs to, and which completion, 0 for a prompt.
    owner = torch.cat(
        [
            torch.arange(2)[:, None].expand(2, 5)[prompts],
            torch.arange(6)[:, None].expand(6, 4)[mask] // group_size,
        ]
    )
    member = torch.cat([torch.zeros(8), torch.arange(1, 7)[:, None].expand(6, 4)[mask]])
    total = len(owner)
    query = torch.randn(1, heads, total, width, dtype=torch.float64)
    key, value = torch.randn(2, 1, heads // 2, total, width, dtype=torch.float64)
    found, _ = packed_attention(torch.nn.Identity(), query, key, value, rows, scaling=0.3)
    same = (member[None] == member[:, None]) | (member[None] == 0)
    square = same & (owner[None] == owner[:, None]) & torch.ones(total, total).tril().bool()
    wide = (t.repeat_interleave(2, dim=1) for t in (key, value))
    wanted = torch.nn.functional.scaled_dot_product_attention(
        query, *wide, attn_mask=square, scale=0.3
    ).transpose(1, 2)
    assert_close(found, wanted)


@torch.no_grad()
def test_the_trunk_reads_no_padding(tiny: R1Omni) -> None:
    prompts = embed(tiny, prompts_of(tiny))
    ids, mask = completions(len(prompts) * 3)
    seen = []
    hook = tiny.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"].shape[:2]),
        with_kwargs=True,
    )
    tiny.model.completion_logps(prompts, ids, mask)
    hook.remove()
    assert seen == [(1, sum(map(len, prompts)) + int(mask.sum()))]


@torch.no_grad()
def test_a_completion_without_a_token_changes_no_other(tiny: R1Omni) -> None:
    prompts = embed(tiny, prompts_of(tiny))
    ids, mask = completions(len(prompts) * 3)
    before, _ = tiny.model.completion_logps(prompts, ids, mask)
    for row in (0, 4, len(mask) - 1):
        fewer = mask.clone()
        fewer[row] = False
        after, _ = tiny.model.completion_logps(prompts, ids, fewer)
        assert_close(after, before.masked_fill(~fewer, 0), rtol=0, atol=1e-6)
