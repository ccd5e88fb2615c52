import math
from dataclasses import FrozenInstanceError
from typing import get_args

import pytest
import torch

from r1omni.ops import GRPOLossConfig, grpo_loss, kl_divergence
from r1omni.ops.aggregation import masked_mean
from r1omni.ops.loss_config import ImportanceSamplingLevel, LossType
from r1omni.types import UsageError

LOSSES = get_args(LossType)
# Their weight is a constant of the gradient, not of the value.
WEIGHTED = ("cispo", "vespo")


def config(loss_type="grpo", **options):
    return GRPOLossConfig(
        **{"beta": 0.0, "max_completion_length": 4, **options}, loss_type=loss_type
    )


def one(log_ratio, advantage, **options):
    """The loss of one token whose log-ratio is given."""
    result = grpo_loss(
        torch.tensor([[log_ratio]], dtype=torch.float64),
        torch.tensor([advantage]),
        torch.ones(1, 1),
        old_logps=torch.zeros(1, 1, dtype=torch.float64),
        config=config(**options),
    )
    return result.loss.item()


def batch(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    logps, old, ref = -torch.rand(3, 4, 4, generator=generator, dtype=dtype)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]).bool()
    entropies = torch.rand(4, 4, generator=generator, dtype=dtype)
    advantages = torch.tensor([1.0, -0.5, 2.0, -1.0], dtype=dtype)
    tensors = {"old_logps": old, "ref_logps": ref, "entropies": entropies}
    return logps, advantages, mask, tensors


def test_clipping_by_hand():
    assert one(math.log(1.5), 2.0) == pytest.approx(-1.2 * 2)
    assert one(math.log(1.5), -2.0) == pytest.approx(1.5 * 2)
    assert one(math.log(0.5), 2.0) == pytest.approx(-0.5 * 2)
    assert one(math.log(0.5), -2.0) == pytest.approx(0.8 * 2)
    assert one(math.log(1.5), 2.0, epsilon_high=0.4) == pytest.approx(-1.4 * 2)
    assert one(math.log(9), -2.0, delta=3.0) == pytest.approx(3 * 2)
    assert one(math.log(9), -2.0, dual_clip=3.0) == pytest.approx(3 * 2)
    assert one(math.log(9), 2.0, dual_clip=3.0) == pytest.approx(-1.2 * 2)
    # Of small advantages too, and 0 has nothing to teach.
    assert one(math.log(9), 0.5, dual_clip=3.0) == pytest.approx(-1.2 * 0.5)
    assert one(math.log(9), -0.5, dual_clip=3.0) == pytest.approx(3 * 0.5)
    assert one(math.log(9), 0.0, dual_clip=3.0) == 0
    assert one(math.log(2), 3.0, loss_type="sapo") == pytest.approx(-12 / (1 + math.exp(-1)))
    assert one(math.log(5), 2.0, loss_type="cispo", epsilon_high=3.0) == pytest.approx(
        -3 * 2 * math.log(5)
    )


def test_sapo_has_a_steepness_for_each_sign():
    def by_hand(advantage, tau, ratio):
        return -advantage * 4 / tau / (1 + math.exp(-tau * (ratio - 1)))

    for advantage, tau in ((0.5, 2.0), (-0.5, 0.5)):
        found = one(
            math.log(3), advantage, loss_type="sapo",
            sapo_temperature_pos=2.0, sapo_temperature_neg=0.5,
        )  # fmt: skip
        assert found == pytest.approx(by_hand(advantage, tau, 3))
    assert one(math.log(3), -0.5, loss_type="sapo") == pytest.approx(by_hand(-0.5, 1.05, 3))


def test_masked_mean():
    values = torch.tensor([[2.0, math.pi], [4.0, math.pi]])
    for mask, mean in (([[1, 0], [1, 0]], 3), ([[1, 0], [0, 0]], 2), ([[0, 0], [0, 0]], 0)):
        assert masked_mean(values, torch.tensor(mask)) == mean


def test_aggregations_by_hand():
    # On policy with A = 1 each term is -1: lengths 4, 2, 1, 0.
    logps, _, mask, _ = batch()
    expected = {
        "grpo": 3 / 4,
        "bnpo": 1,
        "dr_grpo": 7 / 16,
        "dapo": 1,
        "luspo": 7 / 4,
        "gmpo": 3 / 4,
    }
    for name, value in expected.items():
        loss = grpo_loss(logps, torch.ones(4), mask, config=config(name)).loss
        assert loss.item() == pytest.approx(-value), name
        if name != "dapo":
            half = grpo_loss(logps, torch.ones(4), mask, config=config(name), grad_accumulation=2)
            assert half.loss.item() == pytest.approx(-value / 2), name
    counts = {"num_batch_tokens": 70, "world_size": 2, "grad_accumulation": 4}
    dapo = grpo_loss(
        logps, torch.ones(4), mask, config=config("dapo"), **counts, steps_per_generation=2
    )
    assert dapo.loss.item() == pytest.approx(-7 / (70 / 2 * 4 / 2))


@pytest.mark.parametrize("loss_type", LOSSES)
@pytest.mark.parametrize("level", get_args(ImportanceSamplingLevel))
def test_gradcheck(loss_type, level):
    if level != "token" and loss_type in ("gmpo", "vespo"):
        return  # refused: test_peer_losses.py
    logps, advantages, mask, tensors = batch()
    chosen = config(
        loss_type, beta=0.1, importance_sampling_level=level, use_bias_correction_kl=True
    )

    def loss(values):
        return grpo_loss(values, advantages, mask, config=chosen, **tensors).loss

    logps.requires_grad_()
    if loss_type in WEIGHTED or level == "sequence_token":  # test_peer_losses.py derives the last
        loss(logps).backward()
        assert logps.grad.isfinite().all()
    else:
        assert torch.autograd.gradcheck(loss, logps)


@pytest.mark.parametrize("loss_type", LOSSES)
@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf])
def test_masked_garbage_does_not_leak(loss_type, garbage):
    options = {"beta": 0.1, "entropy_coef": 0.1, "top_entropy_quantile": 0.5}
    options |= {"off_policy_mask_threshold": 0.1}
    results = []
    for fill in (0.0, garbage):
        logps, advantages, mask, tensors = batch()
        tensors = {k: t.masked_fill(~mask, fill).requires_grad_() for k, t in tensors.items()}
        logps = logps.masked_fill(~mask, fill).requires_grad_()
        result = grpo_loss(logps, advantages, mask, config=config(loss_type, **options), **tensors)
        result.loss.backward()
        results.append((result, logps.grad, tensors["entropies"].grad))
    (clean, grad, entropy_grad), (dirty, dirty_grad, dirty_entropy_grad) = results
    assert clean.loss.isfinite()
    assert clean.loss == dirty.loss
    assert clean.metrics == dirty.metrics
    torch.testing.assert_close(dirty_grad, grad, rtol=0, atol=0)
    torch.testing.assert_close(dirty_entropy_grad, entropy_grad, rtol=0, atol=0)
    assert (dirty_grad[~mask] == 0).all()


@pytest.mark.parametrize("loss_type", LOSSES)
def test_nothing_to_learn_from_is_zero_and_finite(loss_type):
    logps, _, mask, tensors = batch()
    logps.requires_grad_()
    empty = grpo_loss(
        logps, torch.ones(4), torch.zeros_like(mask), config=config(loss_type, beta=0.1), **tensors
    )
    equal = grpo_loss(logps, torch.zeros(4), mask, config=config(loss_type), **tensors)
    (empty.loss + equal.loss).backward()
    assert empty.loss == equal.loss == 0
    assert (logps.grad == 0).all()


@pytest.mark.parametrize("difference", [-80.0, -21.0, 20.0, 21.0, 80.0])
@pytest.mark.parametrize("bias_correction", [False, True])
def test_kl_stays_finite(difference, bias_correction):
    logps = torch.full((2, 3), -90.0, requires_grad=True)
    result = grpo_loss(
        logps,
        torch.zeros(2),
        torch.ones(2, 3),
        ref_logps=torch.full((2, 3), -90.0 + difference),
        config=GRPOLossConfig(use_bias_correction_kl=bias_correction),
    )
    result.loss.backward()
    assert result.loss.isfinite()
    assert logps.grad.square().sum().isfinite()
    assert result.metrics["kl_clamped_ratio"] == (1 if difference > 20 else 0)
    if difference < 0 and not bias_correction:
        # What the reference finds absurd is still pulled back, with the whole weight.
        torch.testing.assert_close(logps.grad, torch.full((2, 3), 0.04 / 6))


def test_kl_estimators_by_hand():
    logps = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
    ref = torch.tensor([-0.5], dtype=torch.float64)  # d = 0.5
    values = {"k1": -0.5, "k2": 0.125, "k3": math.exp(0.5) - 1.5}
    slopes = {"k1": 1.0, "k2": -0.5, "k3": 1 - math.exp(0.5)}
    for name, value in values.items():
        kl = kl_divergence(logps, ref, name)
        assert kl.item() == pytest.approx(value)
        assert torch.autograd.grad(kl, logps)[0].item() == pytest.approx(slopes[name])
    for name in ("k1", "k3"):
        kl = kl_divergence(logps, ref, f"{name}_straight_through")
        assert kl.item() == pytest.approx(values[name])
        assert torch.autograd.grad(kl, logps)[0].item() == pytest.approx(slopes["k2"])
    with pytest.raises(UsageError, match="'k4' is unknown"):
        kl_divergence(logps, ref, "k4")


def test_default_is_the_paper():
    default = GRPOLossConfig()
    assert (default.loss_type, default.beta) == ("grpo", 0.04)
    assert (default.kl_estimator, default.use_bias_correction_kl) == ("k3", False)
    logps, advantages, mask, tensors = batch()
    del tensors["old_logps"]
    result = grpo_loss(logps, advantages, mask, config=default, **tensors)
    difference = tensors["ref_logps"] - logps
    terms = -advantages[:, None] + 0.04 * (difference.exp() - difference - 1)
    per_sequence = (terms * mask).sum(1) / mask.sum(1).clamp(min=1)
    assert result.loss.item() == pytest.approx(per_sequence.mean().item())
    assert result.metrics["clip_ratio/region_mean"] == 0


def test_off_policy_mask_and_entropy_mask_keep_the_kl():
    logps, advantages, mask, tensors = batch()
    tensors["old_logps"] = logps + 1.0  # every sequence drifted by 1 nat
    options = {"beta": 0.5, "off_policy_mask_threshold": 0.5}
    masked = grpo_loss(logps, -advantages.abs(), mask, config=config(**options), **tensors)
    only_kl = grpo_loss(logps, 0 * advantages, mask, config=config(beta=0.5), **tensors)
    assert masked.loss.item() == pytest.approx(only_kl.loss.item())
    good = grpo_loss(logps, advantages.abs(), mask, config=config(**options), **tensors)
    assert good.metrics["off_policy_masked_ratio"] == 0


def test_off_policy_mask_by_hand():
    """A bad completion is left out where its mean drift, in nats a token, is above the bound."""
    rows = [  # advantage, drift of a token, tokens, whether it is learned from
        (-0.5, 0.25, 4, True),  # though it drifted by a whole nat
        (-0.5, 0.75, 2, False),
        (-0.5, 0.75, 1, False),
        (-0.5, 0.5, 1, True),  # at the bound
        (0.5, 0.75, 2, True),
        (0.0, 0.75, 2, False),  # not left out, but there is nothing to learn
    ]
    advantages, drift, lengths, learned = map(list, zip(*rows, strict=True))
    mask = torch.arange(4)[None] < torch.tensor(lengths)[:, None]
    logps = (-torch.tensor(drift)[:, None]).expand(-1, 4).clone().requires_grad_()
    result = grpo_loss(
        logps, torch.tensor(advantages), mask, old_logps=torch.zeros(6, 4),
        config=config(epsilon=0.9, off_policy_mask_threshold=0.5),
    )  # fmt: skip
    result.loss.backward()
    assert (logps.grad != 0).any(dim=1).tolist() == learned
    assert result.metrics["off_policy_masked_ratio"].item() == pytest.approx(2 / 6)
    assert "off_policy_masked_ratio" in result.row_metrics  # a mean over completions


def test_the_tokens_of_highest_entropy_alone_are_learned_from():
    entropies = torch.tensor([[1.0, 5.0, 2.0, 9.0], [4.0, 3.0, 9.0, 9.0]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    logps = torch.zeros(2, 4, requires_grad=True)
    grpo_loss(
        logps, torch.ones(2), mask, entropies=entropies, config=config(top_entropy_quantile=0.5)
    ).loss.backward()
    # The median of 1 to 5 is 3.
    assert (logps.grad != 0).tolist() == [[False, True, False, False], [True, True, False, False]]


@pytest.mark.parametrize(("key", "tensor"), [("beta", "ref_logps"), ("entropy_coef", "entropies")])
def test_what_is_only_logged_cannot_spoil_the_loss(key, tensor):
    logps, advantages, mask, tensors = batch()
    plain = grpo_loss(logps, advantages, mask, config=config(), **tensors)
    tensors[tensor] = tensors[tensor].clone()
    tensors[tensor][0, 0] = -math.inf
    logged = grpo_loss(logps, advantages, mask, config=config(), **tensors)
    assert logged.loss == plain.loss
    # With any weight but 0 it is part of the loss; that of the entropy has either sign.
    for weight in (1.0, -1.0) if key == "entropy_coef" else (1.0,):
        spoilt = grpo_loss(logps, advantages, mask, config=config(**{key: weight}), **tensors)
        assert not spoilt.loss.isfinite()


def test_the_sign_of_the_entropy_bonus():
    logps, advantages, mask, tensors = batch()
    plain = grpo_loss(logps, advantages, mask, config=config(), **tensors).loss
    mean = tensors["entropies"][mask].mean()
    for coef in (1.0, -1.0, -0.3):
        found = grpo_loss(logps, advantages, mask, config=config(entropy_coef=coef), **tensors).loss
        assert found.item() == pytest.approx((plain - coef * mean).item())


def test_bias_correction_of_the_kl_by_hand():
    logps = torch.tensor([[math.log(1.5)]], dtype=torch.float64)
    result = grpo_loss(
        logps, torch.zeros(1), torch.ones(1, 1), old_logps=torch.zeros_like(logps),
        ref_logps=logps + 0.5, config=config(beta=1.0, use_bias_correction_kl=True),
    )  # fmt: skip
    assert result.loss.item() == pytest.approx(1.5 * (math.exp(0.5) - 1.5))


def test_entropy_bonus_and_importance_weights():
    logps, advantages, mask, tensors = batch()
    plain = grpo_loss(logps, advantages, mask, config=config(), **tensors)
    bonus = grpo_loss(
        logps, advantages, mask, config=config(entropy_coef=0.3), grad_accumulation=2, **tensors
    )
    mean = tensors["entropies"][mask].mean()
    assert bonus.loss.item() == pytest.approx(((plain.loss - 0.3 * mean) / 2).item())
    half = grpo_loss(
        logps,
        advantages,
        mask,
        config=config(),
        importance_weights=torch.full((4, 1), 0.5),
        **tensors,
    )
    assert half.loss.item() == pytest.approx(plain.loss.item() / 2)


@pytest.mark.parametrize(
    ("chosen", "options", "message"),
    [
        ({"beta": 0.1}, {}, "ref_logps is missing"),
        ({"beta": 1.0}, {}, "ref_logps is missing"),
        ({"top_entropy_quantile": 0.5}, {}, "need entropies"),
        ({"off_policy_mask_threshold": 1.0}, {}, "needs old_logps"),
        ({"loss_type": "dapo"}, {"grad_accumulation": 2}, "needs num_batch_tokens"),
        ({"loss_type": "dr_grpo", "max_completion_length": None}, {}, "divides by max_completion"),
        ({}, {"world_size": 0}, "world_size is 0"),
        *(
            ({}, {name: torch.zeros(4, length)}, f"{name} has shape")
            for name in ("old_logps", "ref_logps", "entropies")
            for length in (3, 5)
        ),
    ],
)
def test_missing_or_misshapen_tensors(chosen, options, message):
    logps, advantages, mask, _ = batch()
    with pytest.raises(UsageError, match=message):
        grpo_loss(logps, advantages, mask, config=config(**chosen), **options)


def test_shapes_of_the_batch_itself():
    ones = torch.ones(4, 3)
    for wrong in (torch.ones(4), torch.ones(4, 3, 1), torch.ones(0, 3), torch.ones(4, 0)):
        with pytest.raises(UsageError, match=r"logps have shape .* expected \[N, C\]"):
            grpo_loss(wrong, torch.ones(4), ones, config=config())
    for advantages in (torch.ones(2), torch.ones(5), ones):
        with pytest.raises(UsageError, match=r"advantages have shape .* expected \[4\]"):
            grpo_loss(ones, advantages, ones, config=config())
    for mask in (torch.ones(4, 2), torch.ones(4, 4)):
        with pytest.raises(UsageError, match=r"mask has shape .* that of logps, \[4, 3\]"):
            grpo_loss(ones, torch.ones(4), mask, config=config())
    result = grpo_loss(ones, torch.ones(4), ones, config=config())
    with pytest.raises(FrozenInstanceError):
        result.loss = ones
