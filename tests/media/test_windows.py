"""Spans that cover a recording."""

from __future__ import annotations

import math

import pytest

from r1omni.media.windows import windows
from r1omni.types import UsageError


@pytest.mark.parametrize(
    ("duration_s", "window_s", "hop_s", "wanted"),
    [
        (4.2, None, None, [(0, 4.2)]),
        (4.2, 5.0, None, [(0, 4.2)]),
        (4.0, 2.0, None, [(0, 2), (2, 4)]),
        (4.2, 2.0, None, [(0, 2), (2, 4), (4, 4.2)]),
        (4.0, 2.0, 1.0, [(0, 2), (1, 3), (2, 4)]),  # (3, 4) would hold nothing new
        (4.5, 2.0, 1.0, [(0, 2), (1, 3), (2, 4), (3, 4.5)]),
        (5.0, 1.0, 2.0, [(0, 1), (2, 3), (4, 5)]),  # with gaps
        (5.5, 1.0, 3.0, [(0, 1), (3, 4)]),
        (10.05, 5.0, None, [(0, 5), (5, 10.05)]),  # 50 ms are no window of their own
        (10.1, 5.0, None, [(0, 5), (5, 10.1)]),
        (10.2, 5.0, None, [(0, 5), (5, 10), (10, 10.2)]),
        (4.05, 2.0, 1.0, [(0, 2), (1, 3), (2, 4.05)]),
        (2.05, 1.0, 2.0, [(0, 1)]),  # nor one behind a gap
        (0.05, 5.0, None, [(0, 0.05)]),
        (0.28, 0.1, None, [(0, 0.1), (0.1, 0.2), (0.2, 0.28)]),  # half of a short window is one
    ],
)
def test_windows(
    duration_s: float,
    window_s: float | None,
    hop_s: float | None,
    wanted: list[tuple[float, float]],
) -> None:
    assert windows(duration_s, window_s, hop_s) == [pytest.approx(span) for span in wanted]


def test_starts_do_not_drift() -> None:
    spans = windows(3600.0, 0.1, None)
    assert len(spans) == 36_000
    assert spans[-1][0] == pytest.approx(3599.9, abs=1e-9)


@pytest.mark.parametrize(
    ("window_s", "hop_s"), [(0, None), (-1, None), (math.nan, None), (1, 0), (1, -2), (math.inf, 1)]
)
def test_lengths_that_are_none(window_s: float, hop_s: float | None) -> None:
    with pytest.raises(UsageError, match="must be positive"):
        windows(4.0, window_s, hop_s)


def test_a_hop_without_a_window() -> None:
    with pytest.raises(UsageError, match="needs window_s"):
        windows(4.0, None, 1.0)


def test_a_recording_that_claims_to_last_for_years() -> None:
    with pytest.raises(UsageError, match=r"1e\+09 s has more than 1000000 windows.*raise hop_s"):
        windows(1e9, 2.0, 1.0)
    assert len(windows(1e9, None, None)) == 1
