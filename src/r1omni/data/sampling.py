"""A part of a data set's samples, by the words of the option `sampling`."""

from __future__ import annotations

import math
import random
import re

from r1omni.types import Sample, UsageError

_SAMPLING = re.compile(r"(?:(first|end|random):)?(\d+(?:\.\d+)?)(%?)")


def select(samples: list[Sample], sampling: str, seed: int) -> list[Sample]:
    """A part of the samples, in their order: all, first:N, end:N, random:N, N, or N% for N.

    More than there are gives all of them; a percentage is rounded up. `not` before a strategy
    selects the samples that it leaves.

    Raises:
        UsageError: an unknown strategy, or one that selects nothing.
    """
    if sampling == "all":
        return samples
    if sampling.startswith("not "):
        taken = {sample.sample_id for sample in select(samples, sampling[4:].strip(), seed)}
        left = [sample for sample in samples if sample.sample_id not in taken]
        if not left:
            raise UsageError(f"sampling {sampling!r} selects nothing")
        return left
    match = _SAMPLING.fullmatch(sampling.replace(" ", ""))
    if match is None or (not match[3] and "." in match[2]):
        raise UsageError(
            f"sampling {sampling!r} is unknown; use all, first:N, end:N, random:N, N or N%, "
            "or one of these after `not`"
        )
    number = float(match[2])
    count = math.ceil(len(samples) * number / 100) if match[3] else int(number)
    count = min(count, len(samples))
    if count == 0:
        raise UsageError(f"sampling {sampling!r} selects nothing")
    if match[1] == "first":
        return samples[:count]
    if match[1] == "end":
        return samples[-count:]
    chosen = random.Random(seed).sample(range(len(samples)), count)
    return [samples[index] for index in sorted(chosen)]
