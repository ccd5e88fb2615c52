"""Time the row kernels in other configurations than those of their table, on a GPU.

    python scripts/tune_kernels.py --out docs/benchmarks/gpu/tuning.json

For `src/r1omni/kernels/triton_tables.py`, which is written by hand from what this prints: a search
at run time would cost seconds in every run. Prints the fastest first, and the table's own.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from script_options import ScriptParser, file_to_write

from r1omni.kernels import triton_grpo, triton_selective, triton_tables

TOKENS, WORDS = 4096, 151_936
REPEATS = 7
# Depths, warps and stages to try.
CANDIDATES = {
    "grpo": ((2, 4, 8), (8, 16, 32), (1, 2)),
    "forward": ((2, 4, 8), (4, 8, 16), (1,)),
    "backward": ((2, 4, 8), (4, 8), (1,)),
}


def calls(dtype: torch.dtype) -> dict[str, Callable[[], Any]]:
    """Each kernel on logits of the size of the goals."""
    logits = torch.empty(TOKENS, WORDS, dtype=dtype, device="cuda").normal_()
    out = torch.empty_like(logits)
    ids = torch.arange(TOKENS, device="cuda")
    ones = torch.ones(TOKENS, device="cuda")
    _, lse, _ = triton_selective.forward(logits, ids, 1.0, False)
    numbers = (1.0, 0.2, 0.2, 0.04)
    return {
        "grpo": lambda: triton_grpo.loss_and_grad(
            logits, ids, ones, ones, ones, ones, *numbers, out, True
        ),
        "forward": lambda: triton_selective.forward(logits, ids, 1.0, True),
        "backward": lambda: triton_selective.backward(logits, ids, lse, None, ones, None, 1.0, out),
    }


def milliseconds(call: Callable[[], Any]) -> float:
    """Median of some runs, after one that compiles."""
    call()
    times = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return median(times)


def main() -> None:
    parser = ScriptParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=file_to_write, required=True, help="JSON file to write")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("torch sees no GPU; `python -m r1omni doctor` says why")
    found: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "tokens": TOKENS, "words": WORDS}
    table = triton_tables._LARGE
    for kernel, call in calls(torch.bfloat16).items():
        own = table[kernel][2]
        rows = []
        for candidate in itertools.product(*CANDIDATES[kernel]):
            table[kernel][2] = candidate
            depth, warps, stages = candidate
            row = {"depth": depth, "warps": warps, "stages": stages, "is_own": candidate == own}
            try:
                rows.append({**row, "ms": round(milliseconds(call), 4)})
            except Exception as error:  # a compiler's limit is a finding, whatever it raises
                rows.append({**row, "failed": f"{type(error).__name__}: {error}"[:200]})
        table[kernel][2] = own
        rows.sort(key=lambda row: row.get("ms", float("inf")))
        found[kernel] = rows
        for row in [*rows[:3], *(row for row in rows[3:] if row["is_own"])]:
            print(kernel, row, flush=True)
        options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
