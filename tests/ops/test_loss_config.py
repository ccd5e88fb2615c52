"""The options of a loss: their defaults, what they mean together, and what is refused."""

import math
from dataclasses import FrozenInstanceError

import pytest

from r1omni.ops import GRPOLossConfig
from r1omni.types import UsageError


def test_the_defaults_are_the_papers():
    assert GRPOLossConfig() == GRPOLossConfig(
        loss_type="grpo", beta=0.04, epsilon=0.2, epsilon_high=None, delta=None, dual_clip=None,
        importance_sampling_level="token", use_bias_correction_kl=False, kl_estimator="k3",
        top_entropy_quantile=1.0, entropy_coef=0.0, off_policy_mask_threshold=None,
        max_completion_length=None, sapo_temperature_pos=1.0, sapo_temperature_neg=1.05,
        vespo_k_pos=2.0, vespo_lambda_pos=3.0, vespo_k_neg=3.0, vespo_lambda_neg=2.0,
        temperature=1.0,
    )  # fmt: skip
    with pytest.raises(FrozenInstanceError):  # unchecked, a value could be anything
        GRPOLossConfig().beta = 0.1


def test_upper_epsilon_follows_epsilon_unless_set():
    assert GRPOLossConfig(epsilon=0.3).upper_epsilon == 0.3
    assert GRPOLossConfig(epsilon=0.3, epsilon_high=0.4).upper_epsilon == 0.4


@pytest.mark.parametrize("key", ["delta", "dual_clip"])
@pytest.mark.parametrize("cap", [1.5, 2.0])
def test_a_cap_above_the_clipping_is_taken(key, cap):
    assert getattr(GRPOLossConfig(**{key: cap}), key) == cap


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ({}, False),
        ({"top_entropy_quantile": 0.5}, True),
        ({"entropy_coef": 0.1}, True),
        ({"entropy_coef": -0.1}, True),
    ],
)
def test_when_entropies_are_needed(options, needed):
    assert GRPOLossConfig(**options).needs_entropies == needed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss_type": "ppo"}, "loss_type 'ppo' is unknown"),
        ({"importance_sampling_level": "word"}, "importance_sampling_level 'word'"),
        ({"kl_estimator": "k4"}, "kl_estimator 'k4'"),
        ({"beta": -1.0}, "beta is -1"),
        ({"beta": math.nan}, "beta is nan"),
        ({"epsilon": 1.0}, "epsilon is 1.0"),
        ({"epsilon": 0.0}, "epsilon is 0.0"),
        ({"epsilon_high": 0.0}, "epsilon_high is 0.0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"top_entropy_quantile": 0.0}, "top_entropy_quantile is 0.0"),
        ({"top_entropy_quantile": 1.5}, "top_entropy_quantile is 1.5"),
        ({"off_policy_mask_threshold": -0.5}, "off_policy_mask_threshold is -0.5"),
        ({"sapo_temperature_pos": 0.0}, "sapo_temperature_pos is 0.0"),
        ({"sapo_temperature_neg": 0.0}, "sapo_temperature_neg is 0.0"),
        ({"entropy_coef": math.inf}, "entropy_coef is inf"),
        ({"delta": 1.1}, r"delta is 1.1; .* above 1 \+ epsilon_high = 1.2, or"),
        ({"delta": 1.5, "epsilon_high": 0.5}, "delta is 1.5"),
        ({"loss_type": "cispo", "delta": 1.0}, "delta is 1.0"),
        ({"dual_clip": 1.0}, "dual_clip is 1.0"),
        ({"delta": 2.0, "dual_clip": 3.0}, "both cap the ratio"),
        ({"loss_type": "sapo", "dual_clip": 3.0}, "no meaning for loss_type sapo"),
        ({"loss_type": "gmpo", "dual_clip": 3.0}, "no meaning for loss_type gmpo"),
        ({"vespo_lambda_neg": 0.0}, "vespo_lambda_neg is 0.0"),
        ({"vespo_k_pos": -1.0}, "vespo_k_pos is -1.0"),
        ({"kl_estimator": "k2", "use_bias_correction_kl": True}, "corrects k3"),
        ({"kl_estimator": "k3_straight_through", "use_bias_correction_kl": True}, "corrects k3"),
    ],
)
def test_impossible_configurations(options, message):
    with pytest.raises(UsageError, match=message):
        GRPOLossConfig(**options)
