"""Run every check in Triton's interpreter and print what failed, as JSON.

A program of its own: TRITON_INTERPRET must be set before the kernels are imported, and once
they are, they cannot be compiled in the same process any more. Logits are float32: the
interpreter's bfloat16 is not that of a device.
"""

from __future__ import annotations

import json
import time
import traceback

import torch
from all_checks import CHECKS


def main() -> None:
    torch.set_num_threads(1)
    results = {}
    for name, run in CHECKS.items():
        start = time.perf_counter()
        try:
            run("cpu", torch.float32)
            failure = ""
        except Exception:
            failure = traceback.format_exc()
        results[name] = {"failure": failure, "seconds": time.perf_counter() - start}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
