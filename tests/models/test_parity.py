"""Every intermediate of the published code, recorded for the tiny checkpoint, part by part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from short_prompts import recorded_ids
from torch import Tensor
from torch.testing import assert_close

from r1omni.models import R1Omni
from r1omni.models.config import AUDIO_POOL
from r1omni.models.sampler import generate
from r1omni.models.towers import AudioTower
from r1omni.text.prompt import encode_prompt
from r1omni.types import MODALITIES, ClipFeatures, ClipMedia, Modality, PromptInputs

Recorded = dict[str, Tensor]
EACH_MODALITY = pytest.mark.parametrize("modality", MODALITIES)


def close(actual: Tensor, wanted: Tensor, tolerance: float) -> None:
    assert_close(actual, wanted, rtol=0, atol=tolerance)


def recorded_prompt(expected: Recorded, modality: Modality) -> PromptInputs:
    """The recorded token ids, pixel values, mel and instruction."""
    media = ClipMedia(
        expected["pixel_values_squash"] if "video" in modality else None,
        expected["mel"][0] if "audio" in modality else None,
    )
    instruction_ids = expected[f"{modality}/bert_input_ids"][0]
    token_ids = recorded_ids(expected, modality)
    return PromptInputs((token_ids,), (instruction_ids,), (media,))


@torch.no_grad()
def test_vision_tower(tiny: R1Omni, expected: Recorded) -> None:
    features = tiny.model.vision_tower(expected["pixel_values_squash"])
    close(features, expected["vision_features"], 1e-5)


@torch.no_grad()
def test_audio_tower_and_projector(tiny: R1Omni, expected: Recorded) -> None:
    tokens = tiny.model.audio_projector(tiny.model.audio_tower(expected["mel"]))
    close(tokens, expected["audio_tokens"], 1e-5)


@pytest.mark.parametrize("layer", [0, 1, 2, -1, -2])
@torch.no_grad()
def test_selected_layers_of_the_audio_tower(tiny: R1Omni, expected: Recorded, layer: int) -> None:
    config = replace(tiny.model.config, audio_select_layer=layer)
    tower = AudioTower(config.audio, config.audio_select_layer)
    tower.load_state_dict(tiny.model.audio_tower.state_dict())
    encoder = tower.eval().audio_tower.encoder
    states = encoder(expected["mel"], output_hidden_states=True)
    state = states.hidden_states[layer]
    is_last = layer in (-1, config.audio.encoder_layers)
    wanted = states.last_hidden_state if is_last else encoder.layer_norm(state)
    pooled = wanted.unfold(1, AUDIO_POOL, AUDIO_POOL).mean(-1)
    close(tower(expected["mel"]), pooled, 1e-6)


@pytest.mark.parametrize(("index", "name"), [(0, "branch_video"), (1, "branch_body")])
@torch.no_grad()
def test_convolved_branches(tiny: R1Omni, expected: Recorded, index: int, name: str) -> None:
    branches = tiny.model.video_projector.branches(expected["vision_features"][None])
    close(branches[index], expected[name], 1e-5)


@torch.no_grad()
def test_face_branch(tiny: R1Omni, expected: Recorded) -> None:
    projector = tiny.model.video_projector
    before = expected["branch_face_before_pool"]  # [T, P, D]
    close(projector.mlp_2xgelu_face(expected["vision_features"]), before, 1e-5)
    # Bilinear resizing from 4x4 to 2x2 is the mean of each 2x2 block: T, row, in row, column, ..
    pooled = before.reshape(8, 2, 2, 2, 2, -1).mean(dim=(2, 4)).reshape(1, 32, -1)
    face = projector.branches(expected["vision_features"][None])[2]
    close(face, pooled, 1e-5)


@EACH_MODALITY
@torch.no_grad()
def test_gate(tiny: R1Omni, expected: Recorded, modality: Modality) -> None:
    weights = tiny.model.branch_weights([expected[f"{modality}/bert_input_ids"][0]])
    close(weights, expected[f"{modality}/gate"], 1e-5)


@torch.no_grad()
def test_video_tokens(tiny: R1Omni, expected: Recorded) -> None:
    features = expected["vision_features"][None]
    tokens = tiny.model.video_projector(features, expected["video_audio/gate"])
    close(tokens[0], expected["video_tokens"], 1e-5)


@torch.no_grad()
def test_media_tokens(tiny: R1Omni, expected: Recorded) -> None:
    media = ClipMedia(expected["pixel_values_squash"], expected["mel"][0])
    encoded = tiny.model.encode_media([media])
    instruction = expected["video_audio/bert_input_ids"][0]
    [(video, audio)] = tiny.model.media_tokens(encoded, [instruction])
    assert video is not None and audio is not None
    close(video, expected["video_tokens"], 1e-5)
    close(audio, expected["audio_tokens"][0], 1e-5)
    assert len(video) == tiny.model.config.num_video_tokens
    assert len(audio) == tiny.model.config.num_audio_tokens


@torch.no_grad()
def test_the_three_branches_are_mixed_by_their_own_weights(
    tiny: R1Omni, expected: Recorded
) -> None:
    # The recorded gate is nearly one-hot, so a swap of two branches could hide in it.
    features = expected["vision_features"][None]
    projector = tiny.model.video_projector
    video, body, face = projector.branches(features)
    mixed = projector(features, torch.tensor([[0.5, 0.3, 0.2]]))
    close(mixed, 0.5 * video + 0.3 * body + 0.2 * face, 1e-5)


@EACH_MODALITY
def test_token_ids(
    tiny: R1Omni, expected: Recorded, recorded: dict[str, Any], modality: Modality
) -> None:
    ids = encode_prompt(tiny.tokenizer, recorded["instruction"], modality)
    assert ids.tolist() == recorded_ids(expected, modality).tolist()


@EACH_MODALITY
def test_text_encoder_ids(
    tiny: R1Omni, expected: Recorded, recorded: dict[str, Any], modality: Modality
) -> None:
    ids = tiny.encode_instruction(recorded["instruction"])
    assert ids.tolist() == expected[f"{modality}/bert_input_ids"][0].tolist()


@EACH_MODALITY
@torch.no_grad()
def test_logits(tiny: R1Omni, expected: Recorded, modality: Modality) -> None:
    logits = tiny.model.logits(recorded_prompt(expected, modality))
    close(logits, expected[f"{modality}/logits"], 1e-4)


@EACH_MODALITY
@torch.no_grad()
def test_greedy_tokens(
    tiny: R1Omni, expected: Recorded, recorded: dict[str, Any], modality: Modality
) -> None:
    embedded = tiny.model.embed_prompts(recorded_prompt(expected, modality))
    wanted = expected[f"{modality}/greedy_ids"]
    sampled = generate(tiny.model, embedded, tiny.sampling(wanted.shape[1], 0.0))
    assert sampled.ids.tolist() == wanted.tolist()
    text = tiny.decode(sampled.ids)[0]
    assert text.strip() == recorded["modalities"][modality]["text"].strip()


@torch.no_grad()
def test_completion_log_probabilities(tiny: R1Omni, expected: Recorded) -> None:
    prompt = recorded_prompt(expected, "video_audio")
    completion = expected["completion_ids"]
    mask = torch.ones_like(completion, dtype=torch.bool)
    logps, entropies = tiny.model.completion_logps(
        tiny.model.embed_prompts(prompt), completion, mask
    )
    close(logps, expected["completion_logps"], 1e-4)
    close(-logps.mean(), expected["completion_nll_mean"], 1e-4)
    assert entropies is None


@torch.no_grad()
def test_cached_features_give_the_logits_of_the_clip(tiny: R1Omni, expected: Recorded) -> None:
    prompt = recorded_prompt(expected, "video_audio")
    encoded = tiny.model.encode_media(prompt.media)
    assert isinstance(encoded[0], ClipFeatures)
    again = PromptInputs(prompt.token_ids, prompt.instruction_ids, tuple(encoded))
    close(tiny.model.logits(again), expected["video_audio/logits"], 1e-4)
