"""Prompts of tests: the recorded ones, and short ones about made-up features.

A forward pass over a short prompt takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from r1omni.models import R1Omni
from r1omni.text.prompt import AUDIO_PLACEHOLDER, VIDEO_PLACEHOLDER, encode_prompt
from r1omni.types import ClipFeatures, Modality, PromptInputs

NUM_FRAMES = 2
NUM_AUDIO_TOKENS = 5

# Modalities and lengths of instruction in every mixture.
MIXED: tuple[tuple[str, Modality], ...] = (
    ("Why?", "video_audio"),
    ("Which emotion is the most obvious here, and what in the face shows it to you?", "audio"),
    ("Name the emotion.", "video"),
    ("Why?", "audio"),
    ("Describe the voice, the body and the words, then name one emotion.", "video_audio"),
)


def recorded_ids(expected: dict[str, Tensor], modality: Modality) -> Tensor:
    """Recorded token ids; the published code numbers its placeholders -201 and -202."""
    ids = expected[f"{modality}/input_ids"][0]
    return torch.where(
        ids == -201, VIDEO_PLACEHOLDER, torch.where(ids == -202, AUDIO_PLACEHOLDER, ids)
    )


def features(omni: R1Omni, modality: Modality, seed: int) -> ClipFeatures:
    """Random features of a clip of two frames."""
    config = omni.model.config
    generator = torch.Generator().manual_seed(seed)
    video = torch.randn(NUM_FRAMES, config.grid**2, config.vision.hidden_size, generator=generator)
    audio = torch.randn(NUM_AUDIO_TOKENS, config.audio.d_model, generator=generator)
    return ClipFeatures(
        video if "video" in modality else None, audio if "audio" in modality else None
    )


def prompts_of(omni: R1Omni, asked: Sequence[tuple[str, Modality]] = MIXED) -> PromptInputs:
    """One prompt for each instruction and modality, every one about a clip of its own."""
    return PromptInputs(
        token_ids=tuple(encode_prompt(omni.tokenizer, text, kind) for text, kind in asked),
        instruction_ids=tuple(omni.encode_instruction(text) for text, _ in asked),
        media=tuple(features(omni, kind, seed) for seed, (_, kind) in enumerate(asked)),
    )


def part(prompts: PromptInputs, indices: Sequence[int]) -> PromptInputs:
    """Some prompts of a batch, in the order of `indices`."""
    return PromptInputs(
        token_ids=tuple(prompts.token_ids[i] for i in indices),
        instruction_ids=tuple(prompts.instruction_ids[i] for i in indices),
        media=tuple(prompts.media[i] for i in indices),
    )


def embed(omni: R1Omni, prompts: PromptInputs) -> list[Tensor]:
    """Embedded prompts without a gradient."""
    with torch.no_grad():
        return omni.model.embed_prompts(prompts)
