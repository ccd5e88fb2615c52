"""Attention over packed rows, forward and backward: ours, with keys copied, and FlexAttention.

    python scripts/benchmark_attention.py --device cuda --out docs/benchmarks/gpu/attention.json

The sizes of one micro-batch of the release in bfloat16, 24 layers after one another, each way after
a first pass that compiles. *Host* is how long it takes to hand the work to the device: where that
is all of it, the device waits for Python. *Copied keys* are laid out once a query head, so that any
kernel takes them. On a CPU sizes are tiny and FlexAttention, which cannot train there, is left out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from script_options import ScriptParser, file_to_write  # first: it finds the package

import torch  # isort: skip
from torch import Tensor, nn

from r1omni.models.attention import PackedRows, packed_attention
from r1omni.models.flex import FlexRows

HEADS, KEY_HEADS, WIDTH, LAYERS, REPEATS = 14, 2, 64, 24, 3
# Prompts, completions a prompt, and the tokens of both.
CASES = {"cuda": ((2, 8, 969, 256), (2, 8, 969, 512)), "cpu": ((2, 2, 40, 17),)}
MIB = 2**20
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def ways(device: str, prompts: Tensor, mask: Tensor, dtype: torch.dtype) -> dict[str, Attend]:
    """Name -> attention of one layer over rows of these prompts and completions."""
    shared = HEADS // KEY_HEADS
    apart = PackedRows.of(prompts, mask, dtype, heads_per_key=1)
    together = PackedRows.of(prompts, mask, dtype, heads_per_key=shared)
    layer = nn.Identity()

    def copied(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        key, value = (t.repeat_interleave(shared, dim=1) for t in (key, value))
        return packed_attention(layer, query, key, value, apart)[0]

    found: dict[str, Attend] = {
        "ours": lambda q, k, v: packed_attention(layer, q, k, v, together)[0],
        "copied keys": copied,
    }
    if device == "cuda":
        blocks = FlexRows.of(prompts, mask, dtype)
        found["flex"] = lambda q, k, v: packed_attention(layer, q, k, v, blocks)[0]
    return found


def measure(device: str, case: tuple[int, int, int, int]) -> list[dict[str, Any]]:
    """Milliseconds and memory of every way, and how far its results are from the first's."""
    num_prompts, members, length, written = case
    on_gpu = device == "cuda"
    dtype = torch.bfloat16 if on_gpu else torch.float32
    prompts = torch.ones(num_prompts, length, dtype=torch.bool, device=device)
    mask = torch.ones(num_prompts * members, written, dtype=torch.bool, device=device)
    total = prompts.numel() + mask.numel()
    torch.manual_seed(0)
    inputs = [
        torch.randn(1, heads, total, WIDTH, device=device, dtype=dtype, requires_grad=True)
        for heads in (HEADS, KEY_HEADS, KEY_HEADS)
    ]
    upstream = torch.randn(1, total, HEADS, WIDTH, device=device, dtype=dtype)
    wanted: list[Tensor] = []
    rows = []
    for name, attend in ways(device, prompts, mask, dtype).items():

        def both(attend: Attend = attend) -> list[Tensor]:
            found = attend(*inputs)
            return [found.detach(), *torch.autograd.grad(found, inputs, upstream)]

        first, again = both(), both()
        wanted = wanted or first
        apart = max(
            float((a.float() - b.float()).abs().max()) for a, b in zip(first, wanted, strict=True)
        )
        same = all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        del first, again
        figures = [_layers(attend, inputs, upstream, on_gpu) for _ in range(REPEATS)]
        best = {key: round(min(each[key] for each in figures), 2) for key in figures[0]}
        rows.append({
            "way": name, "prompts": num_prompts, "group_size": members, "prompt_tokens": length,
            "completion_tokens": written, **best, "largest_difference": apart,
            "same_twice": same,
        })  # fmt: skip
    return rows


def _layers(
    attend: Attend, inputs: list[Tensor], upstream: Tensor, on_gpu: bool
) -> dict[str, float]:
    """Milliseconds of all layers, forward and then backward, and what they keep in between."""

    def wait() -> None:
        if on_gpu:
            torch.cuda.synchronize()

    def since(start: float) -> float:
        return 1e3 * (time.perf_counter() - start)

    wait()
    before = torch.cuda.memory_allocated() if on_gpu else 0
    start = time.perf_counter()
    found = [attend(*inputs) for _ in range(LAYERS)]
    forward_host = since(start)
    wait()
    forward = since(start)
    kept = (torch.cuda.memory_allocated() if on_gpu else 0) - before
    start = time.perf_counter()
    for each in found:
        torch.autograd.grad(each, inputs, upstream)
    backward_host = since(start)
    wait()
    return {
        "forward_ms": forward, "forward_host_ms": forward_host, "backward_ms": since(start),
        "backward_host_ms": backward_host, "kept_mib": kept / MIB,
    }  # fmt: skip


def main() -> None:
    parser = ScriptParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=tuple(CASES), default="cpu")
    parser.add_argument("--out", type=file_to_write, required=True, help="JSON file to write")
    given = parser.parse_args()
    rows = [row for case in CASES[given.device] for row in measure(given.device, case)]
    found = {"device": given.device, "layers": LAYERS, "rows": rows}
    given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"written: {given.out}")


if __name__ == "__main__":
    main()
