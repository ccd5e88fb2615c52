"""The coefficient of the entropy bonus follows the entropy: by hand, as TRL's, in a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import BASE, fit, logged, moments

from r1omni.ops import GRPOLossConfig, grpo_loss
from r1omni.training import GRPOConfig
from r1omni.training.adaptive_entropy import AdaptiveEntropy, EntropyCoefficient
from r1omni.types import UsageError

RECORDED = Path(__file__).parents[1] / "fixtures" / "peer_losses" / "cases.json"
NO_KL = GRPOLossConfig(beta=0.0)


def adaptive(start: float = 0.0, **options: Any) -> EntropyCoefficient:
    loss = GRPOLossConfig(beta=0.0, entropy_coef=start)
    return EntropyCoefficient(GRPOConfig(loss=loss, adaptive_entropy=AdaptiveEntropy(**options)))


def test_the_coefficient_by_hand() -> None:
    found = adaptive(0.02, target=1.0, coef_delta=0.01, coef_min=0.01, coef_max=0.03)
    assert found.in_force == 0.0  # nothing is known yet
    for entropy, coefficient, is_in_force in (
        (1.0, 0.03, True), (0.5, 0.03, True), (1.1, 0.02, False), (3.0, 0.01, False),
        (9.0, 0.01, False), (0.9, 0.02, True),
    ):  # fmt: skip
        found.observe(entropy)
        assert found.state(())["coef"] == pytest.approx(coefficient)  # type: ignore[index]
        assert found.in_force == pytest.approx(coefficient if is_in_force else 0.0)
    other = adaptive(0.0, target=1.0, coef_max=0.015)
    other.load(found.state(()))
    assert other.in_force == 0.015  # within the bounds of the run that goes on
    other.load(None)  # a checkpoint of a run without
    assert other.in_force == 0.015


def test_the_coefficient_and_the_bonus_are_those_of_trl() -> None:
    [case] = [c for c in json.loads(RECORDED.read_text()) if c["loss"] == "adaptive_entropy"]
    given = {name: torch.tensor(v, dtype=torch.float64) for name, v in case["inputs"].items()}
    options = case["options"]
    found = adaptive(
        options["entropy_coef"], target=options["entropy_target"],
        **{name: options[f"entropy_{name}"] for name in ("coef_delta", "coef_min", "coef_max")},
    )  # fmt: skip
    seen = set()
    for step in case["steps"]:
        loss = found.config_in_force().loss
        seen.add(loss.entropy_coef)
        summed, tokens = 0.0, 0.0
        for half, wanted in enumerate(step["gradients"]):
            mask = given[f"mask_{half}"]
            entropies = (step["scale"] * given[f"entropies_{half}"]).requires_grad_()
            result = grpo_loss(
                torch.zeros_like(mask), torch.zeros(len(mask)), mask, entropies=entropies,
                config=loss, grad_accumulation=2,
            )  # fmt: skip
            [gradient] = (
                torch.autograd.grad(result.loss, entropies)
                if loss.entropy_coef else [torch.zeros_like(mask)]
            )  # fmt: skip
            torch.testing.assert_close(gradient, torch.tensor(wanted, dtype=torch.float64))
            summed += float((entropies.detach() * mask).sum())
            tokens += float(mask.sum())
        found.observe(summed / tokens)
        assert found.state(())["coef"] == pytest.approx(step["coef_after"])  # type: ignore[index]
    assert 0.0 in seen and len(seen) > 3 and options["entropy_coef_max"] in seen


@pytest.mark.parametrize(
    ("options", "start", "named"),
    [
        ({"target": 0.0}, 0.0, "target is 0.0"),
        ({"coef_delta": 0.01}, 0.0, "coef_delta is 0.01, but has an effect only with"),
        ({"target": 1.0, "coef_min": 1.0}, 1.0, "coef_min 1.0 is not below coef_max 1.0"),
        ({"target": 1.0, "coef_min": 0.1}, 0.0, "entropy_coef 0.0 is where the coefficient starts"),
        ({"target": 1.0}, -0.1, "entropy_coef -0.1 is where"),
    ],
)
def test_refused(options: dict[str, Any], start: float, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        adaptive(start, **options)
    config = GRPOConfig(loss=NO_KL, adaptive_entropy=AdaptiveEntropy(1.0), log_entropy=False)
    assert config.with_entropy
    with pytest.raises(UsageError, match=r"always .* grpo\.adaptive_entropy\.target 1\.0"):
        replace(config, fused_loss="always")


def test_a_run_follows_its_entropy_and_a_resume_goes_on(
    mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    grpo = replace(
        BASE, loss=NO_KL, log_entropy=False,
        adaptive_entropy=AdaptiveEntropy(9.0, coef_delta=0.1),
    )  # fmt: skip
    first = fit(mini_world, tmp_path, grpo, steps=2)
    # The first step has no bonus, the second that of the first one's entropy.
    assert logged(first)["entropy_coef"] == pytest.approx(0.1)
    assert 3 < logged(first)["entropy"] < 9
    state: Any = first.entropy_coef.state(())
    assert state["coef"] == pytest.approx(0.2)
    assert state["entropy"] == pytest.approx(logged(first)["entropy"], rel=1e-5)
    path = tmp_path / "step_2.ckpt"
    first.trainer.save_checkpoint(path)
    whole = fit(mini_world, tmp_path, grpo, steps=3)
    resumed = fit(mini_world, tmp_path, grpo, steps=3, ckpt_path=path)
    assert logged(resumed)["entropy_coef"] == pytest.approx(0.2)
    torch.testing.assert_close(moments(resumed), moments(whole), rtol=0, atol=0)
    plain = fit(mini_world, tmp_path, replace(BASE, loss=NO_KL), steps=3)
    assert (moments(plain) - moments(whole)).norm() > 1e-3 * moments(plain).norm()
    assert "entropy_coef" not in logged(plain)
