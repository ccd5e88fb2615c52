"""The loss as one term a token: equal to `part_loss`, value and gradients, or refused by name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from r1omni.ops import (
    GRPOLossConfig,
    StepTotals,
    TokenObjective,
    not_fused_for,
    part_loss,
    selective_logprob_and_entropy,
)
from r1omni.ops.aggregation import reduce_terms, token_weights
from r1omni.ops.kl import KLEstimator
from r1omni.ops.loss_config import ImportanceSamplingLevel, LossType
from r1omni.types import UsageError

N, C, D, V = 6, 5, 4, 13
TOTALS = StepTotals(8, 31, 29.5, 20, world_size=2)
# Another value of every option, beside the defaults.
OTHERS: dict[str, tuple[Any, ...]] = {
    "loss_type": get_args(LossType),
    "beta": (0.0, 0.3),
    "epsilon": (0.05,),
    "epsilon_high": (0.6,),
    "delta": (1.3,),
    "dual_clip": (1.4,),
    "importance_sampling_level": get_args(ImportanceSamplingLevel),
    "use_bias_correction_kl": (True,),
    "kl_estimator": get_args(KLEstimator),
    "top_entropy_quantile": (0.5,),
    "entropy_coef": (0.1,),
    "off_policy_mask_threshold": (0.01,),
    "max_completion_length": (7,),
    "sapo_temperature_pos": (2.0,),
    "sapo_temperature_neg": (2.0,),
    "vespo_k_pos": (1.0,),
    "vespo_lambda_pos": (1.0,),
    "vespo_k_neg": (1.0,),
    "vespo_lambda_neg": (1.0,),
    "temperature": (0.7,),
}
CASES = [(name, value) for name, values in OTHERS.items() for value in values]


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def _config(**options: Any) -> GRPOLossConfig:
    if options.get("loss_type") == "cispo":
        options["epsilon_high"] = 5.0
    return GRPOLossConfig(**{"max_completion_length": 9, **options})


def _compare(config: GRPOLossConfig, **given: Any) -> None:
    mask = torch.arange(C) < torch.tensor([5, 1, 3, 4, 2, 5])[:, None]
    learned = mask.clone()
    learned[3] = False  # a completion that was cut off
    ids = torch.randint(V, (N, C), generator=torch.Generator().manual_seed(1))
    leaves = [_random(int(mask.sum()), D, seed=2), _random(V, D, seed=3)]
    inputs: dict[str, Any] = {
        "old_logps": None, "ref_logps": None, "importance_weights": None, "entropy_mask": None,
    }  # fmt: skip
    logits = leaves[0] @ leaves[1].T
    plain, entropies = selective_logprob_and_entropy(logits, ids[mask], config.temperature)
    blank = torch.zeros(N, C).double()
    logps = blank.masked_scatter(mask, plain)
    for name, scale in given.items():
        inputs[name] = logps + scale * _random(N, C, seed=len(name))
    if config.top_entropy_quantile < 1:
        inputs["entropy_mask"] = blank.masked_scatter(mask, entropies) > entropies.median()
    if "old_logps" in given:
        inputs["importance_weights"] = _random(N, C, seed=8).abs()
    if config.beta and inputs["ref_logps"] is None:
        inputs["ref_logps"] = logps + 0.5 * _random(N, C, seed=9)
    advantages = _random(N, seed=4)

    values, gradients = [], []
    for fused in (True, False):
        hidden, head = (leaf.clone().requires_grad_() for leaf in leaves)
        if fused:
            objective = TokenObjective.of_part(
                advantages, learned, **inputs, config=config, totals=TOTALS
            )
            loss, seen, told = objective.loss(hidden, head, ids[mask], mask, with_entropy=True)
            assert told is not None and not seen.requires_grad
            right = torch.where(learned, logps, 0.0)
            torch.testing.assert_close(seen, right)
            spread = blank.masked_scatter(mask, entropies)
            torch.testing.assert_close(told, torch.where(learned, spread, 0.0))
        else:
            logits = hidden @ head.T
            own, spread = selective_logprob_and_entropy(logits, ids[mask], config.temperature)
            loss = part_loss(
                blank.masked_scatter(mask, own), advantages, learned, **inputs,
                entropies=blank.masked_scatter(mask, spread), config=config, totals=TOTALS,
            ).loss  # fmt: skip
        values.append(loss.detach())
        gradients.append(torch.autograd.grad(loss, (hidden, head)))
    torch.testing.assert_close(*values)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_every_option_has_another_value() -> None:
    assert OTHERS.keys() == {field.name for field in fields(GRPOLossConfig)}


@pytest.mark.parametrize(("name", "value"), CASES, ids=str)
def test_every_option_is_computed_or_refused(name: str, value: Any) -> None:
    config = _config(**{name: value})
    option = not_fused_for(config)
    if option is None:
        _compare(config)
        _compare(config, old_logps=0.4)  # ratios inside and outside of the clip
        return
    assert option == name
    nothing = {"old_logps": None, "ref_logps": None, "importance_weights": None}
    with pytest.raises(UsageError, match=name) as caught:
        TokenObjective.of_part(
            torch.zeros(N), torch.ones(N, C), **nothing, entropy_mask=None, config=config,
            totals=TOTALS,
        )  # fmt: skip
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("loss_type", get_args(LossType))
def test_weights_of_tokens_are_those_of_the_sum(loss_type: str) -> None:
    config = _config(loss_type=loss_type)
    mask = (torch.arange(C) < torch.tensor([5, 0, 3, 4, 2, 1])[:, None]).double()
    terms = _random(N, C, seed=5)
    weighted = (terms * token_weights(mask, config, TOTALS)).sum()
    torch.testing.assert_close(weighted, reduce_terms(terms, mask, config, TOTALS))
