"""Prompts side by side do not touch each other: padding, media, the gate."""

from __future__ import annotations

import pytest
import torch
from short_prompts import MIXED, embed, part, prompts_of
from torch import Tensor
from torch.testing import assert_close

from r1omni.models import R1Omni
from r1omni.models.packed import pad_embeds
from r1omni.text.prompt import AUDIO_PLACEHOLDER, VIDEO_PLACEHOLDER
from r1omni.types import ClipFeatures, ClipMedia, PromptInputs

TOLERANCE = {"rtol": 0, "atol": 1e-5}


@pytest.mark.parametrize("seed", range(4))
@torch.no_grad()
def test_logits_do_not_depend_on_neighbours(tiny: R1Omni, seed: int) -> None:
    prompts = prompts_of(tiny)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(MIXED), generator=generator)[: 2 + seed].tolist()
    batch = tiny.model.logits(part(prompts, order))
    for row, index in enumerate(order):
        alone = tiny.model.logits(part(prompts, [index]))[0]
        assert_close(batch[row, : len(alone)], alone, **TOLERANCE)


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_padding_on_either_side_changes_nothing(tiny: R1Omni, side: str) -> None:
    prompts = prompts_of(tiny)
    padded = pad_embeds(embed(tiny, prompts), side)
    assert not padded.mask.all()
    batch = tiny.model.lm_head(tiny.model.hidden_states(padded))
    assert batch[padded.mask].isfinite().all()
    for index in range(len(prompts)):
        alone = tiny.model.logits(part(prompts, [index]))[0]
        assert_close(batch[index][padded.mask[index]], alone, **TOLERANCE)


@torch.no_grad()
def test_the_clip_and_the_question_do_matter(tiny: R1Omni) -> None:
    # Invariance would also hold for a model that ignores its media and its gate.
    prompts = prompts_of(tiny, [("Why?", "video_audio")] * 2)
    first, second = tiny.model.logits(prompts)
    assert (first[-1] - second[-1]).abs().max() > 1e-3
    asked_otherwise = PromptInputs(
        prompts.token_ids,
        (prompts.instruction_ids[0], tiny.encode_instruction("Name the emotion.")),
        (prompts.media[0],) * 2,
    )
    first, second = tiny.model.logits(asked_otherwise)
    assert (first[-1] - second[-1]).abs().max() > 1e-6


@pytest.mark.parametrize(
    ("side", "mask", "positions"),
    [
        ("right", [[1, 1, 1], [1, 0, 0]], [[0, 1, 2], [0, 1, 2]]),
        ("left", [[1, 1, 1], [0, 0, 1]], [[0, 1, 2], [0, 0, 0]]),
    ],
)
def test_pad_embeds_by_hand(side: str, mask: list, positions: list) -> None:
    long, short = torch.ones(3, 2), torch.full((1, 2), 7.0)
    padded = pad_embeds([long, short], side)
    assert padded.mask.int().tolist() == mask
    assert padded.positions.tolist() == positions
    assert padded.embeds[1][padded.mask[1]].tolist() == [[7.0, 7.0]]
    assert padded.embeds[1][~padded.mask[1]].abs().sum() == 0


@torch.no_grad()
def test_media_take_the_place_of_their_placeholders(tiny: R1Omni) -> None:
    prompts = prompts_of(tiny, [("Why?", "video_audio")])
    [row] = tiny.model.embed_prompts(prompts)
    [(video, audio)] = tiny.model.media_tokens(prompts.media, prompts.instruction_ids)
    ids = prompts.token_ids[0].tolist()
    first, second = ids.index(VIDEO_PLACEHOLDER), ids.index(AUDIO_PLACEHOLDER)
    pieces = [ids[:first], ids[first + 1 : second], ids[second + 1 :]]
    texts = [tiny.model.embed_tokens(torch.tensor(piece)) for piece in pieces]
    assert torch.equal(row, torch.cat([texts[0], video, texts[1], audio, texts[2]]))


@pytest.mark.parametrize(("kind", "other"), [("video", "audio"), ("audio", "video")])
def test_a_prompt_without_its_medium_is_refused(tiny: R1Omni, kind: str, other: str) -> None:
    asking = prompts_of(tiny, [("Why?", kind)])
    lacking = prompts_of(tiny, [("Why?", other)])
    mixed = PromptInputs(asking.token_ids, asking.instruction_ids, lacking.media)
    with pytest.raises(ValueError, match=f"asks for {kind}"):
        tiny.model.embed_prompts(mixed)


# Media in their three forms ---------------------------------------------------------------------


@torch.no_grad()
def test_every_form_of_media_in_one_batch(tiny: R1Omni, expected: dict[str, Tensor]) -> None:
    mel = expected["mel"][0]
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8, generator=generator)
    forms = [
        ClipMedia(frames, mel),
        ClipMedia(expected["pixel_values_squash"], None),
        ClipFeatures(expected["vision_features"], None),
        ClipMedia(None, mel + 0.5),
    ]
    together = tiny.model.encode_media(forms)
    assert len(together) == len(forms)
    for form, encoded in zip(forms, together, strict=True):
        [alone] = tiny.model.encode_media([form])
        for name in ("video", "audio"):
            assert_close(getattr(encoded, name), getattr(alone, name), **TOLERANCE)
    assert_close(together[1].video, expected["vision_features"], **TOLERANCE)
    normalised = ClipMedia(tiny.processor.normalise(frames), None)
    assert_close(together[0].video, tiny.model.encode_media([normalised])[0].video, **TOLERANCE)
    assert not torch.equal(together[0].audio, together[3].audio)


# The gate ---------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_gate_reads_each_instruction_alone(tiny: R1Omni) -> None:
    texts = ["Why?", "Name the emotion shown by the face.", "Why?", "Listen. Which one?", "Why?"]
    ids = [tiny.encode_instruction(text) for text in texts]
    weights = tiny.model.branch_weights(ids)
    for row, instruction in zip(weights, ids, strict=True):
        assert_close(row, tiny.model.branch_weights([instruction])[0], **TOLERANCE)
    assert_close(weights.sum(dim=1), torch.ones(len(texts)), **TOLERANCE)
    assert torch.equal(weights[0], weights[2]) and torch.equal(weights[0], weights[4])
    assert (weights[0] - weights[1]).abs().max() > 1e-5


def test_equal_instructions_are_encoded_once(tiny: R1Omni) -> None:
    seen: list[Tensor] = []
    hook = tiny.model.text_tower.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        ids = [tiny.encode_instruction(text) for text in ("Why?", "What?", "Why?", "Why?")]
        weights = tiny.model.branch_weights(ids)
    finally:
        hook.remove()
    assert [len(batch) for batch in seen] == [2]
    assert weights.shape == (4, 3)


def test_the_gate_learns_from_every_prompt_that_asks_the_same(tiny: R1Omni) -> None:
    ids = tiny.encode_instruction("Why?")
    weight = tiny.model.gate[2].weight
    [once] = torch.autograd.grad(tiny.model.branch_weights([ids])[:, 0].sum(), weight)
    [thrice] = torch.autograd.grad(tiny.model.branch_weights([ids] * 3)[:, 0].sum(), weight)
    assert once.abs().max() > 0
    assert_close(thrice, 3 * once)
