"""The modules under an `L.Trainer` of nobody's making: docs/training.md, resuming, stopping."""

from __future__ import annotations

import os
import re
import runpy
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from small_training import BASE, fit, weights

from r1omni.data import DatasetSpec, EmotionDataModule
from r1omni.data.clip_store import ClipStore
from r1omni.models import R1Omni
from r1omni.models.adapters import LoRAConfig
from r1omni.training import SFTModule
from r1omni.types import R1OmniError, Terminated, UsageError

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
DEFAULTS = {"logger": True, "enable_checkpointing": True}


def test_the_scripts_of_the_page(
    mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stands = tmp_path / "outputs" / "quickstart"
    stands.mkdir(parents=True)
    for name, made in (("world", "world"), ("towers", "init")):
        (stands / name).symlink_to(mini_world / made)
    # Other processes take seconds to start, and have tests of their own.
    decode = ClipStore.decode
    monkeypatch.setattr(ClipStore, "decode", lambda *a: decode(*a[:3], 0, *a[4:]))
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    found = []
    for index, block in enumerate(blocks):
        assert len(block.split('__main__":')[1].strip().splitlines()) <= 11
        script = tmp_path / f"script_{index}.py"
        script.write_text(block, encoding="utf-8")
        found.append(runpy.run_path(str(script), run_name="__main__"))
    sft, grpo = found

    assert sft["trainer"].global_step == 4 and grpo["trainer"].global_step == 3
    trained, start = weights(sft["module"]), R1Omni.from_pretrained(stands / "towers").model
    assert any(not torch.equal(trained[name], p) for name, p in start.named_parameters())
    exported = R1Omni.from_pretrained("outputs/python/sft/model").model
    assert all(torch.equal(trained[name], p) for name, p in exported.named_parameters())
    assert "val/mafw/war" in sft["validated"][0] and "test/mafw/war" in sft["tested"][0]
    assert len([text for texts in sft["texts"] for text in texts]) == 4
    assert (tmp_path / "outputs/python/sft/test/results.json").is_file()
    assert Path(grpo["checkpoint"]).is_relative_to("outputs/python/grpo")


@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_what_a_plain_trainer_saved_is_resumed(kind: str, mini_world: Path, tmp_path: Path) -> None:
    """In the middle of an epoch of the data, and at the end of one of Lightning's."""
    options: dict[str, Any] = {"batch_size": 2, "grpo": None if kind == "sft" else BASE}
    whole = fit(mini_world, tmp_path / "whole", steps=6, **options)
    fit(mini_world, tmp_path / "cut", steps=2, **options, **DEFAULTS)
    [saved] = tmp_path.rglob("*.ckpt")
    resumed = fit(mini_world, tmp_path / "cut", steps=6, ckpt_path=saved, **options, **DEFAULTS)
    assert resumed.trainer.global_step == 6
    wanted, found = weights(whole), weights(resumed)
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)

    other: dict[str, Any] = {**options, "grpo": BASE if kind == "sft" else None}
    with pytest.raises(R1OmniError, match="another way of training"):
        fit(mini_world, tmp_path / "other", steps=3, ckpt_path=saved, **other)


def test_other_adapters_are_refused(mini_world: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"grpo": None, "batch_size": 2}
    begun = fit(mini_world, tmp_path, lora=LoRAConfig(rank=2, alpha=4), **options)
    begun.trainer.save_checkpoint(tmp_path / "one.ckpt")
    resume = {**options, "steps": 2, "ckpt_path": tmp_path / "one.ckpt"}
    fit(mini_world, tmp_path, lora=LoRAConfig(rank=2, alpha=4), **resume)
    with pytest.raises(R1OmniError, match=r"model\.lora .*alpha=4"):
        fit(mini_world, tmp_path, lora=LoRAConfig(rank=2, alpha=8), **resume)


class _Interrupts(L.Callback):
    """Ctrl-C in the second step, so many times."""

    def __init__(self, times: int) -> None:
        self.times = times

    def on_before_backward(self, trainer: L.Trainer, *arguments: Any) -> None:
        if trainer.global_step == 1:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)

    def on_exception(self, *arguments: Any) -> None:
        for _ in range(self.times - 1):
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_in_python(mini_world: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"grpo": None, "batch_size": 2, "steps": 3, **DEFAULTS}
    before = [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)]
    try:
        saving = ModelCheckpoint(save_on_exception=True)
        with pytest.raises(Terminated) as stopped:
            fit(mini_world, tmp_path / "one", callbacks=[_Interrupts(1), saving], **options)
        assert str(stopped.value) == "interrupted at step 1"
        # Lightning calls no hook when it is done, but the signal means what it meant before.
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        whole = fit(mini_world, tmp_path / "whole", **options)
        # Saved in the middle of a step, whose batch the resumed run begins again.
        [saved] = tmp_path.glob("one/**/*.ckpt")
        resumed = fit(mini_world, tmp_path / "one", ckpt_path=saved, **options)
        wanted, found = weights(whole), weights(resumed)
        assert all(torch.equal(wanted[name], found[name]) for name in wanted)
        # A second one while the first is answered ends it there, and the other signal is free too.
        received: list[int] = []
        signal.signal(signal.SIGTERM, lambda signum, frame: received.append(signum))
        with pytest.raises(KeyboardInterrupt):
            fit(mini_world, tmp_path / "two", callbacks=[_Interrupts(2)], **options)
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM]
    finally:
        for signum, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(signum, handler)


@pytest.mark.parametrize(
    ("name", "value"), [("overfit_batches", 2), ("reload_dataloaders_every_n_epochs", 1)]
)
def test_what_would_do_something_else_is_refused(
    name: str, value: object, mini_world: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=rf"^trainer\.{name} is {value}, but ") as caught:
        fit(mini_world, tmp_path, None, **{name: value})
    assert "\n" not in str(caught.value)


def test_one_without_the_other_is_told_so(mini_world: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"accelerator": "cpu", "logger": False, "max_steps": 1}
    trainer = L.Trainer(default_root_dir=tmp_path, enable_checkpointing=False, **options)
    with pytest.raises(UsageError, match="was given no EmotionDataModule"):
        trainer.fit(SFTModule(str(mini_world / "init")), BoringModel().train_dataloader())
    mafw = DatasetSpec("mafw", "MAFW", sampling="first:2", options={"fold": 1})
    data = EmotionDataModule(str(mini_world / "world"), train=[mafw])
    with pytest.raises(UsageError, match="cannot serve BoringModel"):
        trainer.fit(BoringModel(), data)
