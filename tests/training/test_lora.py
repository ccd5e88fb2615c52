"""Training adapters: what is trained, the shared reference, resume, checkpoints, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_training import BASE, fit, logged, short_grpo, weights

from r1omni.cli import main
from r1omni.models import R1Omni
from r1omni.models.adapters import LoRAConfig
from r1omni.ops import GRPOLossConfig
from r1omni.training import GRPOModule, SFTModule
from r1omni.training.checkpoints import trained_state
from r1omni.training.reference import Reference
from r1omni.types import R1OmniError, UsageError

REPOSITORY = Path(__file__).parents[2]
LORA = LoRAConfig(rank=4, alpha=16)


@pytest.fixture(autouse=True)
def _rewards_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))


class _Recorder(GRPOModule):
    """Keeps what is learned from each rollout."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.collected: list[Any] = []

    def roll_out(self, batch: Any) -> Any:
        self.collected.append(super().roll_out(batch))
        return self.collected[-1]


def test_the_reference_is_the_model_without_its_adapters(mini_world: Path, tmp_path: Path) -> None:
    module = fit(mini_world, tmp_path, steps=3, lora=LORA, seen=_Recorder)
    assert isinstance(module, _Recorder)
    assert (
        module.reference is not None and module.reference.model is module.model
    )  # one set of weights
    start = R1Omni.from_pretrained(mini_world / "init").model
    ours = module.collected[-1]
    with torch.no_grad():
        by_hand, _ = start.completion_logps(start.embed_prompts(ours.rollout.prompts),
            ours.rollout.completion_ids, ours.rollout.mask,
        )  # fmt: skip
    assert torch.equal(ours.ref_logps, by_hand)
    assert logged(module)["kl"] > 0  # the policy has moved
    # Nothing but the adapters has changed.
    now = weights(module)
    kept = {name.replace(".base_layer.", "."): w for name, w in now.items() if ".lora_" not in name}
    assert all(torch.equal(kept[name], p) for name, p in start.named_parameters())
    fresh = weights(_Recorder(str(mini_world / "init"), grpo=BASE, lora=LORA))
    moved = [n for n in now if ".lora_B." in n and not torch.equal(now[n], fresh[n])]
    assert len(moved) == len([name for name in now if ".lora_B." in name])


def test_it_learns_as_with_a_copy_as_reference(mini_world: Path, tmp_path: Path) -> None:
    """The shared reference gives the loss that a copied one gives."""

    class Copied(_Recorder):
        def configure_model(self) -> None:
            super().configure_model()
            self.reference = Reference(self.policy, R1Omni.from_pretrained(self.init_from).model)

    shared = fit(mini_world, tmp_path, steps=2, lora=LORA)
    copied = fit(mini_world, tmp_path, steps=2, lora=LORA, seen=Copied)
    now, wanted = weights(shared), weights(copied)
    assert all(torch.equal(now[name], wanted[name]) for name in now)


def test_a_resumed_run_ends_like_an_uninterrupted_one(mini_world: Path, tmp_path: Path) -> None:
    grpo = replace(BASE, num_iterations=2, steps_per_generation=2)
    whole = weights(fit(mini_world, tmp_path, grpo, steps=8, batch_size=2, lora=LORA))
    part = fit(mini_world, tmp_path, grpo, steps=4, batch_size=2, lora=LORA)
    part.trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = fit(
        mini_world, tmp_path, grpo, 8, batch_size=2, lora=LORA, ckpt_path=tmp_path / "half.ckpt"
    )
    now = weights(resumed)
    assert all(torch.equal(whole[name], now[name]) for name in whole)
    # A checkpoint of an earlier version has the tied head's frozen weight too.
    earlier = torch.load(tmp_path / "half.ckpt", weights_only=True)
    earlier["state_dict"]["model.lm_head.weight"] = part.model.lm_head.weight.detach()
    torch.save(earlier, tmp_path / "earlier.ckpt")
    again = weights(fit(mini_world, tmp_path, grpo, 8, batch_size=2, lora=LORA,
                        ckpt_path=tmp_path / "earlier.ckpt"))  # fmt: skip
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    with pytest.raises(R1OmniError, match=r"model\.lora"):
        fit(mini_world, tmp_path, grpo, 8, batch_size=2, ckpt_path=tmp_path / "half.ckpt")


@pytest.mark.parametrize("lora", [LORA, None])
@pytest.mark.parametrize("trainable", [None, ["projectors"], ["projectors", "text_tower"]])
def test_a_checkpoint_holds_what_trains_and_nothing_else(
    mini_world: Path, trainable: list[str] | None, lora: LoRAConfig | None
) -> None:
    module = SFTModule(str(mini_world / "init"), trainable, lora=lora)
    assert module.model.lm_head.weight is module.model.language_model.embed_tokens.weight
    kept = trained_state(module)
    # Under every name: that of the tied head is no name of `named_parameters`.
    of_all = dict(module.named_parameters(remove_duplicate=False))
    assert kept.keys() == {name for name, p in of_all.items() if p.requires_grad}
    distinct = {tensor.data_ptr(): tensor.numel() for tensor in kept.values()}
    assert sum(distinct.values()) == sum(p.numel() for p in module.parameters() if p.requires_grad)


def test_without_a_reference_projectors_may_be_trained_too(mini_world: Path) -> None:
    free = replace(BASE, loss=GRPOLossConfig(beta=0.0))
    module = GRPOModule(str(mini_world / "init"), ["projectors"], grpo=free, lora=LORA)
    parts = {name.split(".")[0] for name in module.trained_names()}
    assert parts == {"language_model", "video_projector", "audio_projector", "gate"}
    sft = SFTModule(str(mini_world / "init"), ["projectors"], lora=LORA)
    assert sft.trained_names() == module.trained_names()


@pytest.mark.parametrize(
    ("trainable", "grpo", "message"),
    [
        (["projectors"], BASE, "without its adapters"),
        (["language_model"], replace(BASE, loss=GRPOLossConfig(beta=0.0)), "leave one of them out"),
        (None, replace(BASE, ref_sync_steps=2), "ref_sync_steps"),
    ],
)
def test_what_adapters_cannot_do(
    mini_world: Path, trainable: list[str] | None, grpo: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        GRPOModule(str(mini_world / "init"), trainable, grpo=grpo, lora=LORA)


def test_by_the_command_line(
    mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shipped overlay: train, go on, and export the model with its adapters merged."""
    monkeypatch.chdir(REPOSITORY)
    arguments = [
        "--config", "configs/mini/r1omni.yaml", "--config", "configs/overlay/lora.yaml",
        *short_grpo(mini_world, tmp_path / "run", "length"),
    ]  # fmt: skip
    words = [str(word) for word in arguments]
    assert main(["fit", *words, "--trainer.max_steps", "1"]) == 0
    assert main(["fit", *words, "--trainer.max_steps", "2", "--ckpt_path", "last"]) == 0
    folders = [str(tmp_path / name) for name in ("run", "exported")]
    assert main(["export", "--ckpt_path", folders[0], "--out", folders[1]]) == 0
    written, exported, start = (
        load_file(folder / "model.safetensors")
        for folder in (tmp_path / "run" / "model", tmp_path / "exported", mini_world / "init")
    )
    assert written.keys() == exported.keys() == start.keys()
    assert all(torch.equal(written[name], exported[name]) for name in written)
    changed = {name for name in start if not torch.equal(start[name], written[name])}
    assert changed
    assert all(name.startswith("model.layers.") and "_proj." in name for name in changed)
