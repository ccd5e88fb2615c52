"""Configurations of the kernels, in tables instead of searches at run time.

A search needs a device, costs seconds in the first step of a run, and may choose differently on
two machines. A tile of a row is [depth, lanes]: a warp reads `lanes` side by side, 16 bytes a
thread, and each thread keeps `depth` of these loads under way. Deeper tiles hide more latency and
need more registers; more lanes finish a row sooner, so that fewer rows are open at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

# Threads of a warp, and bytes of the widest load of a thread.
_WARP = 32
_LOAD_BYTES = 16


@dataclass(frozen=True)
class RowConfig:
    """How a program works through a row.

    Attributes:
        lanes: elements side by side in a tile; a power of two.
        depth: of a tile, in elements of one lane; a power of two.
        num_warps: of a program.
        num_stages: tiles loaded ahead into shared memory; 1 loads straight into registers.
    """

    lanes: int
    depth: int
    num_warps: int
    num_stages: int = 1

    @property
    def tile(self) -> int:
        """Elements of a tile."""
        return self.lanes * self.depth


# kernel -> bytes of an element -> (depth, warps, stages) for rows of many tiles. Those of 2 bytes
# are the fastest of scripts/tune_kernels.py on an H100 in bfloat16 (docs/benchmarks/gpu/
# tuning.json); those of 4 are chosen by what the compiler makes of them for sm_90.
_LARGE: dict[str, dict[int, tuple[int, int, int]]] = {
    # Reads only. A lane's own maximum costs one exponential for every `depth` elements.
    "forward": {2: (8, 8, 1), 4: (4, 8, 1)},
    # One tile a program, each element on its own.
    "backward": {2: (4, 4, 1), 4: (4, 8, 1)},
    # Each row is read twice, and only few open rows stay in the L2 cache (50 MB; 304 KB a row of
    # bfloat16): large programs.
    "grpo": {2: (8, 16, 1), 4: (8, 16, 1)},
}


def row_config(kernel: str, dtype: torch.dtype, num_columns: int) -> RowConfig:
    """The configuration of `kernel` for rows of `num_columns` elements of `dtype`.

    Args:
        kernel: "forward", "backward" or "grpo".
        dtype: of the logits: float32, bfloat16 or float16.
        num_columns: V.
    """
    vector = _LOAD_BYTES // dtype.itemsize
    depth, num_warps, num_stages = _LARGE[kernel][dtype.itemsize]
    # A short row needs no more threads than elements.
    while num_warps > 1 and _WARP * vector * num_warps >= 2 * num_columns:
        num_warps //= 2
    lanes = _WARP * vector * num_warps
    while depth > 1 and lanes * depth >= 2 * num_columns:
        depth //= 2
    return RowConfig(lanes, depth, num_warps, num_stages)


@dataclass(frozen=True)
class LinearConfig:
    """How a program multiplies hidden states with head weights.

    Attributes:
        tokens: of a tile of logits.
        words: of a tile of logits.
        depth: elements of D multiplied at once.
        section: words of a program, a multiple of `words`.
        num_warps: of a program.
        num_stages: pieces of both factors loaded ahead into shared memory.
    """

    tokens: int
    words: int
    depth: int
    section: int
    num_warps: int
    num_stages: int


# bytes of an element -> configuration. Two programs share a multiprocessor, so that one
# multiplies while the other takes exponentials. In float32 there is no use of tensor cores.
_LINEAR = {
    2: LinearConfig(tokens=128, words=128, depth=64, section=2048, num_warps=4, num_stages=3),
    4: LinearConfig(tokens=32, words=64, depth=16, section=2048, num_warps=4, num_stages=3),
}


def linear_config(dtype: torch.dtype, num_words: int) -> LinearConfig:
    """The configuration for hidden states of `dtype` and a vocabulary of `num_words`."""
    config = _LINEAR[dtype.itemsize]
    tiles = -(-num_words // config.words)
    return replace(config, section=min(config.section, tiles * config.words))
