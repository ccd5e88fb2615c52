"""GRPO's reference: when it is made, of what, in which dtypes; and weights read in place."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from small_training import BASE, fit, weights

from processes import REPOSITORY, Running
from r1omni.data import DatasetSpec, EmotionDataModule
from r1omni.data.loader_config import LoaderConfig
from r1omni.models import R1Omni
from r1omni.models.checkpoint import unfilled
from r1omni.training import GRPOModule, module
from r1omni.training.module import weights_read_in_place
from r1omni.training.policy import Policy

MOVED = replace(BASE, ref_sync_steps=1, ref_mixup_alpha=0.5)


@pytest.fixture(autouse=True)
def _rewards_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))


class _Recorder(GRPOModule):
    """Keeps what the reference and what a float32 copy of the start make of each rollout."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pairs: list[tuple[torch.Tensor, torch.Tensor]] = []

    def roll_out(self, batch: Any) -> Any:
        found = super().roll_out(batch)
        start = Policy(R1Omni.from_pretrained(self.init_from), self.grpo)
        self.pairs.append((found.ref_logps, start.logps(found.rollout)))
        return found


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_it_says_what_a_float32_copy_says(mini_world: Path, tmp_path: Path, precision: str) -> None:
    trained = fit(mini_world, tmp_path, steps=2, seen=_Recorder, precision=precision)
    assert len(trained.pairs) == 2
    assert all(torch.equal(found, wanted) for found, wanted in trained.pairs)
    copy = trained.reference.model
    assert not any(p.requires_grad for p in copy.parameters())
    layers = {p.dtype for n, p in copy.language_model.layers.named_parameters() if "proj" in n}
    assert layers == {torch.float32 if precision == "32-true" else torch.bfloat16}


def test_one_that_moves_is_in_float32(mini_world: Path, tmp_path: Path) -> None:
    trained = fit(mini_world, tmp_path, MOVED, steps=2, precision="bf16-mixed")
    kept = trained.reference.model.parameters()
    assert {p.dtype for p in kept} == {torch.float32}


def test_a_resumed_run_has_the_start_as_its_reference(mini_world: Path, tmp_path: Path) -> None:
    half = fit(mini_world, tmp_path, steps=2)
    half.trainer.save_checkpoint(tmp_path / "half.ckpt")
    with weights_read_in_place():
        resumed = fit(mini_world, tmp_path, steps=3, ckpt_path=tmp_path / "half.ckpt")
    start = dict(R1Omni.from_pretrained(mini_world / "init").model.named_parameters())
    kept = dict(resumed.reference.model.named_parameters())
    assert kept and all(torch.equal(start[name], tensor) for name, tensor in kept.items())
    moved = weights(resumed)
    assert not all(torch.equal(start[name], moved[name]) for name in kept)
    whole = weights(fit(mini_world, tmp_path, steps=3))
    assert all(torch.equal(whole[name], moved[name]) for name in whole)


def test_answering_needs_none(mini_world: Path, tmp_path: Path) -> None:
    asked = GRPOModule(str(mini_world / "init"), grpo=BASE, max_new_tokens=4)
    assert asked.reference is None
    spec = DatasetSpec("mafw", "MAFW", sampling="first:2", options={"fold": 1})
    data = EmotionDataModule(
        root=str(mini_world / "world"), val=[spec], test=[spec], predict=[spec],
        loader=LoaderConfig(decode_workers=0, cache_dir=str(mini_world / "cache")),
    )  # fmt: skip
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        default_root_dir=tmp_path, use_distributed_sampler=False,
    )  # fmt: skip
    for ask in (trainer.validate, trainer.test, trainer.predict):
        ask(asked, data)
        assert asked.reference is None


# Weights that are read when a trainer has placed the model -------------------------------------


def _private_bytes() -> int:
    """Memory of this process that is no file's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def test_a_model_without_values_takes_no_memory(mini_world: Path) -> None:
    # In a process of its own: other tests leave memory behind that would be taken again.
    process = Running(make_unfilled, mini_world / "init", cwd=REPOSITORY, env=os.environ)
    assert process.wait() == 0, process.stderr


def make_unfilled(init: Path) -> None:
    config = R1Omni.from_pretrained(init, with_weights=False).model.config
    config.language.vocab_size = 400_000
    held = _private_bytes()
    large = unfilled(config)
    size = large.lm_head.weight.numel() * 4
    assert size > 150e6 and _private_bytes() - held < 0.1 * size
    with torch.no_grad():
        large.lm_head.weight.fill_(1.0)  # what is written is taken, so the measure is one
    assert _private_bytes() - held > 0.9 * size


def test_weights_are_read_once_and_before_clips(
    mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class _Seen(GRPOModule):
        def configure_model(self) -> None:
            super().configure_model()
            seen.append("in place")

    read, prepare = R1Omni.read_weights, EmotionDataModule.prepare_clips
    monkeypatch.setattr(R1Omni, "read_weights", lambda omni: seen.append("read") or read(omni))
    monkeypatch.setattr(
        EmotionDataModule, "prepare_clips",
        lambda data, *a, **k: seen.append("clips") or prepare(data, *a, **k),
    )  # fmt: skip
    with weights_read_in_place():
        later = fit(mini_world, tmp_path, seen=_Seen)
    assert [*dict.fromkeys(seen)] == ["read", "in place", "clips"] and seen.count("read") == 1
    at_once = fit(mini_world, tmp_path)
    wanted = weights(at_once)
    assert all(torch.equal(wanted[name], w) for name, w in weights(later).items())
    assert not module._READ_LATER.get()
