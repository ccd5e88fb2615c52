"""The update whose logits never exist as a whole: same step, and the operators that it calls."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import BASE, fit, logged, moments
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Qwen2Config

from r1omni import kernels
from r1omni.models import OmniModel
from r1omni.models.sizes import config_from_sizes
from r1omni.ops import GRPOLossConfig, MaskedModality, StepTotals
from r1omni.training import GRPOConfig, GRPOModule
from r1omni.training.batch import RolloutBatch
from r1omni.types import Rollout, UsageError

SIZES = Path(__file__).parents[2] / "configs" / "mini" / "model.yaml"
FUSED = "r1omni.linear_grpo_loss.default"
GATHERING = "r1omni.selective_logprob.default"


class _Calls(TorchDispatchMode):
    """Counts calls of this project's operators."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func).startswith("r1omni."):
            self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


class _Counted(GRPOModule):
    """Counts what its updates call."""

    def update(self, rollouts: RolloutBatch, step: RolloutBatch) -> None:
        self.calls = _Calls()
        with self.calls:
            super().update(rollouts, step)


LOSSES = {
    "grpo": GRPOLossConfig(beta=0.1),
    "dapo": GRPOLossConfig(loss_type="dapo", beta=0.0, epsilon_high=0.28, top_entropy_quantile=0.5),
    "dr_grpo": GRPOLossConfig(loss_type="dr_grpo", beta=0.05),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_step_is_the_same(
    name: str, mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    grpo = replace(
        BASE, loss=LOSSES[name], micro_batch_size=2, num_iterations=2,
        importance_correction="token_truncate", mask_truncated_completions=name == "dapo",
    )  # fmt: skip
    train = partial(fit, mini_world, tmp_path, steps=2, seen=_Counted)
    plain = train(replace(grpo, fused_loss="never"))
    fused = train(replace(grpo, fused_loss="always"))
    # Two micro-batches an update. Scoring for the entropy mask is before the first of them.
    assert fused.calls.counts[FUSED] == 2
    scored = 2 if name == "dapo" else 0
    assert fused.calls.counts[GATHERING] == scored
    assert plain.calls.counts == {
        GATHERING: 2 + scored,
        GATHERING.replace("b.d", "b_backward.d"): 2,
    }
    wanted, found = logged(plain), logged(fused)
    for key in wanted:
        if not key.startswith(("time/", "tokens_per_second")):
            assert found[key] == pytest.approx(wanted[key], rel=1e-4, abs=1e-6), key
    torch.testing.assert_close(moments(fused), moments(plain), rtol=1e-4, atol=1e-8)


def test_entropies_are_computed_where_they_are_used_or_logged(
    mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    for fused in ("never", "always"):
        silent = replace(BASE, log_entropy=False, fused_loss=fused)
        assert not silent.with_entropy
        assert "entropy" not in logged(fit(mini_world, tmp_path, silent))
    used = replace(BASE, log_entropy=False, loss=GRPOLossConfig(entropy_coef=0.1))
    assert used.with_entropy


def test_which_updates_are_fused() -> None:
    more = GRPOConfig(loss=GRPOLossConfig(loss_type="sapo"))
    with pytest.raises(UsageError, match=r"grpo\.fused_loss always .* grpo\.loss\.loss_type sapo"):
        replace(more, fused_loss="always")
    masked = GRPOConfig(masked_modality=MaskedModality(0.5))
    with pytest.raises(UsageError, match=r"always .* grpo\.masked_modality\.weight 0\.5, .* auto"):
        replace(masked, fused_loss="always")
    with FakeTensorMode():
        on_gpu, on_cpu = torch.empty(3, device="cuda"), torch.empty(3)
        assert GRPOConfig().fuses_loss(on_gpu) and not GRPOConfig().fuses_loss(on_cpu)
        assert not more.fuses_loss(on_gpu) and not masked.fuses_loss(on_gpu)
        assert not GRPOConfig(fused_loss="never").fuses_loss(on_gpu)
        assert GRPOConfig(fused_loss="always").fuses_loss(on_cpu)
        with kernels.use("torch"):
            assert not GRPOConfig().fuses_loss(on_gpu)


def _part(model: OmniModel) -> tuple[RolloutBatch, StepTotals]:
    """Two prompts, as embeddings, with four completions each."""
    generator = torch.Generator().manual_seed(0)
    device, width = model.device, model.config.language.hidden_size
    prompts = [torch.randn(length, width, generator=generator) for length in (9, 5)]
    ids = torch.randint(0, 384, (8, 6), generator=generator).to(device)
    mask = (torch.arange(6) < torch.tensor([6, 1, 3, 4, 2, 6, 5, 2])[:, None]).to(device)
    old = -torch.rand(8, 6, generator=generator).to(device) - 5
    rollout = Rollout(
        prompts=[prompt.to(device, model.dtype) for prompt in prompts],  # type: ignore[arg-type]
        completion_ids=ids, mask=mask, logps=old, texts=("",) * 8, group_size=4, end_ids=(0,),
        prompt_lengths=(9, 5),
    )  # fmt: skip
    advantages = torch.randn(8, generator=generator).to(device)
    rewards = torch.zeros(8, 1)
    part = RolloutBatch((), rollout, rewards, ("r",), mask, advantages, rewards, old + 0.1, old)
    return part, StepTotals(8, 29, 29, 29)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_on_a_gpu_triton_computes_the_loss(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    language = Qwen2Config(
        vocab_size=1000, hidden_size=448, intermediate_size=900, num_hidden_layers=2,
        num_attention_heads=7, num_key_value_heads=1, tie_word_embeddings=True,
    )  # fmt: skip
    model = OmniModel(replace(config_from_sizes(SIZES), language=language)).to("cuda", dtype)
    part, totals = _part(model)
    found = {}
    for fused in ("never", "auto"):
        model.zero_grad()
        activities = [torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profile, _Calls() as calls:
            result, _ = part.loss_of(model, GRPOConfig(fused_loss=fused), totals)
            result.loss.backward()
        names = {event.key for event in profile.key_averages()}
        assert ("loss_kernel" in names) == (calls.counts[FUSED] == 1) == (fused == "auto")
        assert ("backward_kernel" in names) == (calls.counts[GATHERING] == 1) == (fused == "never")
        gradient = model.lm_head.weight.grad
        assert gradient is not None
        found[fused] = (result.loss.detach(), gradient.clone())
    error = 1e-4 if dtype == torch.float32 else 3e-2
    for one, other in zip(*found.values(), strict=True):
        assert (one - other).norm() <= error * other.norm()
