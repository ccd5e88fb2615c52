"""Numbers that went wrong: the run ends before the weights change, and the batch is kept."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from small_training import BASE, SGD_LIKE, fit, weights
from step_cases import halves

from r1omni.data import DatasetSpec, EmotionDataModule
from r1omni.data.loader_config import LoaderConfig
from r1omni.models.adapters import LoRAConfig
from r1omni.ops import MaskedModality
from r1omni.training import GRPOModule, SFTModule, evidence
from r1omni.training.checkpoints import trained_state
from r1omni.training.nonfinite import keep_batch, replay
from r1omni.types import R1OmniError

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _rewards_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))


class _Kept(GRPOModule):
    """Remembers itself, its losses and what it was at the second update."""

    seen: list[_Kept]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.losses: list[float] = []
        type(self).seen = [self]

    def loss(self, part: Any, totals: Any) -> Any:
        if self.global_step == 1:
            part = self.spoil(part)
            self.part, self.totals, self.before = part, totals, weights(self)
        result = super().loss(part, totals)
        self.losses.append(float(result.loss.detach()))
        return result

    def _kept(self, part: Any, totals: Any) -> dict[str, Any]:
        return super()._kept(self.part, totals)

    def spoil(self, part: Any) -> Any:
        return part


class _WrongAdvantage(_Kept):
    def spoil(self, part: Any) -> Any:
        advantages = part.advantages.clone()
        advantages[5] = float("inf")
        return replace(part, advantages=advantages)


class _WrongWeight(_Kept):
    @torch.no_grad()
    def spoil(self, part: Any) -> Any:
        self.model.language_model.norm.weight[3] = float("nan")
        return part


def stopped(mini_world: Path, tmp_path: Path, seen: type[_Kept]) -> tuple[str, _Kept]:
    with pytest.raises(R1OmniError, match="step 1, rank 0: the loss is") as caught:
        fit(mini_world, tmp_path, BASE, steps=3, seen=seen)
    [module] = seen.seen
    assert module.global_step == 1
    now = weights(module)
    assert all(
        torch.equal(old.nan_to_num(), now[n].nan_to_num()) for n, old in module.before.items()
    )
    return str(caught.value), module


def test_a_wrong_input_is_found_again(mini_world: Path, tmp_path: Path) -> None:
    message, module = stopped(mini_world, tmp_path, _WrongAdvantage)
    path = tmp_path / "nonfinite" / "step_000001_rank_0.pt"
    assert f"scripts/replay_batch.py {path}" in message and "\n" not in message
    assert all(sample.sample_id in message for sample in module.part.samples)
    found = replay(path)
    assert (found.weights, found.inputs, found.samples) == ((), ("grpo.advantages",), ())
    assert not abs(found.loss) < float("inf")


def test_a_wrong_weight_is_found_again(
    mini_world: Path, tmp_path: Path, forked_python: Path
) -> None:
    _, module = stopped(mini_world, tmp_path, _WrongWeight)
    path = tmp_path / "nonfinite" / "step_000001_rank_0.pt"
    found = replay(path)
    assert (found.weights, found.inputs) == (("language_model.norm.weight",), ())
    assert found.samples == tuple(sample.sample_id for sample in module.part.samples)
    # As a person runs it.
    script = [str(forked_python), str(REPOSITORY / "scripts" / "replay_batch.py")]
    shown = subprocess.run([*script, str(path)], capture_output=True, text=True, check=True).stdout
    assert "weights that are not finite: language_model.norm.weight\n" in shown
    assert "inputs that are not finite: none\n" in shown
    gone = subprocess.run([*script, str(tmp_path / "none.pt")], capture_output=True, text=True)
    assert gone.returncode == 1
    assert gone.stderr.startswith("replay_batch: error:") and gone.stderr.count("\n") == 1


@pytest.mark.parametrize("lora", [None, LoRAConfig(rank=4, alpha=8)], ids=["whole", "lora"])
def test_a_kept_batch_gives_the_loss_it_gave(
    mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: LoRAConfig | None
) -> None:
    monkeypatch.setattr(evidence, "described", halves)
    grpo = replace(BASE, masked_modality=MaskedModality(0.5 if lora else 0.0))
    module = fit(mini_world, tmp_path, grpo, steps=2, seen=_Kept, lora=lora)
    assert isinstance(module, _Kept)
    module.model.load_state_dict(module.before, strict=False)
    origin = {"init_from": module.init_from, **module.chosen}
    trained = trained_state(module.model)
    path = keep_batch(tmp_path, 1, 0, module._kept(module.part, module.totals), trained, origin)
    found = replay(path)
    assert found.loss == pytest.approx(module.losses[1], abs=1e-6)
    assert not found.weights and not found.inputs and not found.samples and not found.gradients
    assert found.largest_gradient > 0


class _WrongTarget(SFTModule):
    """Its head is spoiled after the first step."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.global_step == 1:
            with torch.no_grad():
                self.model.audio_projector[0].weight[0, 0] = float("inf")
        return super().training_step(batch, batch_idx)


def test_supervised_training_stops_too(mini_world: Path, tmp_path: Path) -> None:
    module = _WrongTarget(str(mini_world / "init"), optimizer=SGD_LIKE)
    data = EmotionDataModule(
        root=str(mini_world / "world"),
        train=[DatasetSpec("mafw", "MAFW", sampling="first:8", options={"fold": 1})],
        loader=LoaderConfig(batch_size=4, decode_workers=0, cache_dir=str(mini_world / "cache")),
    )
    trainer = L.Trainer(
        max_steps=3, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        use_distributed_sampler=False,
    )  # fmt: skip
    with pytest.raises(R1OmniError, match=r"step 1, rank 0: the loss is nan on mafw/"):
        trainer.fit(module, data)
    found = replay(tmp_path / "nonfinite" / "step_000001_rank_0.pt")
    assert found.weights == ("audio_projector.0.weight",)
    with pytest.raises(R1OmniError, match=r"1 weights are not finite \(model\.audio_projector"):
        trainer.save_checkpoint(tmp_path / "never.ckpt")
    assert not (tmp_path / "never.ckpt").exists()
