"""Checks of chosen log-probabilities, entropies and their gradient; see `kernel_checks`."""

from __future__ import annotations

import torch
from kernel_checks import (
    FULL_WIDTHS,
    GRADIENT_ERROR,
    INF,
    NAN,
    WIDTHS,
    between_poison,
    check,
    close,
    close_gradient,
    random,
    some_ids,
    some_logits,
)
from oracles import chosen_and_entropy, row_gradient
from torch import Tensor


@check
def forward_of_every_width(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels import triton_selective

    for width in WIDTHS:
        for temperature in (1.0, 0.7):
            logits, ids = some_logits(5, width, dtype), some_ids(5, width)
            found = triton_selective.forward(
                between_poison(logits, device), ids.to(device), temperature, True
            )
            for actual, expected in zip(
                found, chosen_and_entropy(logits, ids, temperature), strict=True
            ):
                assert actual.dtype == torch.float32
                close(actual, expected)


@check
def full_vocabulary(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels import triton_grpo, triton_selective

    for width in FULL_WIDTHS:
        logits, ids = some_logits(1, width, dtype), torch.tensor([width - 1])
        on_device, ids_there = between_poison(logits, device), ids.to(device)
        found = triton_selective.forward(on_device, ids_there, 0.7, True)
        expected = chosen_and_entropy(logits, ids, 0.7)
        for actual, right in zip(found, expected, strict=True):
            close(actual, right, absolute=3e-5)
        ones = torch.ones(1, device=device)
        out = between_poison(torch.full_like(logits, NAN), device)
        triton_selective.backward(on_device, ids_there, *found[1:], ones, ones, 0.7, out)
        right = row_gradient(logits, ids, 0.7, torch.ones(1), torch.ones(1))
        close_gradient(out, right, with_entropy=True)
        out.fill_(NAN)
        terms, logps, _ = triton_grpo.loss_and_grad(
            on_device, ids_there, ones, ones, None, None, 0.7, 0.2, 0.2, 0.0, out
        )
        close(logps, expected[0], absolute=3e-5)
        close(terms, torch.tensor([-1.0]).double())
        close_gradient(out, row_gradient(logits, ids, 0.7, -torch.ones(1), None))


@check
def entropy_is_left_out_unless_asked(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels import triton_selective

    logits, ids = some_logits(3, 127, dtype).to(device), some_ids(3, 127).to(device)
    plain = triton_selective.forward(logits, ids, 1.0, False)
    full = triton_selective.forward(logits, ids, 1.0, True)
    assert plain[2].shape == (0,)
    close(plain[0], full[0].cpu().double())
    close(plain[1], full[1].cpu().double())


@check
def backward_with_gradients_of_any_stride(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels import triton_selective

    rows = 6
    dense = random(rows, seed=2)
    strided = random(rows, 3, seed=3)[:, 1]
    expanded = torch.tensor([0.5]).expand(rows)
    for width in WIDTHS:
        logits, ids = some_logits(rows, width, dtype), some_ids(rows, width)
        on_device, ids_there = between_poison(logits, device), ids.to(device)
        _, lse, entropy = triton_selective.forward(on_device, ids_there, 0.7, True)
        for first, second in ((dense, None), (None, strided), (expanded, dense), (strided, None)):
            out = between_poison(torch.full_like(logits, NAN), device)
            there = [
                None if grad is None else _same_layout(grad, device) for grad in (first, second)
            ]
            triton_selective.backward(on_device, ids_there, lse, entropy, *there, 0.7, out)
            right = row_gradient(logits, ids, 0.7, first, second)
            close_gradient(out, right, with_entropy=second is not None)
            # Nothing was written beside the rows.
            assert out._base is not None
            assert int(out._base.isnan().sum()) == out._base.numel() - out.numel()


def _same_layout(tensor: Tensor, device: str) -> Tensor:
    """A copy on `device` with the strides of `tensor`; `to` would make it dense."""
    if tensor.stride(0) == 0:
        return tensor[:1].to(device).expand(tensor.shape[0])
    room = torch.zeros(tensor.shape[0] * tensor.stride(0), device=device)
    view = room[:: tensor.stride(0)]
    view.copy_(tensor)
    return view


@check
def backward_in_place(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels import triton_selective

    logits, ids = some_logits(4, 2000, dtype), some_ids(4, 2000)
    grads = random(4, seed=2)
    there = logits.to(device, copy=True)
    _, lse, entropy = triton_selective.forward(there, ids.to(device), 1.0, True)
    grads_there = grads.to(device)
    triton_selective.backward(
        there, ids.to(device), lse, entropy, grads_there, grads_there, 1.0, there
    )
    close_gradient(there, row_gradient(logits, ids, 1.0, grads, grads))


@check
def tokens_ruled_out(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels import triton_selective

    width = 300
    logits, ids = some_logits(4, width, dtype), torch.tensor([5, 299, 7, 3])
    logits[0, 100:] = -INF
    logits[1, :299] = -INF  # certain
    logits[2, 7] = -INF  # the chosen one itself
    logits[3, :250] = -INF
    logits[3, 3] = 0.0
    there, ids_there = logits.to(device), ids.to(device)
    logps, lse, entropy = triton_selective.forward(there, ids_there, 0.7, True)
    expected = chosen_and_entropy(logits, ids, 0.7)
    assert logps[2] == -INF
    assert logps[1] == 0.0 and entropy[1] == 0.0
    for actual, right in zip((logps, lse, entropy), expected, strict=True):
        close(actual, right)
    grads = torch.tensor([1.0, -2.0, 0.0, 0.5])
    out = torch.full_like(there, NAN)
    grads_there = grads.to(device)
    triton_selective.backward(there, ids_there, lse, entropy, grads_there, grads_there, 0.7, out)
    finite = torch.tensor([0, 1, 3])  # row 2: 0 * -inf in the oracle
    close_gradient(
        out[finite.to(device)],
        row_gradient(logits[finite], ids[finite], 0.7, grads[finite], grads[finite]),
    )
    assert not out[2].any()


@check
def a_row_without_meaning_is_alone(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels import triton_grpo, triton_selective

    width = 1000
    logits, ids = some_logits(6, width, dtype), some_ids(6, width)
    logits[1, 999] = NAN
    logits[2, 0] = INF
    logits[3] = -INF
    there, ids_there = logits.to(device), ids.to(device)
    bad, good = torch.tensor([1, 2, 3]), torch.tensor([0, 4, 5])
    logps, lse, entropy = triton_selective.forward(there, ids_there, 1.0, True)
    for actual, right in zip(
        (logps, lse, entropy), chosen_and_entropy(logits[good], ids[good], 1.0), strict=True
    ):
        close(actual[good.to(device)], right)
    assert logps.cpu()[bad].isnan().all()
    assert entropy.cpu()[bad].isnan().all()
    out = torch.zeros_like(there)
    ones = torch.ones(6, device=device)
    triton_selective.backward(there, ids_there, lse, entropy, ones, None, 1.0, out)
    assert out.cpu()[bad].isnan().any(dim=1).all()
    right = row_gradient(logits[good], ids[good], 1.0, torch.ones(3), None)
    close_gradient(out.cpu()[good], right)
    terms, logps, _ = triton_grpo.loss_and_grad(
        there, ids_there, ones, ones, None, None, 1.0, 0.2, 0.2, 0.0, out
    )
    assert terms.cpu()[bad].isnan().all() and logps.cpu()[bad].isnan().all()
    assert out.cpu()[bad].isnan().any(dim=1).all()
    close_gradient(out.cpu()[good], -right)


@check
def tokens_that_do_not_exist(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels import triton_grpo, triton_selective

    width = 127
    logits = some_logits(5, width, dtype)
    ids = torch.tensor([-1, width, 2**40, -(2**40), 3])
    # Rows side by side: what is beyond one is a logit of another.
    there, ids_there = logits.to(device), ids.to(device)
    logps, lse, entropy = triton_selective.forward(there, ids_there, 1.0, True)
    assert logps.isnan().tolist() == [True] * 4 + [False]
    _, right_lse, right_entropy = chosen_and_entropy(logits, ids.clamp(0, width - 1), 1.0)
    close(lse, right_lse)
    close(entropy, right_entropy)
    grads = torch.ones(5, device=device)
    out = torch.full_like(there, NAN)
    triton_selective.backward(there, ids_there, lse, entropy, grads, None, 1.0, out)
    # No column is the token's: what is left is -p.
    close_gradient(out[:4], -logits[:4].double().softmax(-1))
    terms, _, _ = triton_grpo.loss_and_grad(
        there, ids_there, grads, grads, None, None, 1.0, 0.2, 0.2, 0.0, out
    )
    assert terms.isnan().tolist() == [True] * 4 + [False]
    assert out[:4].isnan().all() and not out[4].isnan().any()


@check
def gradient_of_a_token_that_is_almost_certain(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels import triton_grpo, triton_selective

    width = 500
    logits = torch.zeros(3, width)
    for row, probability in enumerate((0.9, 0.99, 0.999)):
        logits[row, 17] = torch.tensor((width - 1) * probability / (1 - probability)).log()
    logits, ids = logits.to(dtype), torch.full((3,), 17)
    there, ids_there = logits.to(device), ids.to(device)
    _, lse, entropy = triton_selective.forward(there, ids_there, 1.0, False)
    out, ones = torch.empty_like(there), torch.ones(3, device=device)
    right = row_gradient(logits, ids, 1.0, torch.ones(3), None)
    relative = max(5e-4, GRADIENT_ERROR[dtype][0])
    triton_selective.backward(there, ids_there, lse, entropy, ones, None, 1.0, out)
    close(out[:, 17], right[:, 17], relative, 0.0)
    triton_grpo.loss_and_grad(there, ids_there, ones, ones, None, None, 1.0, 0.2, 0.2, 0.0, out)
    close(out[:, 17], -right[:, 17], relative, 0.0)


@check
def a_row_without_a_gradient_is_not_read(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels import triton_selective

    logits, ids = some_logits(3, 2000, dtype), some_ids(3, 2000)
    logits[1] = NAN
    there = logits.to(device)
    _, lse, entropy = triton_selective.forward(there, ids.to(device), 1.0, True)
    grads = torch.tensor([1.0, 0.0, -1.0])
    out = torch.full_like(there, NAN)
    grads_there = grads.to(device)
    triton_selective.backward(
        there, ids.to(device), lse, entropy, grads_there, grads_there, 1.0, out
    )
    assert not out[1].any()
    logits[1] = 0.0
    close_gradient(out, row_gradient(logits, ids, 1.0, grads, grads))


@check
def no_rows(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels import triton_grpo, triton_selective

    logits = torch.empty(0, 7, dtype=dtype, device=device)
    ids = torch.empty(0, dtype=torch.long, device=device)
    none = torch.empty(0, device=device)
    assert [x.shape for x in triton_selective.forward(logits, ids, 1.0, True)] == [(0,)] * 3
    triton_selective.backward(logits, ids, none, none, none, none, 1.0, logits)
    found = triton_grpo.loss_and_grad(
        logits, ids, none, none, None, None, 1.0, 0.2, 0.2, 0.0, logits
    )
    assert [x.shape for x in found] == [(0,)] * 3
