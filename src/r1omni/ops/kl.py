"""Estimates of the divergence of the policy from the reference, one a token.

With d = log p_ref - log p of a sampled token (http://joschu.net/blog/kl-approx.html):

========= ================== =====================================================
k1        -d                 unbiased value, high variance; its gradient is 0 on average
k2        d^2 / 2            biased value, right gradient on policy
k3        exp(d) - d - 1     unbiased value, never negative; R1-Omni's, GRPO eq. (4)
========= ================== =====================================================

`k1_straight_through` and `k3_straight_through` have the value of k1 and k3 and the gradient of
k2.
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from r1omni.kernels.reference import MAX_LOG_DIFFERENCE as MAX_LOG_DIFFERENCE
from r1omni.types import UsageError

KLEstimator = Literal["k1", "k2", "k3", "k1_straight_through", "k3_straight_through"]


def kl_divergence(
    logps: Tensor, ref_logps: Tensor, estimator: str = "k3", max_difference: float | None = None
) -> Tensor:
    """Estimated divergence of each token.

    Args:
        logps: float [...], log-probabilities of the sampled tokens under the policy.
        ref_logps: float [...], the same under the reference.
        estimator: see the module.
        max_difference: in k3, d is clamped from above here (default `MAX_LOG_DIFFERENCE`), and
            a clamped token has no gradient. Below, k3 grows only linearly and is left alone, so
            a token the reference finds absurd is still pulled back.

    Returns:
        float [...], differentiable in `logps`.

    Raises:
        UsageError: unknown estimator.
    """
    if estimator not in get_args(KLEstimator):
        raise UsageError(
            f"KL estimator {estimator!r} is unknown; use {', '.join(get_args(KLEstimator))}"
        )
    name, _, straight_through = estimator.partition("_")
    difference = ref_logps - logps
    if name == "k1":
        value = -difference
    elif name == "k2":
        value = difference.square() / 2
    else:
        bound = MAX_LOG_DIFFERENCE if max_difference is None else max_difference
        clamped = difference.clamp(max=bound)
        # expm1 keeps the digits that exp(d) - 1 loses near 0, where training spends its time.
        value = clamped.expm1() - clamped
    if straight_through:
        slope = difference.square() / 2
        value = value.detach() + slope - slope.detach()
    return value
