"""Checks of the small steps of decoding against their definitions; see `kernel_checks`."""

from __future__ import annotations

import torch
from kernel_checks import INF, NAN, check, random
from torch import Tensor
from torch.testing import assert_close

from r1omni import kernels
from r1omni.kernels import decoding

# B, Hkv, G, R, d, P, L: the released model's heads with one group and with several; odd sizes; one
# row alone; more queries of a group than one program takes.
SHAPES = (
    (1, 2, 8, 7, 64, 200, 70),
    (3, 1, 2, 3, 24, 65, 3),
    (2, 2, 1, 1, 16, 1, 1),
    (1, 1, 20, 4, 32, 130, 64),
)


def tolerance(dtype: torch.dtype) -> float:
    return 2e-5 if dtype == torch.float32 else 2e-2


def same(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert_close(
        found.cpu().float(), expected.float(), rtol=tolerance(dtype), atol=tolerance(dtype)
    )


@check
def attention_over_prompt_and_own_keys(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels import triton_decoding

    for batch, kv_heads, members, repeats, width, length, columns in SHAPES:
        query = random(batch, kv_heads, members, repeats, width) / width**0.5
        prompt = random(2, batch, kv_heads, length, width, seed=1)
        own = random(2, batch, kv_heads, members, columns + 5, width, seed=2)
        own[..., columns:, :] = NAN  # beyond what is looked at
        bias = torch.zeros(batch, length + columns)
        bias[:, : length // 3] = float("-inf")  # padding on the left, whole tiles of it
        bias[:, length + columns - columns // 2 :] = float("-inf")  # not written yet
        given = [t.to(device, dtype) for t in (query, prompt, own[..., :columns, :], bias)]
        given[2] = own.to(device, dtype)[..., :columns, :]
        exact = [t.double().cpu() for t in given]
        q, (k, v), (own_k, own_v), shift = exact[0], exact[1], exact[2], exact[3]
        scores = torch.cat(
            [
                torch.einsum("bhgrd,bhpd->bhgrp", q, k),
                torch.einsum("bhgrd,bhgld->bhgrl", q, own_k),
            ],
            dim=-1,
        )
        shares = (scores + shift[:, None, None, None]).softmax(dim=-1)
        expected = torch.einsum("bhgrp,bhpd->bghrd", shares[..., :length], v)
        expected += torch.einsum("bhgrl,bhgld->bghrd", shares[..., length:], own_v)
        expected = expected.reshape(batch * members, -1)
        same(triton_decoding.attend(*given), expected, dtype)
        with kernels.use("torch"):
            same(decoding.attend(*given), expected, dtype)


@check
def rotation_writes_keys_and_values_in_place(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels import triton_decoding

    for batch, kv_heads, members, repeats, width, _, columns in SHAPES:
        rows, heads = batch * members, kv_heads * repeats
        fused = random(rows, (heads + 2 * kv_heads) * width).to(device, dtype)
        angles = random(rows, width // 2, seed=1)
        cosines, sines = angles.cos()[:, None], angles.sin()[:, None]
        x = fused.cpu().double().view(rows, -1, width)
        even, odd = x[..., ::2], x[..., 1::2]
        turned = torch.stack([even * cosines - odd * sines, odd * cosines + even * sines], dim=-1)
        turned = turned.flatten(-2)
        column = torch.tensor([columns // 2], device=device)
        turns = torch.polar(torch.ones_like(angles), angles).to(device)

        def in_grid(part: Tensor) -> Tensor:
            return part.unflatten(0, (batch, members)).transpose(1, 2)  # noqa: B023

        expected = turned[:, :heads].view(batch, members, kv_heads, repeats, width).transpose(1, 2)
        for rotate in (triton_decoding.rotate, decoding.rotate_and_keep):
            own = torch.full((2, batch, kv_heads, members, columns, width), 7.0)
            own = own.to(device, dtype)
            with kernels.use("torch"):  # says nothing to the first of them
                query = rotate(fused.clone(), turns, own, column, heads)
            assert query.is_contiguous()
            same(query, expected, dtype)
            written = own[..., columns // 2, :]
            same(written[0], in_grid(turned[:, heads : heads + kv_heads]), dtype)
            same(written[1], in_grid(x[:, heads + kv_heads :]), dtype)
            untouched = torch.arange(columns) != columns // 2
            assert (own[..., untouched.to(device), :] == 7).all()


@check
def norms_and_gates(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels import triton_decoding

    for rows, width in ((3, 96), (8, 896), (1, 1)):
        weight = random(width, seed=3)
        for delta in (random(rows, width, seed=4), None):
            start = random(rows, width)
            whole = start.double() if delta is None else start.double() + delta.to(dtype)
            scale = (whole.square().mean(dim=-1, keepdim=True) + 1e-6).rsqrt()
            for norm in (triton_decoding.norm, decoding.add_and_norm):
                hidden = start.clone().to(device)  # the residual stream stays in float32
                added = None if delta is None else delta.to(device, dtype)
                with kernels.use("torch"):
                    found = norm(hidden, added, weight.to(device), 1e-6, dtype)
                assert found.dtype == dtype
                same(found, whole * scale * weight, dtype)
                same(hidden, whole, torch.float32)
        fused = random(rows, 2 * width, seed=5).to(device, dtype)
        gate, up = fused.cpu().double().chunk(2, dim=-1)
        for gated in (triton_decoding.gated, decoding.gated):
            with kernels.use("torch"):
                same(gated(fused), gate * gate.sigmoid() * up, dtype)


@check
def choice_by_a_uniform_number(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels import triton_choice

    for rows, width, temperature in ((40, 1000, 1.0), (12, 9000, 0.7), (3, 1, 1.0)):
        logits = (4 * random(rows, width)).to(dtype)
        logits[1::3, width // 2 :] = -INF if width > 1 else 0  # tokens that cannot be
        # One number a row of a table of one a token, as sampling has them.
        uniform = torch.rand(
            rows, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(width)
        )[:, 1]
        uniform[:3] = torch.tensor([0.0, 1 - 2**-53, 2**-53])
        there = torch.zeros(rows, 5, dtype=torch.float64, device=device)
        there[:, 1] = uniform
        given = logits.to(device), temperature, there[:, 1]
        ids, logps = (found.cpu() for found in triton_choice.choose(*given))
        exact = (logits.double() / temperature).log_softmax(dim=-1)
        sums = exact.exp().cumsum(dim=-1)
        after = sums.gather(1, ids[:, None]).squeeze(1)
        chosen = exact.gather(1, ids[:, None]).squeeze(1)
        # The token that the number falls on, but for the roundoff of sums in float32.
        slack = 1e-5
        assert (after >= uniform - slack).all()
        assert (after - chosen.exp() <= uniform + slack).all()
        assert chosen.isfinite().all()
        assert_close(logps, chosen.float(), rtol=1e-5, atol=2e-5)
        exactly = torch.searchsorted(sums, uniform[:, None], right=True).squeeze(1)
        assert (ids == exactly)[3:].float().mean() > 0.9 or width == 1
