"""The warning before supervised training on bare labels undoes the reasoning."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from r1omni.data import EmotionDataModule, LoaderConfig
from r1omni.media.processor import MediaProcessor
from r1omni.text.prompt import encode_target
from r1omni.training import SFTModule
from r1omni.types import Clip, ClipMedia, Sample

LABELLED = Sample(
    "dfew/1", Clip(Path("1.mp4")), "Which emotion is it?", label="happy", target="happy"
)
EXPLAINED = replace(LABELLED, target="<think>She smiles.</think>\n<answer>happy</answer>")


@pytest.fixture
def module(fixtures_dir: Path) -> SFTModule:
    return SFTModule(str(fixtures_dir / "humanomni_tiny" / "R1-Omni-tiny"))


class _Given(EmotionDataModule):
    """Samples that all have one clip."""

    def __init__(self, samples: list[Sample], media: ClipMedia) -> None:
        super().__init__(loader=LoaderConfig(cache_features=False))
        self.samples = {"train": [samples]}
        self._media = media

    def train_dataloader(self) -> Any:
        dataset = [(sample, self._media) for sample in self.samples["train"][0]]
        return SimpleNamespace(dataset=dataset)


def attach_data(module: SFTModule, samples: list[Sample]) -> ClipMedia:
    """Give the module a trainer that has these samples, all with one clip."""
    processor: MediaProcessor = module.omni.processor
    media = ClipMedia(processor.blank(), processor.silence())
    data = _Given(samples, media)
    module._trainer = SimpleNamespace(datamodule=data, training=True)  # type: ignore[assignment]
    return media


def teach(module: SFTModule, target: str, media: ClipMedia) -> None:
    """Train the module to begin every answer with `target`."""
    from r1omni.data.batch import collate
    from r1omni.text.prompt import R1OMNI_INSTRUCTION

    batch = collate([(replace(LABELLED, instruction=R1OMNI_INSTRUCTION), media)])
    ids = encode_target(module.omni.tokenizer, target)[None]
    mask = torch.ones_like(ids, dtype=torch.bool)
    trained: list[nn.Parameter] = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=3e-3)
    for _ in range(40):
        prompts = module.model.embed_prompts(module.prompts(batch))
        loss = -module.model.completion_logps(prompts, ids, mask)[0].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def warnings(module: SFTModule, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="r1omni"):
        module.on_fit_start()
    return [record.getMessage() for record in caplog.records]


def test_labels_for_a_model_that_reasons(
    module: SFTModule, caplog: pytest.LogCaptureFixture
) -> None:
    media = attach_data(module, [LABELLED])
    assert not module.reasons()
    assert warnings(module, caplog) == []  # a model that does not reason loses nothing
    teach(module, "<think>He", media)
    assert module.reasons()
    [message] = warnings(module, caplog)
    assert "R1-Omni-tiny" in message and "<think>" in message and "GRPO" in message
    attach_data(module, [LABELLED, EXPLAINED])  # some samples keep the form alive
    assert warnings(module, caplog) == []
