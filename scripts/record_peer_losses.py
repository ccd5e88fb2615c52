"""Record what peers' code computes for losses that tests/fixtures/grpo_oracle lacks.

    pip install --target PEERS --no-deps trl==1.16.0 verl==0.7.0 datasets multiprocess dill xxhash
    PYTHONPATH=PEERS python scripts/record_peer_losses.py

writes tests/fixtures/peer_losses/cases.json: the inputs of each case in float64, and loss,
gradients and metrics of TRL's own `GRPOTrainer._compute_loss` (VESPO, the adaptive entropy
coefficient) and of verl's own policy losses (GMPO, GSPO-token). `tests/ops/test_peer_losses.py` and
`tests/training/test_adaptive_entropy.py` compare with it. Only what the formulas do not touch is
stood in for: the model's forward pass, and packages of verl that schedule processes.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import torch
from script_options import ScriptParser
from torch import Tensor

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "peer_losses" / "cases.json"
PEERS = {"trl": "1.16.0", "verl": "0.7.0"}
N, C = 6, 5
LENGTHS = (5, 4, 1, 3, 5, 2)
ADVANTAGES = (1.3, -0.7, 0.4, -1.6, 0.6, -0.2)


def main() -> None:
    ScriptParser(description=__doc__.splitlines()[0]).parse_args()
    for name, wanted in PEERS.items():
        if version(name) != wanted:
            sys.exit(f"{name} {version(name)} is installed; the cases are of {wanted}")
    cases = [*vespo(), *adaptive_entropy(), *of_verl()]
    OUT.parent.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(case) for case in cases)
    OUT.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(f"wrote {len(cases)} cases to {OUT}")


def drawn(seed: int, spread: float) -> dict[str, Tensor]:
    """Log-probabilities [N, C] whose ratios spread so far from 1, and what belongs to them."""
    draw = torch.Generator().manual_seed(seed)

    def normal() -> Tensor:
        return torch.randn(N, C, generator=draw, dtype=torch.float64)

    logps = -normal().abs() - 0.1
    return {
        "logps": logps,
        "old_logps": logps + spread * normal(),
        "ref_logps": logps + 0.3 * normal(),
        "entropies": normal().abs(),
        "advantages": torch.tensor(ADVANTAGES, dtype=torch.float64),
        "mask": (torch.arange(C)[None] < torch.tensor(LENGTHS)[:, None]).double(),
    }


def case_of(peer: str, name: str, options: dict[str, Any], **found: Any) -> dict[str, Any]:
    """One line of the file; tensors as lists."""
    as_lists = {
        key: {k: v.tolist() for k, v in value.items()} if key == "inputs" else value
        for key, value in found.items()
    }
    return {"peer": f"{peer} {PEERS[peer.lower()]}", "loss": name, "options": options, **as_lists}


# TRL -------------------------------------------------------------------------------------------


def trl_trainer(loss_type: str, steps: int = 1, **options: Any) -> tuple[Any, Any]:
    """TRL's class, and what its `_compute_loss` reads of a trainer."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    args = SimpleNamespace(
        delta=None, use_bias_correction_kl=options.get("use_bias_correction_kl", False),
        steps_per_generation=steps, vespo_k_pos=2.0, vespo_lambda_pos=3.0, vespo_k_neg=3.0,
        vespo_lambda_neg=2.0,
    )  # fmt: skip
    vars(args).update(options)
    accelerator = SimpleNamespace(
        num_processes=1, sync_gradients=True, gather=lambda value: value.reshape(-1),
        reduce=lambda value, reduction="sum": value,
    )  # fmt: skip
    return GRPOTrainer, SimpleNamespace(
        args=args, accelerator=accelerator, loss_type=loss_type, beta=options.get("beta", 0.0),
        epsilon_low=0.2, epsilon_high=0.2, importance_sampling_level="token",
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, aux_loss_enabled=False,
        use_vllm=False, vllm_importance_sampling_correction=False,
        current_gradient_accumulation_steps=1, model=SimpleNamespace(training=True),
        get_gamma_weights=GRPOTrainer.get_gamma_weights,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _entropy_bonus_enabled=False, use_adaptive_entropy=False, entropy_coef=0.0,
        _last_world_entropy=float("inf"), _entropy_window_stats=None,
    )  # fmt: skip


def trl_loss(kind: Any, trainer: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of a micro-batch, and its gradients in log-probabilities and entropies."""
    logps, entropies = (inputs[name].clone().requires_grad_() for name in ("logps", "entropies"))
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (logps, entropies, None)
    mask = inputs["mask"]
    given = {
        "prompt_ids": torch.zeros(N, 1), "prompt_mask": torch.ones(N, 1),
        "completion_ids": torch.zeros(N, C), "completion_mask": mask,
        "advantages": inputs["advantages"], "old_per_token_logps": inputs["old_logps"],
        "ref_per_token_logps": inputs["ref_logps"], "num_items_in_batch": mask.sum(),
    }  # fmt: skip
    if "importance_weights" in inputs:
        given["importance_sampling_ratio"] = inputs["importance_weights"]
    loss = kind._compute_loss(trainer, None, given)
    of_entropies = torch.zeros_like(entropies)
    loss.backward()
    return loss.detach(), logps.grad, of_entropies if entropies.grad is None else entropies.grad


def vespo() -> Iterator[dict[str, Any]]:
    """Near the sampling policy and far from it, with other kernels, the KL, and a correction."""
    others = {
        "vespo_k_pos": 1.5,
        "vespo_lambda_pos": 0.5,
        "vespo_k_neg": 0.7,
        "vespo_lambda_neg": 4.0,
    }
    kl: dict[str, Any] = {"beta": 0.1}
    settings: list[tuple[float, dict[str, Any], bool]] = [
        (0.1, {}, False), (0.8, {}, False), (0.3, others, False), (0.2, {}, True),
        (0.2, kl, False), (0.2, {**kl, "use_bias_correction_kl": True, **others}, True),
    ]  # fmt: skip
    for seed, (spread, options, corrected) in enumerate(settings):
        inputs = drawn(seed, spread)
        if corrected:  # as its sampler leaves them: 1 where the mask is 0
            weights = (0.2 * torch.randn(N, C, generator=torch.Generator().manual_seed(9))).exp()
            inputs["importance_weights"] = torch.where(inputs["mask"] > 0, weights.double(), 1.0)
        kind, trainer = trl_trainer("vespo", steps=2, **options)
        loss, gradient, _ = trl_loss(kind, trainer, inputs)
        metrics = {name: values[0] for name, values in trainer._metrics["train"].items()}
        yield case_of(
            "TRL", "vespo", options, inputs=inputs, steps_per_generation=2, value=loss.item(),
            gradient=gradient.tolist(), metrics=metrics,
        )  # fmt: skip


def adaptive_entropy() -> Iterator[dict[str, Any]]:
    """Optimizer steps one after another, of two micro-batches each, around the target."""
    options = {"entropy_target": 0.8, "entropy_coef_delta": 0.02, "entropy_coef_min": 0.01,
               "entropy_coef_max": 0.06}  # fmt: skip
    kind, trainer = trl_trainer("grpo", **options)
    trainer._entropy_bonus_enabled = trainer.use_adaptive_entropy = True
    trainer.entropy_coef = 0.03
    trainer.current_gradient_accumulation_steps = 2
    halves = [drawn(20, 0.1), drawn(21, 0.1)]
    steps = []
    for scale in (1.5, 0.6, 0.5, 0.4, 1.4, 1.6, 1.7, 1.8, 1.9, 0.3, 0.2):
        gradients = []
        for last, inputs in enumerate(halves):
            trainer.accelerator.sync_gradients = bool(last)
            scaled = {**inputs, "entropies": scale * inputs["entropies"]}
            gradients.append(trl_loss(kind, trainer, scaled)[2].tolist())
        coef = trainer.entropy_coef
        steps.append({"scale": scale, "gradients": gradients, "coef_after": coef})
    for inputs in halves:  # what the controller never sees
        for name in inputs.keys() - {"entropies", "mask"}:
            del inputs[name]
    both = {f"{name}_{at}": value for at, half in enumerate(halves) for name, value in half.items()}
    yield case_of(
        "TRL", "adaptive_entropy", {**options, "entropy_coef": 0.03}, inputs=both, steps=steps
    )


# verl ------------------------------------------------------------------------------------------


def of_verl() -> Iterator[dict[str, Any]]:
    """GMPO, and GSPO as verl has it: by token, with the value of the sequence."""
    for name in ("ray", "ray.util", "ray.actor", "ray.util.scheduling_strategies", "tensordict",
                 "tensordict.tensorclass", "verl.workers.config"):  # fmt: skip
        sys.modules.setdefault(name, MagicMock())
    from verl.trainer.ppo import core_algos

    class Settings(SimpleNamespace):
        """What a policy loss reads of verl's actor; it looks at the type."""

    core_algos.ActorConfig = Settings
    for loss, spread, low, high in (
        ("gmpo", 0.3, 0.4, 0.4), ("gmpo", 1.0, 0.2, 0.5),
        ("gspo_token", 0.02, 3e-4, 4e-4), ("gspo_token", 0.4, 0.1, 0.2),
    ):  # fmt: skip
        inputs = drawn(int(100 * spread), spread)
        settings = Settings(
            clip_ratio=low, clip_ratio_low=low, clip_ratio_high=high, global_batch_info={},
            policy_loss=SimpleNamespace(),
        )  # fmt: skip
        logps = inputs["logps"].clone().requires_grad_()
        compute = {"gmpo": "geo_mean", "gspo_token": "gspo"}[loss]
        value, metrics = core_algos.get_policy_loss_fn(compute)(
            old_log_prob=inputs["old_logps"], log_prob=logps, response_mask=inputs["mask"],
            advantages=inputs["advantages"][:, None].expand(N, C), config=settings,
        )  # fmt: skip
        value.backward()
        assert logps.grad is not None
        yield case_of(
            "verl", loss, {"epsilon": low, "epsilon_high": high}, inputs=inputs,
            value=value.item(), gradient=logps.grad.tolist(), metrics=metrics,
        )  # fmt: skip


if __name__ == "__main__":
    main()
