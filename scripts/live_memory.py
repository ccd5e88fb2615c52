"""How many bytes of tensors are alive, at most, while something is computed on a CPU.

Every allocation and every release of torch's is counted, inside operators too, as
`torch.cuda.max_memory_allocated` counts those of a GPU.
"""

from __future__ import annotations

import gc
from typing import Any

from torch.autograd.profiler import profile


class LiveMemory:
    """Bytes that were taken within the block and not given back yet, at their highest.

    What was there before the block does not count, and neither does its release within it. Time is
    not measured: everything is slower.
    """

    def __init__(self) -> None:
        self._profile = profile(profile_memory=True, use_kineto=True)
        self.peak = 0
        self.left = 0

    def __enter__(self) -> LiveMemory:
        gc.collect()  # what an earlier block left, and is freed in this one, would be subtracted
        self._profile.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._profile.__exit__(*error)
        results = self._profile.kineto_results
        assert results is not None
        moves = [event for event in results.events() if event.name() == "[memory]"]
        held = 0
        for event in sorted(moves, key=lambda event: event.start_ns()):
            held += event.nbytes()
            self.peak = max(self.peak, held)
        self.left = held
