"""Random numbers by name: what is drawn depends on the names of a stream and on nothing else.

A stream is a counter-based generator, Philox 4x64 (Salmon et al. 2011, as numpy has it), whose
128-bit key is a hash of the stream's names. Its number t is a function of key and t, so it does not
matter which process draws it, beside what others, or what was drawn before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_KEY_BYTES = 16
_WORD = 2**64 - 1


def stream_seed(*parts: object) -> int:
    """A 128-bit seed from the names of a random stream, the same on every machine."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=_KEY_BYTES).digest()
    return int.from_bytes(digest, "little")


def uniform_streams(seeds: Sequence[int], length: int) -> Tensor:
    """float64 [len(seeds), length] in [0, 1), row i from the stream of `seeds[i]`."""
    # The highest 53 bits of each number: as many as a float64 between 0 and 1 has.
    return torch.from_numpy((_words(seeds, length) >> np.uint64(11)) * 2.0**-53)


def permutation(count: int, *parts: object) -> list[int]:
    """The numbers below `count` in an order that the names of a stream fix."""
    order: list[int] = np.argsort(_words([stream_seed(*parts)], count)[0], kind="stable").tolist()
    return order


def _words(seeds: Sequence[int], length: int) -> np.ndarray:
    """uint64 [len(seeds), length]: all 128 bits of a seed are the key of its row."""
    generator = np.random.Philox(key=0)
    # A generator that is put back to its start under another key costs a fraction of a new one.
    start = generator.state
    words = np.empty((len(seeds), length), dtype=np.uint64)
    for row, seed in enumerate(seeds):
        start["state"]["key"] = np.array([seed & _WORD, seed >> 64], dtype=np.uint64)
        generator.state = start
        words[row] = generator.random_raw(length)
    return words
