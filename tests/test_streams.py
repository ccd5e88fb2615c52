"""Random streams by name: every bit of a seed counts, and a draw depends on nothing else."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

import pytest
import torch

from r1omni.streams import permutation, stream_seed, uniform_streams

SOURCE = Path(__file__).parents[1] / "src" / "r1omni"
WORD = 2**64 - 1


def philox(counter: int, key: int) -> list[int]:
    """One block of Philox 4x64, ten rounds, written from its paper (Salmon et al. 2011)."""
    x = [(counter >> (64 * i)) & WORD for i in range(4)]
    k0, k1 = key & WORD, key >> 64
    for _ in range(10):
        left, right = 0xD2E7470EE14C6C93 * x[0], 0xCA5A826395121157 * x[2]
        x = [(right >> 64) ^ x[1] ^ k0, right & WORD, (left >> 64) ^ x[3] ^ k1, left & WORD]
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & WORD, (k1 + 0xBB67AE8584CAA73B) & WORD
    return x


def test_the_formula_is_that_of_the_paper() -> None:
    # The first known answer that its authors publish with their library, Random123.
    first, *_, last = philox(0, 0)
    assert (first, last) == (0x16554D9ECA36314C, 0x7E68B68AEC7BA23B)


def test_a_draw_is_a_function_of_seed_and_place() -> None:
    seeds = [stream_seed("dfew/1", member) for member in range(3)]
    rows = uniform_streams(seeds, 11)
    for seed, row in zip(seeds, rows, strict=True):
        blocks = [philox(counter, seed) for counter in (1, 2, 3)]
        words = [word for block in blocks for word in block][:11]
        assert row.tolist() == [(word >> 11) / 2**53 for word in words]


def test_every_bit_of_a_seed_counts() -> None:
    seed = stream_seed("any")
    seeds = [seed, *(seed ^ (1 << bit) for bit in range(128))]
    rows = uniform_streams(seeds, 4)
    assert len(rows.unique()) == rows.numel()


def test_stream_seed_is_the_same_on_every_machine() -> None:
    # blake2b of "(0, 17, 'dfew/1', 3)", 16 bytes, little endian.
    assert stream_seed(0, 17, "dfew/1", 3) == 0x51CB3769F7DBABD3F0DE46C8F698B772
    digest = hashlib.blake2b(b"(0, 17, 'dfew/1', 3)", digest_size=16).digest()
    assert int.from_bytes(digest, "little") == stream_seed(0, 17, "dfew/1", 3)


def test_stream_seeds_tell_names_apart() -> None:
    names = [(), (0,), (1,), ("1",), (0, 0), (0, "a"), ("a", 0), ("a0",), ((0, 0),), (0, 1), (1, 0)]
    seeds = [stream_seed(*name) for name in names]
    assert len(set(seeds)) == len(names)
    many = [stream_seed(0, index) for index in range(1000)]
    assert all(0 <= seed < 2**128 for seed in many)
    # Each of the 128 bits is set in about half of them: none is lost on the way.
    for bit in range(128):
        assert 400 < sum(seed >> bit & 1 for seed in many) < 600


def test_uniform_streams() -> None:
    seeds = [stream_seed(row) for row in range(50)]
    rows = uniform_streams(seeds, 40)
    assert rows.shape == (50, 40) and rows.dtype == torch.float64
    assert ((rows >= 0) & (rows < 1)).all()
    assert len(rows.unique()) == rows.numel()
    assert abs(rows.mean().item() - 0.5) < 0.03  # 4.6 standard errors
    order = permutation(50, "order")
    assert torch.equal(uniform_streams([seeds[i] for i in order], 40), rows[order])
    assert torch.equal(uniform_streams(seeds[7:8], 40), rows[7:8])
    # A longer limit changes nothing of what was drawn before it.
    assert torch.equal(uniform_streams(seeds, 500)[:, :40], rows)
    torch.manual_seed(1)  # the global stream is neither used nor moved
    before = torch.rand(3)
    torch.manual_seed(1)
    uniform_streams(seeds, 40)
    assert torch.equal(torch.rand(3), before)


@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_permutations(count: int) -> None:
    orders = [permutation(count, "order", seed) for seed in (0, 0, 2**32, 2**64, -1)]
    assert all(sorted(order) == list(range(count)) for order in orders)
    assert orders[0] == orders[1]
    if count == 100:
        assert len({tuple(order) for order in orders}) == 4


def test_no_generator_of_torch_is_seeded_with_what_was_computed() -> None:
    """torch's generator on the CPU keeps 32 bits of a seed, so that mixes and hashes collide."""
    found = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in ("manual_seed", "seed_all", "seed")
        and not all(isinstance(a, ast.Constant | ast.Name | ast.Attribute) for a in node.args)
    ]
    assert found == []
    assert torch.rand(2, generator=torch.Generator().manual_seed(5)).equal(
        torch.rand(2, generator=torch.Generator().manual_seed(5 + 2**32))
    )
