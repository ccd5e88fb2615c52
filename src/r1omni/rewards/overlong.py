"""Soft overlong punishment (DAPO, arXiv 2503.14476, equation 13)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from r1omni.options import TOKENS, at_least, check_number
from r1omni.rewards.registry import register
from r1omni.types import UsageError

# The share in the paper: 4,096 tokens of 20,480.
_CACHE_SHARE = 5


def _check(options: Mapping[str, Any], columns: Collection[str]) -> None:
    max_length, cache_length = options.get("max_length"), options.get("cache_length")
    if max_length is None:
        if "max_new_tokens" not in columns:
            raise UsageError("option max_length is missing; set it to a number of tokens")
        if cache_length is not None:
            _check_length("cache_length", cache_length, 0)
    else:
        _lengths(max_length, cache_length)


def check_limit(options: Mapping[str, Any], max_new_tokens: int) -> None:
    """Refuse options that contradict the limit of the sampling.

    Raises:
        UsageError: naming option and limit.
    """
    max_length = options.get("max_length")
    if max_length not in (None, max_new_tokens):
        raise UsageError(
            f"option max_length of overlong is {max_length}, but completions end at max_new_tokens "
            f"{max_new_tokens}; leave it out"
        )
    _lengths(max_new_tokens, options.get("cache_length"))


@register("overlong", check=_check)
def overlong(
    completions: list[str],
    labels: list[str | None],
    *,
    completion_lengths: list[int],
    max_new_tokens: list[int] | None = None,
    max_length: int | None = None,
    cache_length: int | None = None,
    **columns: list[Any],
) -> list[float | None]:
    """0 for a completion that leaves room, falling to -1 at the length limit; never None.

    With L tokens, the limit L_max and the cache L_cache, as in DAPO (arXiv 2503.14476, eq. 13):

        0                                 L <= L_max - L_cache
        (L_max - L_cache - L) / L_cache   L_max - L_cache < L <= L_max
        -1                                L_max < L

    It never pays for being short. Where L_max is the limit of the sampling, a completion that
    was cut off has L = L_max and earns -1, like one whose end token came last of all.

    Args:
        completions: completions of the policy; only their lengths count.
        labels: ignored.
        completion_lengths: tokens of each completion, the end token included.
        max_new_tokens: for each completion the limit of the sampling; used without `max_length`.
        max_length: option; L_max in tokens.
        cache_length: option; L_cache in tokens, at most L_max, 0 for no ramp. Without it a fifth
            of L_max, rounded down: the share in the paper.
        columns: ignored.

    Raises:
        UsageError: no limit, or lengths that are no whole numbers or contradict each other.
    """
    if max_length is not None:
        limits = [max_length] * len(completions)
    elif max_new_tokens is not None:
        limits = list(max_new_tokens)
    else:
        raise UsageError("overlong needs the option max_length or the column max_new_tokens")
    return [
        _punishment(length, *_lengths(limit, cache_length))
        for length, limit in zip(completion_lengths, limits, strict=True)
    ]


def _punishment(length: int, max_length: int, cache_length: int) -> float:
    if length <= max_length - cache_length:
        return 0.0
    if length <= max_length:
        return (max_length - cache_length - length) / cache_length
    return -1.0


def _lengths(max_length: int, cache_length: int | None) -> tuple[int, int]:
    """L_max and L_cache, checked."""
    _check_length("max_length", max_length, 1)
    cache_length = max_length // _CACHE_SHARE if cache_length is None else cache_length
    _check_length("cache_length", cache_length, 0)
    if cache_length > max_length:
        raise UsageError(f"cache_length {cache_length} is above max_length {max_length}")
    return max_length, cache_length


def _check_length(name: str, value: object, least: int) -> None:
    check_number(name, value, at_least(least, TOKENS.high), int)
