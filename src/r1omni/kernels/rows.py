"""Rows of logits by torch alone, chunk by chunk: what runs where Triton does not.

`log_softmax` over T tokens holds another [T, V] tensor in float32, and autograd keeps it. Here a
chunk of rows is in float32 at a time, and one number a row is kept.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from r1omni.kernels.dispatch import ArgumentError
from r1omni.kernels.reference import grpo_slopes, grpo_terms

# Elements of a chunk: 4 MiB in float32, so that what a step writes the next finds in the cache.
CHUNK_ELEMENTS = 2**20
# The logarithm of a share that adds nothing to an entropy: its exponential is 0 in float32, and
# 200 times it in float64 nothing beside 1.
_NO_SHARE = -200.0


def working_dtype(tensor: Tensor) -> torch.dtype:
    """float64 for float64, else float32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def chunks(num_rows: int, num_columns: int) -> Iterator[slice]:
    """Slices of rows that bound the memory of one step."""
    step = max(1, CHUNK_ELEMENTS // max(1, num_columns))
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))


def check_ids(token_ids: Tensor, num_columns: int) -> None:
    """Refuse a token that does not exist.

    Raises:
        ValueError: naming the smallest or the largest id.
    """
    if token_ids.numel() == 0:
        return
    low, high = (int(bound) for bound in token_ids.aminmax())
    if low < 0 or high >= num_columns:
        wrong = low if low < 0 else high
        raise ArgumentError(f"token id {wrong} is outside the vocabulary of {num_columns}")


def forward(
    logits: Tensor, token_ids: Tensor, temperature: float, with_entropy: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities, log-sum-exps and entropies of rows [T, V]; see `triton_selective`."""
    check_ids(token_ids, logits.shape[1])
    logps = logits.new_empty(logits.shape[0], dtype=working_dtype(logits))
    lses = torch.empty_like(logps)
    entropies = torch.empty_like(logps) if with_entropy else logps.new_empty(0)
    for part in chunks(*logits.shape):
        read = logits[part]
        scaled = _scaled(read, temperature, logps.dtype)
        chosen = scaled.gather(1, token_ids[part, None]).squeeze(1)
        lses[part] = scaled.logsumexp(dim=1)
        logps[part] = chosen - lses[part]
        if with_entropy:
            own = None if scaled is read else scaled
            log_shares = torch.sub(scaled, lses[part, None], out=own)
            shares = log_shares.exp()
            # Finite, so that a token ruled out adds nothing instead of 0 * -inf. `entr` does so
            # too, by a logarithm of its own that takes twice as long as everything else here.
            entropies[part] = -shares.mul_(log_shares.clamp_(min=_NO_SHARE)).sum(dim=1)
    return logps, lses, entropies


def _scaled(rows: Tensor, temperature: float, dtype: torch.dtype) -> Tensor:
    """rows / temperature in `dtype`; the rows themselves where nothing changes."""
    found = rows.to(dtype)
    return found if temperature == 1 else found / temperature


def backward(
    logits: Tensor,
    token_ids: Tensor,
    lses: Tensor,
    entropies: Tensor | None,
    grad_logps: Tensor | None,
    grad_entropies: Tensor | None,
    temperature: float,
    out: Tensor,
) -> None:
    """Write the gradient of `forward` to `out` [T, V], which may be `logits` itself.

    A row whose incoming gradients are 0 gets 0, whatever stands in it.
    """
    in_place = out.dtype == lses.dtype
    for part in chunks(*logits.shape):
        read = logits[part]
        scaled = _scaled(read, temperature, lses.dtype)
        own = None if scaled is read else scaled
        logp = torch.sub(scaled, lses[part, None], out=out[part] if in_place else own)
        slope = torch.zeros_like(lses[part]) if grad_logps is None else grad_logps[part]
        silent = (slope == 0)[:, None]
        slope = (slope.to(logp.dtype) / temperature)[:, None]
        if grad_entropies is None:
            gradient = logp.exp_().mul_(-slope)
        else:
            assert entropies is not None
            silent &= (grad_entropies[part] == 0)[:, None]
            of_entropy = (grad_entropies[part].to(logp.dtype) / temperature)[:, None]
            shares = logp.exp()
            # A token ruled out has no share, and its 0 * -inf is 0.
            moment = logp.add_(entropies[part, None]).masked_fill_(shares == 0, 0.0)
            gradient = moment.mul_(of_entropy).add_(slope).mul_(shares).neg_()
        gradient.scatter_add_(1, token_ids[part, None], slope)
        gradient[silent.squeeze(1)] = 0.0
        if not in_place:
            out[part] = gradient


def loss_and_grad(
    logits: Tensor,
    token_ids: Tensor,
    advantages: Tensor,
    weights: Tensor,
    old_logps: Tensor | None,
    ref_logps: Tensor | None,
    temperature: float,
    epsilon: float,
    epsilon_high: float,
    beta: float,
    out: Tensor | None,
    with_entropy: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted terms, log-probabilities and entropies [T], the gradient of the terms' sum in `out`.

    Rows of weight 0 are not read. `out` [T, V] may be `logits` itself, or None. Entropies are [0]
    if not wanted.
    """
    dtype = working_dtype(logits)
    terms = torch.zeros(logits.shape[0], dtype=dtype, device=logits.device)
    logps = torch.zeros_like(terms)
    entropies = torch.zeros_like(terms) if with_entropy else terms.new_empty(0)
    kept = torch.nonzero(weights != 0).flatten()
    check_ids(token_ids[kept], logits.shape[1])
    if out is not None and len(kept) < len(weights):
        out[weights == 0] = 0.0
    for part in chunks(len(kept), logits.shape[1]):
        rows = kept[part]
        chosen_ids = token_ids[rows]
        read = logits[rows]
        logp, lse, entropy = forward(read, chosen_ids, temperature, with_entropy)
        old, ref = (None if t is None else t[rows].to(dtype) for t in (old_logps, ref_logps))
        tokens = (logp, advantages[rows].to(dtype), weights[rows].to(dtype), old, ref)
        terms[rows] = grpo_terms(*tokens, epsilon, epsilon_high, beta)
        logps[rows] = logp
        if with_entropy:
            entropies[rows] = entropy
        if out is not None:
            slope = grpo_slopes(*tokens, epsilon, epsilon_high, beta)
            gradient = torch.empty_like(read)
            backward(read, chosen_ids, lse, None, slope, None, temperature, gradient)
            out[rows] = gradient.to(out.dtype)
    return terms, logps, entropies
