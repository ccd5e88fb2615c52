"""Which clips are described where only some are asked for."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Sequence

from r1omni.streams import permutation
from r1omni.types import Sample, UsageError

# (clips taken of the speaker's class, of the class, of the speaker, place in a drawn order)
_Key = tuple[int, int, int, int]


def count_of(num_samples: int, count: int | None, share: float | None) -> int:
    """How many clips are asked for; more than there are means all of them.

    Args:
        num_samples: how many there are.
        count: so many, or None.
        share: this share of them, rounded up; None for no share.

    Raises:
        UsageError: both are given.
    """
    if count is not None and share is not None:
        raise UsageError("--count and --share both say how many clips; give one of them")
    if share is not None:
        count = math.ceil(num_samples * share)
    return num_samples if count is None else min(count, num_samples)


def choose(samples: Sequence[Sample], count: int, seed: int) -> list[Sample]:
    """`count` of the samples, spread evenly over classes, and within these over speakers.

    Always the next one is of the pair of speaker and class of which fewest are taken, then of the
    class, then of the speaker with fewest; the seed decides between equals. A class or speaker
    that has no more clips leaves its part to the others.

    Args:
        samples: any; those without a group have one unknown speaker.
        count: at most their number.
        seed: of the order among equals.

    Returns:
        the chosen in the order of `samples`.
    """
    order = permutation(len(samples), "voices", "choice", seed)
    members: dict[tuple[str | None, str | None], list[int]] = {}
    for index in order:
        sample = samples[index]
        members.setdefault((sample.group, sample.label), []).append(index)
    taken: Counter[object] = Counter()

    def key(pair: tuple[str | None, str | None], place: int) -> _Key:
        return (taken[pair], taken["class", pair[1]], taken["speaker", pair[0]], place)

    pairs = list(members)
    heap = [(key(pair, place), place) for place, pair in enumerate(pairs)]
    heapq.heapify(heap)
    chosen: list[int] = []
    while heap and len(chosen) < count:
        known, place = heapq.heappop(heap)
        pair = pairs[place]
        # Counts only grow, so an entry that is out of date stands too early: put it back.
        if known != (now := key(pair, place)):
            heapq.heappush(heap, (now, place))
            continue
        chosen.append(members[pair].pop())
        taken.update([pair, ("class", pair[1]), ("speaker", pair[0])])
        if members[pair]:
            heapq.heappush(heap, (key(pair, place), place))
    return [samples[index] for index in sorted(chosen)]
