"""Checks of log-probabilities straight from hidden states, after the manner of `kernel_checks`."""

from __future__ import annotations

import torch
from kernel_checks import NAN, between_poison, check, close, random, some_ids
from oracles import chosen_and_entropy
from torch import Tensor


def _factors(
    tokens: int, words: int, depth: int, dtype: torch.dtype, offset: float = -100.0
) -> tuple[Tensor, Tensor]:
    """Hidden states and head weights whose logits lie around `offset`, far from 0."""
    hidden = random(tokens, depth, seed=1)
    weight = random(words, depth, seed=2, scale=2 * depth**-0.5)
    hidden[:, 0], weight[:, 0] = 1.0, offset
    return hidden.to(dtype), weight.to(dtype)


@check
def linear_of_every_shape(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels.experimental import triton_linear

    # Tiles and sections cut short in every direction; three sections in the last.
    for tokens, words, depth in ((1, 1, 1), (5, 127, 48), (40, 300, 100), (3, 4500, 20)):
        hidden, weight = _factors(tokens, words, depth, dtype)
        ids = some_ids(tokens, words)
        logits = hidden.double() @ weight.double().T
        for temperature in (1.0, 0.7):
            found = triton_linear.forward(
                between_poison(hidden, device),
                between_poison(weight, device),
                ids.to(device),
                temperature,
            )
            assert found.dtype == torch.float32
            close(found, chosen_and_entropy(logits, ids, temperature)[0], absolute=1e-4)


@check
def linear_with_tokens_that_do_not_exist(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels.experimental import triton_linear

    hidden, weight = _factors(5, 2100, 16, dtype)
    ids = torch.tensor([-1, 2100, 2**40, 2**32 + 3, 2099])
    found = triton_linear.forward(hidden.to(device), weight.to(device), ids.to(device), 1.0)
    assert found.isnan().tolist() == [True] * 4 + [False]
    logits = hidden.double() @ weight.double().T
    close(found[4:], chosen_and_entropy(logits[4:], ids[4:], 1.0)[0], absolute=1e-4)


@check
def linear_of_a_row_without_meaning(device: str, dtype: torch.dtype) -> None:
    from r1omni.kernels.experimental import triton_linear

    hidden, weight = _factors(4, 200, 16, dtype)
    ids = some_ids(4, 200)
    right = chosen_and_entropy(hidden.double() @ weight.double().T, ids, 1.0)[0]
    hidden[2] = right[2] = NAN
    for _ in range(2):
        found = triton_linear.forward(hidden.to(device), weight.to(device), ids.to(device), 1.0)
        close(found, right, absolute=1e-4)
    none = hidden[:0].to(device)
    assert triton_linear.forward(none, weight.to(device), ids[:0].to(device), 1.0).shape == (0,)
