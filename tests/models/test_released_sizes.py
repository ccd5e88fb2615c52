"""HumanOmni-0.5B without a download: parameters of every part, and the names of its tensors.

The model is built on the meta device, where tensors have shapes but no memory. The counts are
derived here from the papers' sizes, layer by layer, and not from the code under test.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from r1omni.models.omni import OmniModel
from r1omni.models.released import released_name
from r1omni.models.sizes import config_from_sizes

SIZES = Path(__file__).parents[2] / "configs" / "r1omni_0.5b" / "model.yaml"


@pytest.fixture(scope="module")
def model() -> OmniModel:
    config = config_from_sizes(SIZES)
    with torch.device("meta"):
        return OmniModel(config)


# Arithmetic of the parts ---------------------------------------------------------------------


def linear(inputs: int, outputs: int, bias: bool = True) -> int:
    return inputs * outputs + (outputs if bias else 0)


def norm(width: int) -> int:
    """A LayerNorm: weight and bias."""
    return 2 * width


def mlp(inputs: int, hidden: int, outputs: int) -> int:
    return linear(inputs, hidden) + linear(hidden, outputs)


def qwen2() -> int:
    """Qwen2-0.5B; its head is the embedding and counts once."""
    width, hidden, head = 896, 4864, 64
    queries = linear(width, 14 * head)
    keys_and_values = 2 * linear(width, 2 * head)
    attention = queries + keys_and_values + linear(14 * head, width, bias=False)
    gated_mlp = 3 * linear(width, hidden, bias=False)
    layer = attention + gated_mlp + 2 * width  # RMSNorm has no bias
    return 151_936 * width + 24 * layer + width


def transformer_layer(width: int, hidden: int) -> int:
    """A layer of SigLIP or BERT."""
    return 4 * linear(width, width) + mlp(width, hidden, width) + 2 * norm(width)


def siglip() -> int:
    """SigLIP base, with the pooling head that is never run."""
    width, hidden = 768, 3072
    patches = linear(3 * 16 * 16, width) + (224 // 16) ** 2 * width  # and their positions
    probe_attention = 3 * linear(width, width) + linear(width, width)
    head = width + probe_attention + norm(width) + mlp(width, hidden, width)
    return patches + 12 * transformer_layer(width, hidden) + norm(width) + head


def whisper_encoder() -> int:
    """The encoder of Whisper large-v3."""
    width, hidden = 1280, 5120
    convolutions = linear(3 * 128, width) + linear(3 * width, width)
    attention = 4 * linear(width, width) - width  # the keys have no bias
    layer = attention + mlp(width, hidden, width) + 2 * norm(width)
    return convolutions + 1500 * width + 32 * layer + norm(width)


def bert() -> int:
    """BERT base uncased, with the pooler that is never run."""
    width, hidden = 768, 3072
    embeddings = (30_522 + 512 + 2) * width + norm(width)
    return embeddings + 12 * transformer_layer(width, hidden) + linear(width, width)


def regnet_block(inputs: int, outputs: int) -> int:
    """1x1, depthwise 3x3, squeeze-and-excitation, 1x1; a 1x1 shortcut where the width changes."""
    squeezed = round(inputs / 4)
    excitation = mlp(outputs, squeezed, outputs)
    shortcut = inputs * outputs + norm(outputs) if inputs != outputs else 0
    convolutions = inputs * outputs + 9 * outputs + outputs * outputs  # without bias
    return convolutions + 3 * norm(outputs) + excitation + shortcut


def regnet_stage(inputs: int, outputs: int) -> int:
    """Depth 2."""
    return regnet_block(inputs, outputs) + regnet_block(outputs, outputs)


def convolved_branch() -> int:
    """The video and the body branch of the video projector."""
    vision, width = 768, 896
    sampler = 2 * 2 * 2 * width * width + width
    stages = regnet_stage(vision, width) + regnet_stage(width, width)
    return stages + sampler + mlp(width, width, width)


def count(*modules: nn.Module) -> int:
    parameters = {id(p): p for module in modules for p in module.parameters()}
    return sum(parameter.numel() for parameter in parameters.values())


# Counts --------------------------------------------------------------------------------------


def test_language_model(model: OmniModel) -> None:
    assert qwen2() == 494_032_768
    assert count(model.language_model, model.lm_head) == qwen2()
    assert model.lm_head.weight is model.language_model.embed_tokens.weight


def test_vision_tower(model: OmniModel) -> None:
    assert siglip() == 92_884_224
    assert count(model.vision_tower) == siglip()
    assert model.vision_tower.num_layers_run == 11  # hidden_states[-2]


def test_audio_tower(model: OmniModel) -> None:
    assert whisper_encoder() == 636_968_960
    tower = model.audio_tower.audio_tower
    assert count(tower.encoder) == whisper_encoder()
    # The checkpoint's classification head is kept, though it is never run.
    assert count(model.audio_tower) == whisper_encoder() + mlp(1280, 256, 2)


def test_text_tower(model: OmniModel) -> None:
    assert bert() == 109_482_240
    assert count(model.text_tower) == bert()


def test_gate(model: OmniModel) -> None:
    assert mlp(768, 3584, 3) == 2_766_851
    assert count(model.gate) == mlp(768, 3584, 3)


@pytest.mark.parametrize("branch", ["video", "body"])
def test_convolved_branches(model: OmniModel, branch: str) -> None:
    projector = model.video_projector
    modules = [
        getattr(projector, name)
        for name in (f"s1_{branch}", f"sampler_{branch}", f"s2_{branch}", f"readout_{branch}")
    ]
    assert convolved_branch() == 16_635_104
    assert count(*modules) == convolved_branch()


def test_face_branch_and_audio_projector(model: OmniModel) -> None:
    assert count(model.video_projector.mlp_2xgelu_face) == mlp(768, 896, 896) == 1_492_736
    assert count(model.audio_projector) == mlp(1280, 896, 896) == 1_951_488


def test_the_parts_are_the_whole(model: OmniModel) -> None:
    projector = 2 * convolved_branch() + mlp(768, 896, 896)
    assert count(model.video_projector) == projector
    trained = qwen2() + projector + mlp(1280, 896, 896) + mlp(768, 3584, 3)
    assert trained == 533_514_051  # docs/reproduce.md reckons with it
    frozen = siglip() + whisper_encoder() + mlp(1280, 256, 2) + bert()
    assert count(model) == trained + frozen == 1_373_177_925


def test_numbers_of_tokens(model: OmniModel) -> None:
    config = model.config
    assert config.num_video_tokens == 8 * 7 * 7
    assert config.num_audio_tokens == 500
    assert config.media.audio_length_s == pytest.approx(30.0)
    assert config.media.frame_fit == "pad"


# Names ---------------------------------------------------------------------------------------

LAYER = re.compile(r"(?<=\.layer\.)\d+|(?<=\.layers\.)\d+")


def generalised(names: Iterable[str]) -> set[str]:
    """Names with N for the number of a layer."""
    return {LAYER.sub("N", name) for name in names}


def num_layers(names: Iterable[str], prefix: str) -> int:
    """How many layers are numbered from 0 directly after a prefix."""
    numbers = {int(n.removeprefix(prefix).split(".")[0]) for n in names if n.startswith(prefix)}
    assert numbers == set(range(len(numbers)))
    return len(numbers)


@pytest.fixture(scope="module")
def names(model: OmniModel) -> list[str]:
    return [released_name(name) for name in model.state_dict()]


def test_numbers_of_layers(names: list[str]) -> None:
    assert len(set(names)) == len(names)
    assert num_layers(names, "model.layers.") == 24
    assert num_layers(names, "model.vision_tower.vision_tower.vision_model.encoder.layers.") == 12
    assert num_layers(names, "model.audio_tower.audio_tower.encoder.layers.") == 32
    assert num_layers(names, "model.bert_model.encoder.layer.") == 12


def test_names_are_those_of_a_released_checkpoint(names: list[str], fixtures_dir: Path) -> None:
    checkpoint = fixtures_dir / "humanomni_tiny" / "R1-Omni-tiny" / "model.safetensors"
    with safe_open(checkpoint, framework="pt") as reader:
        recorded = list(reader.keys())
    stored = [name for name in names if name != "lm_head.weight"]  # tied: the embedding again
    assert generalised(recorded) == generalised(stored)


def test_shapes_of_the_ends(model: OmniModel) -> None:
    """One tensor of each part, so that a transposed or swapped size shows."""
    shapes = {released_name(name): list(t.shape) for name, t in model.state_dict().items()}
    vision = "model.vision_tower.vision_tower.vision_model.embeddings"
    audio = "model.audio_tower.audio_tower.encoder"
    expected = {
        "model.embed_tokens.weight": [151_936, 896],
        "model.layers.23.self_attn.k_proj.weight": [128, 896],
        "model.mm_projector.s1_video.b1.conv1.conv.weight": [896, 768, 1, 1],
        "model.mm_projector.sampler_body.0.weight": [896, 896, 2, 2, 2],
        "model.audio_projector.0.weight": [896, 1280],
        "model.bert_gate.2.weight": [3, 3584],
        f"{vision}.patch_embedding.weight": [768, 3, 16, 16],
        f"{vision}.position_embedding.weight": [196, 768],
        f"{audio}.conv1.weight": [1280, 128, 3],
        f"{audio}.embed_positions.weight": [1500, 1280],
        "model.bert_model.embeddings.word_embeddings.weight": [30_522, 768],
    }
    assert {name: shapes[name] for name in expected} == expected
