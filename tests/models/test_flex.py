"""FlexAttention over packed rows against the attention that goes over them piece by piece.

On a CPU torch computes it as it is defined, all scores at once; which blocks a GPU would skip is
held to what torch finds itself.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from short_prompts import embed, prompts_of
from test_packed import completions
from torch import Tensor, nn
from torch.nn.attention import flex_attention as torch_flex
from torch.testing import assert_close

from r1omni.models import R1Omni, flex
from r1omni.models.activations import checkpoint_activations
from r1omni.models.adapters import LoRAConfig
from r1omni.models.attention import PackedRows, packed_attention
from r1omni.models.flex import FlexRows, check_flex
from r1omni.models.omni import OmniModel
from r1omni.training.optimization import choose_trained
from r1omni.types import UsageError


@pytest.fixture
def with_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch refuses gradients of FlexAttention on a CPU, where they are right but slow."""
    monkeypatch.setattr(torch_flex, "_validate_device", lambda *_: None)
    torch._dynamo.reset()  # each length of a row is traced; torch stops after some


# Prompts of several lengths; completions of unequal lengths, one without a token.
PROMPTS = torch.arange(9) < torch.tensor([9, 4, 7])[:, None]
MASK = torch.arange(6) < torch.tensor([6, 1, 3, 0, 2, 6])[:, None]
TOTAL = int(PROMPTS.sum() + MASK.sum())


def visible(prompts: Tensor, mask: Tensor) -> Tensor:
    """Which token sees which, bool [T, T], from whose they are."""
    group_size = len(mask) // len(prompts)
    own, rows = (torch.nonzero(m)[:, 0] for m in (prompts, mask))
    owner = torch.cat([own, rows // group_size])
    member = torch.cat([torch.zeros_like(own), rows + 1])
    same = (member[None] == member[:, None]) | (member[None] == 0)
    total = len(owner)
    return same & (owner[None] == owner[:, None]) & torch.ones(total, total).tril().bool()


def attended(rows: Any, tensors: list[Tensor], upstream: Tensor) -> list[Tensor]:
    """What attention gives, and its gradients."""
    found, _ = packed_attention(nn.Identity(), *tensors, rows, scaling=0.3)
    return [found, *torch.autograd.grad(found, tensors, upstream)]


def heads_of(dtype: torch.dtype, total: int = TOTAL) -> tuple[list[Tensor], Tensor]:
    """Queries of 4 heads, keys and values of 2, and a gradient."""
    torch.manual_seed(0)
    tensors = [torch.randn(1, n, total, 16, dtype=dtype).requires_grad_() for n in (4, 2, 2)]
    return tensors, torch.randn(1, total, 4, 16, dtype=dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_it_attends_as_piece_by_piece(
    with_gradients: None, dtype: torch.dtype, tolerance: float
) -> None:
    tensors, upstream = heads_of(dtype)
    wanted = attended(PackedRows.of(PROMPTS, MASK, dtype, 2), tensors, upstream)
    found = attended(FlexRows.of(PROMPTS, MASK, dtype), tensors, upstream)
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("block", [128, 16])
def test_blocks_are_those_that_torch_finds(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex, "_SIDE", block)
    prompts = torch.arange(300) < torch.tensor([300, 40, 131])[:, None]
    mask = torch.arange(70) < torch.tensor([70, 3, 0, 64, 70, 1])[:, None]
    square = visible(prompts, mask)
    wanted = torch_flex.create_block_mask(
        lambda b, h, query, key: square[query, key], None, None, *square.shape,
        device="cpu", BLOCK_SIZE=block,
    )  # fmt: skip
    found = FlexRows.of(prompts, mask, torch.float32).blocks
    assert found.shape == wanted.shape and found.BLOCK_SIZE == wanted.BLOCK_SIZE
    for name in ("kv", "full_kv", "q", "full_q"):
        counts, order = (getattr(wanted, f"{name}_{what}") for what in ("num_blocks", "indices"))
        assert torch.equal(getattr(found, f"{name}_num_blocks"), counts), name
        own = getattr(found, f"{name}_indices")
        for row, count in enumerate(counts.flatten().tolist()):
            assert torch.equal(own[0, 0, row, :count], order[0, 0, row, :count]), (name, row)
    assert found.full_kv_num_blocks.sum() > 0
    index = torch.arange(len(square))
    assert torch.equal(found.mask_mod(None, None, index[:, None], index[None]), square)


def learned(omni: R1Omni, model: OmniModel) -> tuple[Tensor, list[Tensor]]:
    """Log-probabilities of completions, and gradients of what is trained."""
    inputs = prompts_of(omni)
    ids, mask = completions(len(inputs) * 3)
    weights = torch.randn(ids.shape, generator=torch.Generator().manual_seed(2))
    logps, _ = model.completion_logps(model.embed_prompts(inputs), ids, mask)
    trained = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad((logps * weights).sum(), trained, allow_unused=True)
    return logps, [gradient for gradient in found if gradient is not None]


@pytest.mark.parametrize("way", ["plain", "checkpointing", "adapters", "compiled layers"])
def test_a_model_learns_the_same(
    tiny: R1Omni, with_gradients: None, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    model = copy.deepcopy(tiny.model)
    if way == "adapters":
        choose_trained(model, [], LoRAConfig(rank=2, alpha=4))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.1)
    wanted, gradients = learned(tiny, model)
    made: list[FlexRows] = []
    of = FlexRows.of
    monkeypatch.setattr(FlexRows, "of", lambda *given: made.append(of(*given)) or made[-1])
    model.attention = "flex"
    if way == "checkpointing":
        checkpoint_activations(model)
    if way == "compiled layers":
        for layer in model.language_model.layers:
            layer.compile(backend="aot_eager")
    found, own = learned(tiny, model)
    assert len(made) == 1 < len(model.language_model.layers)  # once for all of them
    assert_close(found, wanted, rtol=0, atol=1e-5)
    assert len(own) == len(gradients) > 4
    for one, other in zip(own, gradients, strict=True):
        assert_close(one, other, rtol=0, atol=1e-4 * float(other.abs().max()) + 1e-9)


@torch.no_grad()
def test_it_computes_in_the_dtype_of_autocast(tiny: R1Omni, monkeypatch: Any) -> None:
    prompts = embed(tiny, prompts_of(tiny))
    ids, mask = completions(len(prompts) * 3)
    with torch.autocast("cpu", torch.bfloat16):
        wanted, _ = tiny.model.completion_logps(prompts, ids, mask)
        monkeypatch.setattr(tiny.model, "attention", "flex")
        found, _ = tiny.model.completion_logps(prompts, ids, mask)
    assert_close(found, wanted, rtol=0, atol=5e-2)


def test_what_it_cannot_do_is_refused() -> None:
    check_flex(torch.device("cuda"), 16)
    with pytest.raises(UsageError, match=r"attention flex .* CUDA device, not cpu.*sdpa$"):
        check_flex(torch.device("cpu"), 64)
    with pytest.raises(UsageError, match=r"at least 16 numbers, .* have 8; set it to sdpa$"):
        check_flex(torch.device("cuda"), 8)


@pytest.mark.gpu
@pytest.mark.parametrize("attention", ["sdpa", "flex"])
def test_a_gpu_attends_as_a_cpu(attention: str) -> None:
    """Compiled, over blocks that are skipped; rows of several lengths, compiled for any."""

    def rows_of(prompts: Tensor, mask: Tensor) -> FlexRows | PackedRows:
        if attention == "flex":
            return FlexRows.of(prompts, mask, torch.float32)
        return PackedRows.of(prompts, mask, torch.float32, 2)

    for prompt, written in ((300, 70), (431, 131), (64, 5)):
        prompts = torch.arange(prompt) < torch.tensor([prompt, prompt // 3, prompt - 1])[:, None]
        mask = torch.arange(written) < torch.tensor([written, 1, 3, 0, 2, written])[:, None]
        tensors, upstream = heads_of(torch.float32, int(prompts.sum() + mask.sum()))
        wanted = attended(PackedRows.of(prompts, mask, torch.float32, 2), tensors, upstream)
        there = [tensor.detach().cuda().requires_grad_() for tensor in tensors]
        rows = rows_of(prompts.cuda(), mask.cuda())
        found = attended(rows, there, upstream.cuda())
        for one, other in zip(found, wanted, strict=True):
            # Products of float32 may be rounded to TF32 in FlexAttention's kernel.
            assert_close(one.cpu(), other, rtol=0, atol=2e-2 if attention == "flex" else 1e-4)
        if attention == "flex":  # the kernel that takes a bias adds gradients up in any order
            again = attended(rows, there, upstream.cuda())
            assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))
