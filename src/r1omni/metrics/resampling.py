"""Bootstrap resampling of WAR, UAR and other shares over clips or groups of clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]


def resampled_war_uar(
    correct: NDArray[np.bool_],
    target: NDArray[np.int64],
    num_labels: int,
    groups: Sequence[str] | None,
    num_resamples: int,
    seed: int,
) -> NDArray[np.float64] | None:
    """WAR and UAR of resamples of the units, drawn with replacement.

    A resample is how often each unit was drawn, so all of them are two products of matrices. The
    same seed draws the same units for every run on the same clips, which pairs two runs.

    Args:
        correct: bool [n] or [R, n]; runs are resampled together.
        target: int [n], below `num_labels`.
        num_labels: classes.
        groups: n names of units, or None for the clip itself.
        num_resamples: resamples.
        seed: of the draws.

    Returns:
        float64 [2, num_resamples] (or [R, 2, num_resamples]), WAR then UAR over the classes
        drawn; None for fewer than two units or no resample.
    """
    n = len(target)
    unit, num_units = _units(n, groups)
    if num_units < 2 or num_resamples < 1:
        return None
    draws = _draws(num_units, num_resamples, seed)
    cell = unit * num_labels + target
    support = draws @ _count(cell, np.ones(n), num_units, num_labels)
    present = support > 0
    rows = []
    for run in np.atleast_2d(correct):
        hits = draws @ _count(cell, run.astype(float), num_units, num_labels)
        recalls = np.divide(hits, support, out=np.zeros_like(hits), where=present)
        war = hits.sum(axis=1) / support.sum(axis=1)
        rows.append(np.stack([war, recalls.sum(axis=1) / present.sum(axis=1)]))
    return rows[0] if correct.ndim == 1 else np.stack(rows)


def resampled_ratios(
    numerators: NDArray[np.float64],
    denominators: NDArray[np.float64],
    groups: Sequence[str] | None,
    num_resamples: int,
    seed: int,
) -> NDArray[np.float64] | None:
    """Quotients of sums over resamples of the units, drawn as `resampled_war_uar` draws them.

    Args:
        numerators: float64 [K, n], what clip by clip adds to the upper sum of each quotient.
        denominators: float64 [K, n], the same of the lower sum.
        groups: n names of units, or None for the clip itself.
        num_resamples: resamples.
        seed: of the draws.

    Returns:
        float64 [K, num_resamples], NaN where a lower sum is 0; None for fewer than two units or no
        resample.
    """
    n = numerators.shape[1]
    unit, num_units = _units(n, groups)
    if num_units < 2 or num_resamples < 1:
        return None
    draws = _draws(num_units, num_resamples, seed)
    upper, lower = (
        np.stack([draws @ np.bincount(unit, row, num_units) for row in rows])
        for rows in (numerators, denominators)
    )
    return np.divide(upper, lower, out=np.full_like(upper, np.nan), where=lower > 0)


def interval(values: NDArray[np.float64]) -> Interval:
    """The central 95% of bootstrap values (percentile method)."""
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def _units(n: int, groups: Sequence[str] | None) -> tuple[NDArray[np.int64], int]:
    """int64 [n]: the unit of each clip; and how many units there are."""
    names = np.arange(n) if groups is None else np.asarray(groups)
    unit = np.unique(names, return_inverse=True)[1]
    return unit, int(unit.max()) + 1


def _draws(num_units: int, num_resamples: int, seed: int) -> NDArray[np.float64]:
    """float64 [num_resamples, num_units]: how often each unit was drawn."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(num_units, size=(num_resamples, num_units))
    drawn += np.arange(num_resamples)[:, None] * num_units
    counts = np.bincount(drawn.ravel(), minlength=num_resamples * num_units)
    return counts.reshape(num_resamples, num_units).astype(np.float64)


def _count(
    cell: NDArray[np.int64], weight: NDArray[np.float64], num_units: int, num_labels: int
) -> NDArray[np.float64]:
    """float64 [num_units, num_labels]: the sum of `weight` in each cell."""
    counts = np.bincount(cell, weights=weight, minlength=num_units * num_labels)
    return counts.reshape(num_units, num_labels).astype(np.float64)
