"""Next tokens from logits, by inverting the distribution function at one uniform number a row.

The sum over the vocabulary has two levels: a token's block is found among the sums of all blocks,
then the token in its block. Only sums of blocks are float64; with a vocabulary of 150,000 a sum in
float32 would lose the rare tokens. A cumulative sum over a whole row would be slow on a GPU, which
has few rows to spread it over.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from r1omni.kernels.dispatch import uses_triton

# Tokens of a block; about the square root of the vocabularies in use, and a divisor of most.
_BLOCK = 128
# So few tokens are summed up one by one, in float64, where no GPU is: calls take longer there.
_FEW = 512
# The largest float64 below 1: a positive number times it is smaller than the number.
_JUST_BELOW_1 = 1 - 2**-53


def choose(logits: Tensor, temperature: float, uniform: Tensor | None) -> tuple[Tensor, Tensor]:
    """Next tokens and their log-probabilities.

    Args:
        logits: float [n, V], any dtype; probabilities are float32.
        temperature: divides the logits; 0 takes the most probable token.
        uniform: float64 [n] in [0, 1); None where the temperature is 0.

    Returns:
        long [n], and float32 [n] at the temperature, or at 1 where that is 0.
    """
    if uniform is None:
        tokens = logits.argmax(dim=-1)
        return tokens, _log_probability(logits.softmax(dim=-1, dtype=torch.float32), tokens)
    if logits.is_cuda and uses_triton(logits):
        from r1omni.kernels import triton_choice

        return triton_choice.choose(logits, temperature, uniform)
    if temperature != 1:
        logits = logits.float() / temperature
    probabilities = logits.softmax(dim=-1, dtype=torch.float32)
    tokens = invert(probabilities, uniform)
    return tokens, _log_probability(probabilities, tokens)


def invert(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """The first token at which the cumulative probability exceeds `uniform`, long [n].

    Args:
        probabilities: float32 [n, V]; they need not add up to exactly 1.
        uniform: float64 [n] in [0, 1), a share of their sum.
    """
    num_tokens = probabilities.shape[1]
    if num_tokens <= _FEW and not probabilities.is_cuda:
        sums = probabilities.cumsum(dim=-1, dtype=torch.float64)
        token = torch.searchsorted(sums, uniform[:, None] * sums[:, -1:], right=True)
        return token.squeeze(1).clamp_(max=num_tokens - 1)
    blocks = (
        F.pad(probabilities, (0, -num_tokens % _BLOCK)) if num_tokens % _BLOCK else probabilities
    )
    blocks = blocks.unflatten(1, (-1, _BLOCK))  # [n, V / block, block]
    sums = blocks.sum(dim=-1, dtype=torch.float64).cumsum(dim=-1)
    threshold = uniform[:, None] * sums[:, -1:]
    block = torch.searchsorted(sums, threshold, right=True).clamp_(max=sums.shape[1] - 1)  # [n, 1]
    below = sums.gather(1, (block - 1).clamp_(min=0)).masked_fill_(block == 0, 0.0)
    inside = blocks.gather(1, block[:, :, None].expand(-1, -1, _BLOCK)).squeeze(1)
    cumulative = inside.cumsum(dim=-1, dtype=torch.float64)
    # Roundoff may carry the number past the block's own sum, where only ruled-out tokens are left.
    within = torch.minimum(threshold - below, cumulative[:, -1:] * _JUST_BELOW_1)
    token = torch.searchsorted(cumulative, within, right=True) + block * _BLOCK
    return token.squeeze(1).clamp_(max=num_tokens - 1)


def _log_probability(probabilities: Tensor, tokens: Tensor) -> Tensor:
    return probabilities.gather(1, tokens[:, None]).squeeze(1).log()
