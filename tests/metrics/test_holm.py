"""Correction for several tests, worked by hand."""

from __future__ import annotations

import pytest

from r1omni.metrics.comparison import holm, mcnemar_p


def test_holm_by_hand() -> None:
    # Holm (1979): 0.01 * 4, 0.02 * 3, max(0.06, 0.03 * 2), 0.04 * 1 raised to 0.06.
    assert holm([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


def test_mcnemar_is_the_binomial_test() -> None:
    from scipy.stats import binomtest

    for only_a, only_b in ((0, 0), (1, 9), (7, 7), (30, 12), (0, 5)):
        total = only_a + only_b
        expected = binomtest(only_a, total).pvalue if total else 1.0
        assert mcnemar_p(only_a, only_b) == pytest.approx(expected, rel=1e-12)
