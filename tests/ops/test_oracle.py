"""Parity with the losses, gradients, metrics and advantages recorded from TRL 1.16."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from r1omni.ops import (
    GRPOLossConfig,
    entropy,
    group_advantages,
    grpo_loss,
    reward_metrics,
    selective_logprob,
)

ORACLE = Path(__file__).parents[1] / "fixtures" / "grpo_oracle"
CASES = json.loads((ORACLE / "cases.json").read_text())
ADVANTAGES = json.loads((ORACLE / "advantages.json").read_text())
CONFIG_KEYS = GRPOLossConfig.__dataclass_fields__.keys() & CASES[0].keys()


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(ORACLE / "model", dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tensors():
    return load_file(ORACLE / "cases.safetensors")


def run_case(case, model, tensors):
    """The loss of a recorded batch, and the gradients of the model's parameters."""
    prefix = f"{case['id']}/batch/"
    batch = {key[len(prefix) :]: t for key, t in tensors.items() if key.startswith(prefix)}
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    model.zero_grad()
    logits = model(input_ids=ids, attention_mask=attention).logits
    logits = logits[:, batch["prompt_ids"].shape[1] - 1 : -1]
    config = GRPOLossConfig(**{key: case[key] for key in CONFIG_KEYS})
    result = grpo_loss(
        selective_logprob(logits, batch["completion_ids"], config.temperature),
        batch["advantages"],
        batch["completion_mask"],
        old_logps=batch["old_per_token_logps"],
        ref_logps=batch.get("ref_per_token_logps"),
        entropies=entropy(logits, config.temperature),
        config=config,
        num_batch_tokens=batch["num_items_in_batch"],
        grad_accumulation=case["gradient_accumulation_steps"],
        steps_per_generation=case["steps_per_generation"],
    )
    result.loss.backward()
    return result, {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['id']}-{c['loss_type']}")
def test_loss_gradients_and_metrics(case, model, tensors):
    result, gradients = run_case(case, model, tensors)
    assert result.loss.item() == pytest.approx(case["loss"], abs=1e-5)
    prefix = f"{case['id']}/grad/"
    recorded = {key[len(prefix) :]: t for key, t in tensors.items() if key.startswith(prefix)}
    assert recorded
    for name, expected in recorded.items():
        # Entries reach 5, where float32 itself, through another attention, is 2e-5 off.
        scale = max(1.0, expected.abs().max().item())
        torch.testing.assert_close(gradients[name], expected, atol=1e-5 * scale, rtol=0)
    norm = torch.stack([g.norm() for g in gradients.values() if g is not None]).norm()
    torch.testing.assert_close(norm, tensors[f"{case['id']}/grad_norm"], atol=1e-5, rtol=1e-5)
    for name, expected in case["metrics"].items():
        assert result.metrics[name].item() == pytest.approx(expected, abs=1e-5), name


@pytest.mark.parametrize("case", ADVANTAGES, ids=range(len(ADVANTAGES)))
def test_advantages_and_reward_metrics(case):
    rewards = torch.tensor(
        [[float("nan") if r is None else r for r in row] for row in case["rewards"]]
    )
    weights = None if case["reward_weights"] is None else torch.tensor(case["reward_weights"])
    options = {"scale": case["scale_rewards"], "aggregation": case["aggregation"]}
    advantages = group_advantages(rewards, case["num_generations"], weights, **options)
    torch.testing.assert_close(advantages, torch.tensor(case["advantages"]), atol=1e-5, rtol=0)
    metrics = reward_metrics(rewards, case["num_generations"], weights, **options)
    for name in ("reward", "reward_std", "frac_reward_zero_std"):
        assert metrics[name].item() == pytest.approx(case[name], abs=1e-5), name
