"""CHORD: imitation beside the rollouts, by hand in float64 and through the trainer."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import BASE, EXPERT, fit, logged, moments
from torch import Tensor

from r1omni.data import DatasetSpec
from r1omni.ops import Chord, GRPOLossConfig, StepTotals, imitation_loss
from r1omni.training import GRPOModule, grpo
from r1omni.training.imitation import imitate
from r1omni.types import UsageError

CHORD = Chord(0.5, phi=True, num_samples=4)


@pytest.mark.parametrize(
    ("chord", "shares"),
    [
        (Chord(0.3), [0.3] * 6),
        (Chord(0.4, mu_warmup_steps=2), [0.0, 0.2, 0.4, 0.4, 0.4, 0.4]),
        (Chord(0.9, 0.1, 1, 4), [0.0, 0.9, 0.5 + 0.4 * math.sqrt(0.5), 0.5,
                                 0.5 - 0.4 * math.sqrt(0.5), 0.1, 0.1]),
        (Chord(), [0.0] * 3),
    ],
)  # fmt: skip
def test_the_share_by_hand(chord: Chord, shares: list[float]) -> None:
    assert [chord.mu(step) for step in range(len(shares))] == pytest.approx(shares)


@pytest.mark.parametrize("phi", [False, True])
def test_the_term_derived_from_probabilities(phi: bool) -> None:
    """d/d logits of -phi log softmax is phi (softmax - one-hot), phi a constant."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    ids = torch.randint(7, (3, 4), generator=generator)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()
    logps = logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    spoilt = torch.where(mask, logps, math.nan)
    loss = imitation_loss(spoilt, mask, 7, phi)
    [found] = torch.autograd.grad(loss, logits)
    p = logits.detach().softmax(-1)
    value, wanted = 0.0, torch.zeros_like(p)
    for row, at in mask.nonzero().tolist():
        of_target = float(p[row, at, ids[row, at]])
        weight = of_target * (1 - of_target) if phi else 1.0
        value -= weight * math.log(of_target) / 7
        wanted[row, at] = weight * p[row, at] / 7
        wanted[row, at, ids[row, at]] -= weight / 7
    assert float(loss) == pytest.approx(value, rel=1e-12)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-14)
    parts = sum(imitation_loss(spoilt[row, None], mask[row, None], 7, phi) for row in range(3))
    assert float(parts) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"mu_peak": 1.5}, "mu_peak is 1.5"),
        ({"num_samples": 4}, "num_samples is 4, but has an effect only with grpo.chord.mu_peak"),
        ({"mu_peak": 0.5, "mu_valley": 0.1}, "mu_valley is 0.1, .* only with .*mu_decay_steps"),
        ({"mu_peak": 0.1, "mu_valley": 0.5, "mu_decay_steps": 2}, "mu_valley 0.5 is above mu_peak"),
    ],
)
def test_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        Chord(**options)


@pytest.fixture(autouse=True)
def rewards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))


def gradient(module: GRPOModule) -> Tensor:
    found = [p.grad for p in module.parameters() if p.grad is not None]
    return torch.cat([one.flatten().clone() for one in found])


def watched(module: Any, totals: StepTotals) -> None:
    """Keeps the gradient of an update before and after it imitates, and the term's own."""
    trained = [p for p in module.parameters() if p.requires_grad]
    module.of_rollouts = gradient(module)
    batch = module.datamodule.draw_expert(4, ("expert", module.grpo.seed, 0))
    assert len({sample.sample_id for sample in batch.samples}) == 4
    ids, mask = module.targets(batch)
    logps, _ = module.model.completion_logps(module.encoded_prompts(batch), ids, mask)
    p = logps.detach().exp()
    term = -(p * (1 - p) * logps)[mask].mean()
    module.term = float(term.detach())
    module.of_term = torch.cat([g.flatten() for g in torch.autograd.grad(0.5 * term, trained)])
    imitate(module, totals)
    module.whole = gradient(module)


def test_an_update_mixes_both_losses(
    mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = replace(BASE, loss=GRPOLossConfig(beta=0.0), max_grad_norm=None)
    alone = fit(mini_world, tmp_path, base)
    monkeypatch.setattr(grpo, "imitate", watched)
    module = fit(mini_world, tmp_path, replace(base, chord=CHORD), expert=EXPERT)
    figures = logged(module)
    assert figures["chord/mu"] == 0.5
    assert figures["chord/sft_loss"] == pytest.approx(module.term, rel=1e-5)
    wanted = logged(alone)["loss"] / 2 + figures["chord/sft_loss"] / 2
    assert figures["loss"] == pytest.approx(wanted, rel=1e-5)
    # Adam's first moment is a tenth of the gradient; the optimizer has another order of weights.
    halves = (module.of_rollouts.sort().values, (5 * moments(alone)).sort().values)
    torch.testing.assert_close(*halves, rtol=1e-4, atol=1e-7)
    of_both = module.of_rollouts + module.of_term
    torch.testing.assert_close(module.whole, of_both, rtol=1e-4, atol=1e-7)
    assert module.of_term.norm() > 1e-3  # fresh weights give every token a small p


def test_other_samples_come_in_another_step_and_a_resume_goes_on(
    mini_world: Path, tmp_path: Path
) -> None:
    # The first of the two steps of a rollout imitates nothing.
    chord = replace(CHORD, mu_warmup_steps=1)
    settings = replace(BASE, chord=chord, micro_batch_size=3, num_iterations=2)
    first = fit(mini_world, tmp_path, settings, steps=2, expert=EXPERT)
    assert logged(first)["chord/mu"] == 0.5 and logged(first)["chord/sft_loss"] > 0
    draws = [
        [s.sample_id for s in first.datamodule.draw_expert(4, ("expert", 0, step)).samples]
        for step in (0, 0, 1)
    ]
    assert draws[0] == draws[1] != draws[2]
    path = tmp_path / "step_2.ckpt"
    first.trainer.save_checkpoint(path)
    whole = fit(mini_world, tmp_path, settings, steps=4, expert=EXPERT)
    resumed = fit(mini_world, tmp_path, settings, steps=4, ckpt_path=path, expert=EXPERT)
    torch.testing.assert_close(moments(resumed), moments(whole), rtol=0, atol=0)
    parts = fit(
        mini_world, tmp_path, replace(settings, micro_batch_size=None), steps=4, expert=EXPERT
    )
    torch.testing.assert_close(moments(parts), moments(whole), rtol=1e-4, atol=1e-7)


def test_what_does_not_belong_together_is_refused(mini_world: Path, tmp_path: Path) -> None:
    imitating = replace(BASE, chord=CHORD)
    few = [replace(EXPERT[0], sampling="first:3")]
    bare = [DatasetSpec("emer", "EMER")]
    for settings, expert, named in (
        (BASE, EXPERT, r"data\.expert has an effect only with grpo\.chord\.mu_peak"),
        (imitating, None, r"num_samples 4 .* data\.expert has 0 samples"),
        (imitating, few, r"num_samples 4 .* data\.expert has 3 samples"),
        (imitating, bare, r"data\.expert: .* have a target of more than 8 .*grpo\.max_new_tokens"),
        (None, EXPERT, r"data\.expert is what GRPO imitates"),
    ):
        with pytest.raises(UsageError, match=named) as caught:
            fit(mini_world, tmp_path, settings, expert=expert)
        assert "\n" not in str(caught.value)
