"""Activation checkpointing: the same losses and gradients, and as much memory as is said."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from predict_memory import Memory, Step
from torch import Tensor, nn

from r1omni.models.activations import checkpoint_activations
from r1omni.models.adapters import LoRAConfig, add_adapters
from r1omni.models.config import OmniConfig
from r1omni.models.omni import OmniModel
from r1omni.models.sampler import Sampling, generate
from r1omni.models.sizes import config_from_sizes
from r1omni.ops import GRPOLossConfig, TokenObjective
from r1omni.text.prompt import AUDIO_PLACEHOLDER, VIDEO_PLACEHOLDER
from r1omni.types import ClipMedia, PromptInputs

MINI = Path(__file__).parents[2] / "configs" / "mini" / "model.yaml"
LANGUAGE = {"hidden_size": 64, "intermediate_size": 256, "vocab_size": 500}


def sizes(folder: Path, num_layers: int = 3) -> OmniConfig:
    content = yaml.safe_load(MINI.read_text(encoding="utf-8"))
    content["language"] |= {**LANGUAGE, "num_hidden_layers": num_layers}
    file = folder / "sizes.yaml"
    file.write_text(yaml.safe_dump(content))
    return config_from_sizes(file)


def made(config: OmniConfig, trained: tuple[str, ...] = ()) -> OmniModel:
    torch.manual_seed(0)
    model = OmniModel(config).eval()  # as it is trained: the towers' dropout is off
    for tower in ("vision_tower", "audio_tower", "text_tower"):
        model.get_submodule(tower).requires_grad_(tower in trained)
    return model


def prompts(config: OmniConfig) -> PromptInputs:
    """Two clips with picture and sound."""
    media, audio = config.media, config.audio
    generator = torch.Generator().manual_seed(1)
    shape = (media.num_frames, 3, media.image_size, media.image_size)
    clips = tuple(
        ClipMedia(
            torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
            torch.randn(audio.num_mel_bins, 2 * audio.max_source_positions, generator=generator),
        )
        for _ in range(2)
    )
    ids = torch.tensor([1, VIDEO_PLACEHOLDER, 2, AUDIO_PLACEHOLDER, 3])
    return PromptInputs((ids, ids.clone()), (torch.arange(5), torch.arange(6)), clips)


def learned(model: OmniModel, door: str, mixed: bool) -> dict[str, Tensor]:
    """The loss, and the gradient of every weight that has one."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(0, 500, (4, 6), generator=generator)
    mask = torch.arange(6) < torch.tensor([6, 2, 5, 1])[:, None]
    asked: tuple[Any, ...] = (prompts(model.config), ids, mask)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, mixed, cache_enabled=False):
        if door == "completion_loss":
            advantages = torch.linspace(-1, 1, 24).view(4, 6)
            ones = mask.float() / 24
            objective = TokenObjective(advantages, ones, None, None, GRPOLossConfig(beta=0.0))
            loss = model.completion_loss(*asked, objective)[0]
        else:
            loss = -model.completion_logps(*asked, with_entropy=True)[0].sum()
    loss.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **found}


@pytest.mark.parametrize("door", ["completion_logps", "completion_loss"])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("what", ["weights", "adapters", "towers"])
def test_every_bit_is_the_same(tmp_path: Path, door: str, mixed: bool, what: str) -> None:
    model = made(sizes(tmp_path), ("vision_tower", "audio_tower") if what == "towers" else ())
    if what == "adapters":
        model.requires_grad_(False)
        add_adapters(model, LoRAConfig(rank=4, alpha=8))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # at 0 nothing would reach the factors below
                nn.init.normal_(parameter, std=0.1)
    wanted = learned(model, door, mixed)
    assert len(wanted) > 20
    calls = _calls(model)
    checkpoint_activations(model)
    found = learned(model, door, mixed)
    assert found.keys() == wanted.keys()
    assert [n for n in wanted if not torch.equal(found[n], wanted[n])] == []
    # Twice: each layer, the projector where it has a gradient, and towers that are trained.
    again = {"layer", "projector"} | ({"vision", "audio"} if what == "towers" else set())
    assert {name for name, count in calls.items() if count == 2} == again - (
        {"projector"} if what == "adapters" else set()
    )


def _calls(model: OmniModel) -> dict[str, int]:
    """How often parts run from now on; a pass with a gradient is one."""
    modules = {
        "layer": model.language_model.layers[1].mlp,
        "projector": model.video_projector.readout_video,
        "vision": model.get_submodule("vision_tower.vision_tower.encoder.layers.0.mlp"),
        "audio": model.get_submodule("audio_tower.audio_tower.encoder.layers.0.fc1"),
        "text": model.get_submodule("text_tower.bert_model.encoder.layer.0.intermediate"),
    }
    calls = dict.fromkeys(modules, 0)

    def count(name: str) -> Any:
        def hook(*_: Any) -> None:
            calls[name] += 1

        return hook

    for name, module in modules.items():
        # Before: computing again ends with the last number that is needed, within a module.
        module.register_forward_pre_hook(count(name))
    return calls


def test_answers_are_the_same_and_computed_once(tmp_path: Path) -> None:
    model = made(sizes(tmp_path))
    sampling = Sampling(max_new_tokens=5, temperature=1.0, end_ids=(499,), pad_id=0)

    def answers() -> Any:
        return generate(model, model.embed_prompts(asked), sampling, group_size=2, seeds=range(4))

    asked = prompts(model.config)
    with torch.no_grad():
        wanted = answers()
    checkpoint_activations(model)
    calls = _calls(model)
    with torch.no_grad():
        found = answers()
    assert torch.equal(found.ids, wanted.ids) and torch.equal(found.logps, wanted.logps)
    assert calls["layer"] == calls["projector"] == 1  # the prompt; tokens are written without them


def test_a_copy_computes_with_its_own_weights(tmp_path: Path) -> None:
    model = made(sizes(tmp_path))
    checkpoint_activations(model)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in copied.language_model.layers.parameters():
            parameter.zero_()
    embeds = [torch.randn(7, 64, generator=torch.Generator().manual_seed(0))]
    ids, mask = torch.ones(1, 2, dtype=torch.long), torch.ones(1, 2, dtype=torch.bool)
    own, others = (m.completion_logps(embeds, ids, mask)[0] for m in (model, copied))
    assert not torch.allclose(own, others)


# Memory -------------------------------------------------------------------------------------------


def kept(model: OmniModel, step: Step) -> int:
    """Bytes that a pass keeps for its backward pass, beside the weights."""
    width = model.config.language.hidden_size
    embeds = [torch.randn(step.prompt, width) for _ in range(step.micro_batch)]
    ids = torch.zeros(step.rows, step.completion, dtype=torch.long)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    alive: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        alive[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, step.mixed, cache_enabled=False),
    ):
        model._predicting(embeds, ids, torch.ones_like(ids, dtype=torch.bool))
    return sum(t.untyped_storage().nbytes() for key, t in alive.items() if key not in own)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_layer_keeps_what_the_formula_says(tmp_path: Path, mixed: bool) -> None:
    """docs/memory.md; the difference that two more layers make, within 1 percent."""
    step = Step(micro_batch=2, group=4, prompt=50, completion=30, mixed=mixed)
    few, more = (sizes(tmp_path, num_layers) for num_layers in (2, 4))
    predicted = Memory(few, step).kept_by_a_layer()
    counted = (kept(made(more), step) - kept(made(few), step)) / 2
    assert predicted == pytest.approx(counted, rel=0.01)
    models = [made(config) for config in (few, more)]
    for model in models:
        checkpoint_activations(model)
    inputs = (kept(models[1], step) - kept(models[0], step)) / 2
    assert inputs == 4 * 64 * step.tokens < 0.06 * counted
