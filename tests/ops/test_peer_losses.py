"""Losses of peers beside the oracle's: recorded from TRL and verl, and derived again by hand.

`scripts/record_peer_losses.py` recorded the cases. The derivations are written from the papers,
with loops over tokens and autograd in float64, and share nothing with what they check.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from r1omni.ops import GRPOLossConfig, StepTotals, TokenObjective, grpo_loss, part_loss
from r1omni.types import UsageError

RECORDED = Path(__file__).parents[1] / "fixtures" / "peer_losses" / "cases.json"
CASES = [case for case in json.loads(RECORDED.read_text()) if "value" in case]
# What each case is called here.
OPTIONS: dict[str, dict[str, Any]] = {
    "vespo": {"loss_type": "vespo"},
    "gmpo": {"loss_type": "gmpo"},
    "gspo_token": {"loss_type": "grpo", "importance_sampling_level": "sequence_token"},
}
ADVANTAGES = torch.tensor([0.8, -1.1, 0.3, -0.4, 0.0, 1.5], dtype=torch.float64)
LENGTHS = (5, 4, 1, 3, 2, 0)
MASK = torch.arange(5)[None] < torch.tensor(LENGTHS)[:, None]


def draw(spread: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Log-probabilities [6, 5] with a gradient, and those of the policy that sampled."""
    generator = torch.Generator().manual_seed(seed)
    logps, noise = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
    return (-logps.abs()).requires_grad_(), -logps.abs() + spread * noise


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['loss']}-{c['peer']}")
def test_value_gradient_and_metrics_of_peers(case: dict[str, Any]) -> None:
    given = {name: torch.tensor(v, dtype=torch.float64) for name, v in case["inputs"].items()}
    logps = given["logps"].requires_grad_()
    options = {"beta": 0.0, **OPTIONS[case["loss"]], **case["options"]}
    steps = case.get("steps_per_generation", 1)
    result = grpo_loss(
        logps, given["advantages"], given["mask"], old_logps=given["old_logps"],
        ref_logps=given["ref_logps"] if options["beta"] else None, entropies=given["entropies"],
        importance_weights=given.get("importance_weights"), config=GRPOLossConfig(**options),
        num_batch_tokens=int(given["mask"].sum()), steps_per_generation=steps,
    )  # fmt: skip
    result.loss.backward()
    assert result.loss.item() == pytest.approx(case["value"], rel=1e-7, abs=1e-10)
    wanted = torch.tensor(case["gradient"], dtype=torch.float64)
    assert wanted.abs().max() > 1e-3
    torch.testing.assert_close(logps.grad, wanted, rtol=1e-6, atol=1e-9)
    if case["peer"].startswith("TRL"):
        assert case["metrics"].keys() <= result.metrics.keys()
        for name, value in case["metrics"].items():
            assert result.metrics[name].item() == pytest.approx(value, rel=1e-6), name
    elif case["loss"] == "gmpo":
        # verl counts a token of a good completion that is clipped below, too; none of it is held
        # back there.
        assert result.metrics["clip_ratio/high_mean"] <= case["metrics"]["actor/pg_clipfrac"]


def test_the_recording_has_every_loss_that_the_oracle_lacks() -> None:
    assert {case["loss"] for case in CASES} == OPTIONS.keys()
    assert {case["peer"] for case in CASES} == {"TRL 1.16.0", "verl 0.7.0"}


# By hand ----------------------------------------------------------------------------------------


def gmpo_by_hand(logps: Tensor, old: Tensor) -> Tensor:
    """arXiv 2507.20673, negated: a product over tokens, its root, a mean over completions."""
    low, high = math.exp(-0.3), math.exp(0.5)
    total = logps.new_zeros(())
    for row, length in enumerate(LENGTHS):
        advantage, product = ADVANTAGES[row], logps.new_ones(())
        for at in range(length):
            ratio = logps[row, at].exp() / old[row, at].exp()
            inside = torch.clamp(ratio, low, high)
            pessimistic = torch.minimum(ratio * advantage, inside * advantage)
            product = product * (pessimistic / advantage if advantage else ratio)
        if length:
            total = total - advantage * product ** (1 / length)
    return total / len(LENGTHS)


def gspo_token_by_hand(logps: Tensor, old: Tensor) -> Tensor:
    """arXiv 2507.18071 eq. 13 and 14, negated."""
    total = logps.new_zeros(())
    for row, length in enumerate(LENGTHS):
        tokens = range(length)
        ratios = [logps[row, at].detach().exp() / old[row, at].exp() for at in tokens]
        of_sequence = math.prod(float(r) for r in ratios) ** (1 / max(length, 1))
        for at in tokens:
            p = logps[row, at].exp()
            ratio = of_sequence * p / p.detach()
            a = ADVANTAGES[row]
            total = total - torch.minimum(ratio * a, ratio.clamp(0.7, 1.5) * a) / length
    return total / len(LENGTHS)


def vespo_gradient_by_hand(logps: Tensor, old: Tensor) -> Tensor:
    """arXiv 2602.10693: phi(w) A grad log p(completion), over all tokens of the batch."""
    found = torch.zeros_like(logps)
    for row, length in enumerate(LENGTHS):
        w = math.exp(float((logps - old)[row, :length].sum()))
        a = float(ADVANTAGES[row])
        k, rate = (1.5, 0.7) if a >= 0 else (2.5, 1.2)
        found[row, :length] = -a * w**k * math.exp(rate - rate * w)
    return found / sum(LENGTHS)


def loss_of(config: GRPOLossConfig, logps: Tensor, old: Tensor) -> Tensor:
    return grpo_loss(logps, ADVANTAGES, MASK, old_logps=old, config=config).loss


@pytest.mark.parametrize(
    ("by_hand", "config"),
    [
        (gmpo_by_hand, GRPOLossConfig("gmpo", beta=0.0, epsilon=0.3, epsilon_high=0.5)),
        (gspo_token_by_hand, GRPOLossConfig(
            beta=0.0, importance_sampling_level="sequence_token", epsilon=0.3, epsilon_high=0.5,
        )),
    ],
)  # fmt: skip
@pytest.mark.parametrize("spread", [0.05, 0.9])
def test_derived_again_in_float64(
    by_hand: Callable[[Tensor, Tensor], Tensor], config: GRPOLossConfig, spread: float
) -> None:
    logps, old = draw(spread)
    [wanted] = torch.autograd.grad(by_hand(logps, old), logps)
    [found] = torch.autograd.grad(loss_of(config, logps, old), logps)
    assert loss_of(config, logps, old).item() == pytest.approx(by_hand(logps, old).item(), rel=1e-9)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    assert wanted.abs().max() > 0.01


def test_the_kernel_of_vespo_derived_again() -> None:
    logps, old = draw(0.4)
    config = GRPOLossConfig(
        "vespo", beta=0.0, vespo_k_pos=1.5, vespo_lambda_pos=0.7, vespo_k_neg=2.5,
        vespo_lambda_neg=1.2,
    )  # fmt: skip
    [found] = torch.autograd.grad(loss_of(config, logps, old), logps)
    wanted = vespo_gradient_by_hand(logps.detach(), old)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    # On policy every loss has the gradient of REINFORCE; this one is dapo's.
    [found] = torch.autograd.grad(loss_of(config, logps, logps.detach()), logps)
    dapo = loss_of(GRPOLossConfig("dapo", beta=0.0), logps, logps.detach())
    torch.testing.assert_close(found, torch.autograd.grad(dapo, logps)[0])


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_the_kernel_takes_in_the_correction_of_the_sampler(level: str) -> None:
    """A completion's weight times its ratio is w, whichever way its weight is given."""
    logps, old = draw(0.3)
    draws = torch.randn(6, 5, generator=torch.Generator().manual_seed(5)).double() * 0.2
    of_tokens = torch.where(MASK, draws.exp(), math.nan)
    of_rows = torch.where(MASK, draws, 0.0).sum(dim=1, keepdim=True).exp()
    config = GRPOLossConfig("vespo", beta=0.0)
    weights = of_tokens if level == "token" else of_rows
    corrected = grpo_loss(
        logps, ADVANTAGES, MASK, old_logps=old, importance_weights=weights, config=config
    ).loss
    moved = loss_of(config, logps, old - draws)  # the same w
    torch.testing.assert_close(
        torch.autograd.grad(corrected, logps)[0], torch.autograd.grad(moved, logps)[0]
    )
    dropped = torch.where(MASK, 0.0, math.nan) if level == "token" else 0 * of_rows
    nothing = grpo_loss(
        logps, ADVANTAGES, MASK, old_logps=old, importance_weights=dropped, config=config
    ).loss
    assert torch.autograd.grad(nothing, logps)[0].abs().max() < 1e-9


def test_gspo_token_is_gspo_where_no_token_is_left_out() -> None:
    """Eq. 11 and 18: with one advantage a completion both have one value and one gradient."""
    logps, old = draw(0.05)
    found = []
    for level in ("sequence", "sequence_token"):
        options = {"importance_sampling_level": level, "epsilon": 0.03, "epsilon_high": 0.04}
        loss = loss_of(GRPOLossConfig(beta=0.0, **options), logps, old)
        found.append((loss.detach(), *torch.autograd.grad(loss, logps)))
    torch.testing.assert_close(found[0], found[1])
    # A token that is left out takes its own gradient with it; by sequence it does not.
    entropies = torch.ones(6, 5).double()
    entropies[0, 0] = 0.0
    gradients = []
    for level in ("sequence", "sequence_token"):
        config = GRPOLossConfig(
            beta=0.0, importance_sampling_level=level, top_entropy_quantile=0.9, epsilon_high=9.0
        )
        loss = grpo_loss(
            logps, ADVANTAGES, MASK, old_logps=old, entropies=entropies, config=config
        ).loss
        gradients.append(torch.autograd.grad(loss, logps)[0][0, 0].item())
    assert gradients[0] != 0 and gradients[1] == 0


def test_gmpo_is_clipped_by_token() -> None:
    """A token beyond the bound loses its gradient alone, and counts as the bound in the mean."""
    logps = torch.tensor([[0.9, 0.1, -0.9, 5.0]], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1, 1, 1, 0]])
    for advantage, held, mean in (
        (1.0, 0, (0.4 + 0.1 - 0.9) / 3),
        (-1.0, 2, (0.9 + 0.1 - 0.4) / 3),
    ):
        result = grpo_loss(
            logps, torch.tensor([advantage]), mask, old_logps=torch.zeros(1, 4).double(),
            config=GRPOLossConfig("gmpo", beta=0.0, epsilon=0.4),
        )  # fmt: skip
        assert result.loss.item() == pytest.approx(-advantage * math.exp(mean))
        [gradient] = torch.autograd.grad(result.loss, logps)
        learned = torch.tensor([[at not in (held, 3) for at in range(4)]])
        torch.testing.assert_close(gradient, learned.double() * -advantage * math.exp(mean) / 3)
        side = "high" if advantage > 0 else "low"
        assert result.metrics[f"clip_ratio/{side}_mean"].item() == pytest.approx(1 / 3)


@pytest.mark.parametrize("loss_type", ["gmpo", "vespo"])
@pytest.mark.parametrize("drift", [-1e4, -30.0, 30.0, 1e4])
def test_far_off_policy_stays_finite(loss_type: Any, drift: float) -> None:
    """float32, where exp of more than 88 is infinite."""
    logps = torch.full((2, 500), -1.0, requires_grad=True)
    result = grpo_loss(
        logps, torch.tensor([1.0, -1.0]), torch.ones(2, 500),
        old_logps=torch.full((2, 500), -1.0 - drift), config=GRPOLossConfig(loss_type, beta=0.0),
    )  # fmt: skip
    result.loss.backward()
    assert result.loss.isfinite() and logps.grad is not None and logps.grad.isfinite().all()
    assert all(value.isfinite() for value in result.metrics.values())
    if loss_type == "vespo":
        assert (logps.grad == 0).all()


def test_a_steep_kernel_is_held() -> None:
    logps = torch.tensor([[math.log(0.01)]], requires_grad=True)
    result = grpo_loss(
        logps, torch.ones(1), torch.ones(1, 1), old_logps=torch.zeros(1, 1),
        config=GRPOLossConfig("vespo", beta=0.0, vespo_k_pos=0.1, vespo_lambda_pos=200.0),
    )  # fmt: skip
    assert result.metrics["vespo/phi_seq_mean"].item() == pytest.approx(math.exp(20), rel=1e-5)


@pytest.mark.parametrize("loss", OPTIONS)
def test_the_fused_loss_says_what_it_cannot_do(loss: str) -> None:
    config = GRPOLossConfig(beta=0.0, **OPTIONS[loss])
    with pytest.raises(UsageError, match=r"(loss_type|importance_sampling_level) \w+ is none of"):
        TokenObjective.of_part(
            ADVANTAGES, MASK, old_logps=None, ref_logps=None, importance_weights=None,
            entropy_mask=None, config=config, totals=StepTotals(6, 15, 15, 15),
        )  # fmt: skip


@pytest.mark.parametrize("loss_type", ["gmpo", "vespo"])
def test_a_ratio_by_sequence_is_refused(loss_type: Any) -> None:
    for level in ("sequence", "sequence_token"):
        with pytest.raises(UsageError, match=rf"importance_sampling_level {level} has no meaning"):
            GRPOLossConfig(loss_type, importance_sampling_level=level)  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", OPTIONS)
def test_parts_of_a_step_add_up(loss: str) -> None:
    """Rank by rank and row by row: the mean over ranks is the loss of the whole step."""
    logps, old = draw(0.2)
    config = GRPOLossConfig(beta=0.0, **OPTIONS[loss])
    whole = loss_of(config, logps, old)
    totals = StepTotals(6, int(MASK.sum()), int(MASK.sum()), int(MASK.sum()), world_size=2)
    parts = [
        part_loss(
            logps[row : row + 1], ADVANTAGES[row : row + 1], MASK[row : row + 1],
            old_logps=old[row : row + 1], config=config, totals=totals,
        ).loss
        for row in range(6)
    ]  # fmt: skip
    assert (sum(parts) / 2).item() == pytest.approx(whole.item(), rel=1e-12)
