"""Whether two runs on the same clips differ by more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from r1omni.metrics.resampling import Interval, interval, resampled_war_uar
from r1omni.types import UsageError


@dataclass(frozen=True)
class Comparison:
    """Run b against run a. Differences are b minus a.

    Attributes:
        n: clips.
        war_difference: of the shares of clips that are right.
        uar_difference: of the mean recalls over the classes present in the references.
        war_interval: 95% paired bootstrap interval of `war_difference`; None for fewer than two
            units.
        uar_interval: the same for `uar_difference`.
        num_only_a: clips that only run a got right.
        num_only_b: clips that only run b got right.
        mcnemar_p: two-sided exact McNemar test of equal WAR.
    """

    n: int
    war_difference: float
    uar_difference: float
    war_interval: Interval | None
    uar_interval: Interval | None
    num_only_a: int
    num_only_b: int
    mcnemar_p: float


def compare(
    predictions_a: Sequence[str | None],
    predictions_b: Sequence[str | None],
    references: Sequence[str],
    groups: Sequence[str] | None = None,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare two runs clip by clip, by paired bootstrap and McNemar's exact test.

    Args:
        predictions_a: n classes of run a; None is wrong.
        predictions_b: n classes of run b, of the same clips in the same order.
        references: n classes.
        groups: n units of resampling, or None for the clip itself. McNemar's test takes clips as
            independent and knows no groups.
        num_bootstrap: resamples; 0 for no intervals.
        seed: of the resampling.

    Raises:
        UsageError: no clip, or lists of different lengths.
    """
    n = len(references)
    lengths = {"predictions_a": predictions_a, "predictions_b": predictions_b, "groups": groups}
    if n == 0:
        raise UsageError("there is no reference label; a comparison needs at least one clip")
    for name, values in lengths.items():
        if values is not None and len(values) != n:
            raise UsageError(f"{name} has {len(values)} entries for {n} references")
    labels, target = np.unique(np.asarray(references), return_inverse=True)
    correct = np.array(
        [
            [p == r for p, r in zip(run, references, strict=True)]
            for run in (predictions_a, predictions_b)
        ]
    )
    only_a = int((correct[0] & ~correct[1]).sum())
    only_b = int((correct[1] & ~correct[0]).sum())
    recalls = np.stack([correct[:, target == k].mean(axis=1) for k in range(len(labels))])
    resamples = resampled_war_uar(correct, target, len(labels), groups, num_bootstrap, seed)
    differences = None if resamples is None else resamples[1] - resamples[0]
    return Comparison(
        n=n,
        war_difference=(only_b - only_a) / n,
        uar_difference=float(np.diff(recalls.mean(axis=0))[0]),
        war_interval=None if differences is None else interval(differences[0]),
        uar_interval=None if differences is None else interval(differences[1]),
        num_only_a=only_a,
        num_only_b=only_b,
        mcnemar_p=mcnemar_p(only_a, only_b),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number by Holm's step-down procedure (1979).

    The k-th smallest of m is multiplied by m - k + 1, is at least as large as the one before, and
    at most 1. To call those below a level different keeps the chance of a single false call below
    it, whatever the tests have to do with each other.
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    scaled = np.maximum.accumulate(np.asarray(p_values, dtype=np.float64)[order] * factors)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(scaled, 1.0)
    return [float(p) for p in corrected]


def mcnemar_p(num_only_a: int, num_only_b: int) -> float:
    """Two-sided p of the exact McNemar test: are the discordant clips split evenly?

    Twice the tail of a binomial with p = 1/2 (at most 1), in exact integers.
    """
    total = num_only_a + num_only_b
    tail = sum(comb(total, k) for k in range(min(num_only_a, num_only_b) + 1))
    return min(1.0, 2 * tail / 2**total)
