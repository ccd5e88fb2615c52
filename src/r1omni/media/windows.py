"""Spans that cover a recording."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from r1omni.options import check_type, shortened
from r1omni.types import ClipMedia, UsageError

T = TypeVar("T")

# A damaged file may claim to last for years.
MAX_WINDOWS = 1_000_000
# A shorter rest says nothing: two frames of film, a part of a syllable.
MIN_REST_S = 0.1


class Window(NamedTuple):
    """A span of a recording, in seconds, with what is seen and heard in it.

    Attributes:
        place, total: its place, from 0, among the spans of the recording.
    """

    start_s: float
    end_s: float
    media: ClipMedia
    place: int = 0
    total: int = 1

    @property
    def is_last(self) -> bool:
        """Whether it is the last one of its recording."""
        return self.place + 1 == self.total


def check_intervals(
    intervals: Sequence[tuple[float, float]] | None, window_s: float | None
) -> list[tuple[float, float]] | None:
    """Intervals in the order in which they are read, `reading_order`; None stays None.

    Raises:
        UsageError: none at all, windows beside them, or one that is no pair of seconds or has no
            length.
    """
    if intervals is None:
        return None
    if window_s is not None:
        raise UsageError("intervals stand in place of windows; leave window_s or intervals out")
    found: list[tuple[float, float]] = []
    for place, pair in enumerate(intervals):
        try:
            start_s, end_s = map(float, pair)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"intervals[{place}] is {shortened(str(pair))}; give a start and an end in seconds"
            ) from error
        if not (0 <= start_s < end_s < math.inf):
            raise UsageError(f"intervals[{place}] goes from {start_s} s to {end_s} s; correct it")
        found.append((start_s, end_s))
    if not found:
        raise UsageError("intervals is empty; leave it out to take the recording as a whole")
    return sorted(found, key=reading_order)


def reading_order(span: tuple[float, float]) -> tuple[float, float]:
    """Sorts spans by their ends: a long one does not make the short ones in it wait in memory."""
    return span[1], span[0]


def as_given(found: Sequence[T], intervals: Sequence[tuple[float, float]]) -> list[T]:
    """What was found of intervals in their `reading_order`, in the order they were given in."""
    places = sorted(range(len(intervals)), key=lambda place: reading_order(intervals[place]))
    return [one for _, one in sorted(zip(places, found, strict=True), key=lambda pair: pair[0])]


def windows(
    duration_s: float, window_s: float | None, hop_s: float | None
) -> list[tuple[float, float]]:
    """Spans (start, end) in seconds that cover a recording; the last one ends with it.

    A window that would hold nothing new, since the one before it already reaches the end, is
    left out. A rest shorter than `MIN_REST_S` (than half a window, where that is less) is no window
    of its own: the one before it is so much longer, or it is left out where there is a gap.

    Raises:
        UsageError: a length that is not positive, a hop without a window, or too many windows.
    """
    for name, length_s in (("window_s", window_s), ("hop_s", hop_s)):
        check_type(name, length_s, float | None)
    if window_s is None:
        if hop_s is not None:
            raise UsageError("hop_s needs window_s, the length of a window in seconds")
        return [(0.0, duration_s)]
    hop_s = window_s if hop_s is None else hop_s
    if not (math.isfinite(window_s) and window_s > 0 and math.isfinite(hop_s) and hop_s > 0):
        raise UsageError(f"window_s and hop_s must be positive, not {window_s} and {hop_s}")
    if duration_s > MAX_WINDOWS * hop_s:
        raise UsageError(
            f"a recording of {duration_s:g} s has more than {MAX_WINDOWS} windows at a hop of "
            f"{hop_s:g} s; raise hop_s, or mend the recording if it is not that long"
        )
    rest_s = min(MIN_REST_S, window_s / 2)
    spans: list[tuple[float, float]] = []
    start_s = 0.0
    while not spans or start_s < duration_s - rest_s:
        end_s = start_s + window_s
        if end_s >= duration_s - rest_s - 1e-9:  # no rest is lost to rounding
            return [*spans, (start_s, duration_s)]
        spans.append((start_s, end_s))
        start_s = len(spans) * hop_s
    return spans
