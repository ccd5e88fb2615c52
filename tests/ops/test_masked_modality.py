"""The masked-modality term, worked out by hand, and what its options refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from r1omni.ops import GRPOLossConfig, MaskedModality, StepTotals, part_loss
from r1omni.ops.masked_modality import masked_modality_term
from r1omni.types import UsageError

NAN = float("nan")
CONFIG = MaskedModality(weight=0.5, margin=1.0)
# Two ranks share six pairs of evidence; this part has five.
TOTALS = StepTotals(4, 10, 10, 10, world_size=2, evidence_tokens=6)


def tensors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    logps = torch.tensor([[-1.0, -2.0, -0.5], [-6.0, NAN, -1.0]], dtype=torch.float64)
    masked = torch.full((2, 3, 2), NAN)
    evidence = torch.zeros(2, 3, 2, dtype=torch.bool)
    for row, token, medium, value in (
        (0, 0, 0, -1.25),  # gap 0.25: 0.75 below the margin
        (0, 1, 1, -4.0),  # gap 2: enough
        (0, 2, 0, 0.0),  # gap -0.5: 1.5 below
        (0, 2, 1, -1.5),  # gap 1: at the margin
        (1, 0, 0, -2.0),  # gap -4: 5 below
    ):
        masked[row, token, medium], evidence[row, token, medium] = value, True
    return logps.requires_grad_(), masked.requires_grad_(), evidence


def test_the_hinge_by_hand() -> None:
    logps, masked, evidence = tensors()
    term, figures = masked_modality_term(logps, masked, evidence, CONFIG, TOTALS)
    # Of a rank: divided by 6 / 2.
    assert float(term.detach()) == pytest.approx(0.5 * (0.75 + 1.5 + 5) / 3)
    assert {name: float(value) for name, value in figures.items()} == pytest.approx({
        "masked_modality/loss": 0.5 * 7.25 / 3, "masked_modality/gap": -1.25 / 3,
        "masked_modality/below_margin": 3 / 3, "masked_modality/tokens": 10,
    })  # fmt: skip
    term.backward()
    # Without the medium, what is below the margin is pushed down; with it, nothing is pushed.
    assert logps.grad is None and masked.grad is not None
    expected = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(masked.grad.sum(dim=2), 0.5 / 3 * expected)


def test_it_is_added_to_the_loss_where_the_tokens_are_learned_from() -> None:
    logps, masked, evidence = tensors()
    mask = torch.tensor([[True, True, False], [True, False, True]])
    given: dict[str, Any] = {"config": GRPOLossConfig(beta=0.0), "totals": TOTALS}
    plain = part_loss(logps, torch.ones(2), mask, **given)
    found = part_loss(
        logps, torch.ones(2), mask, evidence=evidence, masked_logps=masked,
        masked_modality=CONFIG, **given,
    )  # fmt: skip
    assert float((found.loss - plain.loss).detach()) == pytest.approx(0.5 * (0.75 + 5) / 3)
    assert found.step_metrics == found.metrics.keys() - plain.metrics.keys()
    with pytest.raises(UsageError, match="needs evidence and masked_logps"):
        part_loss(logps, torch.ones(2), mask, masked_modality=CONFIG, **given)
    none = StepTotals(4, 10, 10, 10)  # a step without evidence divides by 1
    assert not masked_modality_term(logps, masked, evidence & False, CONFIG, none)[0].detach()
    with pytest.raises(UsageError, match=r"evidence has shape \[2, 3, 2\].*\[2, 3, 1\]"):
        masked_modality_term(logps, masked[..., :1], evidence, CONFIG, none)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"margin": 2.0}, "margin is 2.0, but has an effect only with .*weight above 0"),
        ({"modalities": ["audio"]}, "modalities is .'audio'., but has an effect only with"),
        ({"weight": 1.0, "modalities": ["audio", "audio"]}, "modalities .* each medium once"),
        ({"weight": 1.0, "modalities": []}, "modalities is empty; use any of video, audio"),
        ({"weight": 1.0, "modalities": ["text"]}, "modalities 'text' is unknown"),
        ({"weight": -1.0}, "weight is -1.0"),
        ({"weight": 1.0, "margin": -0.5}, "margin is -0.5"),
    ],
)
def test_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=r"grpo\.masked_modality\." + named):
        MaskedModality(**options)
