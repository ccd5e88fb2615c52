"""The prompt as text and as token ids."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase, Qwen2Tokenizer

from r1omni.text.prompt import (
    AUDIO_PLACEHOLDER,
    R1OMNI_INSTRUCTION,
    VIDEO_PLACEHOLDER,
    decode_completion,
    encode_prompt,
    encode_target,
    prompt_text,
    token_spans,
)
from r1omni.types import MODALITIES, Modality, UsageError

VIDEO = "<vi_start><video><vi_end>\n"
AUDIO = "<au_start><audio><au_end>\n"


@pytest.fixture(scope="module")
def tokenizer(fixtures_dir: Path) -> PreTrainedTokenizerBase:
    return Qwen2Tokenizer.from_pretrained(fixtures_dir / "humanomni_tiny" / "R1-Omni-tiny")


@pytest.mark.parametrize(
    ("modality", "media"), [("video_audio", VIDEO + AUDIO), ("video", VIDEO), ("audio", AUDIO)]
)
def test_prompt_text(modality: Modality, media: str) -> None:
    assert prompt_text("Which\none?", modality) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        f"<|im_start|>user\n{media}Which\none?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_instruction_of_r1_omni() -> None:
    assert R1OMNI_INSTRUCTION == (
        "As an emotional recognition expert; throughout the video, which emotion conveyed by the "
        "characters is the most obvious to you?\nOutput the thinking process in <think> </think> "
        "and final emotion in <answer> </answer> tags."
    )


@pytest.mark.parametrize("tag", ["<video>", "<audio>"])
def test_media_tags_in_an_instruction_are_refused(tag: str) -> None:
    with pytest.raises(UsageError, match=tag):
        prompt_text(f"What is in {tag}?", "video_audio")


@pytest.mark.parametrize("modality", ["", "audio_video", "Video"])
def test_unknown_modality(modality: str) -> None:
    with pytest.raises(UsageError, match=f"'{modality}'.*video_audio, video, audio"):
        prompt_text("Why?", modality)  # type: ignore[arg-type]


@pytest.mark.parametrize("modality", MODALITIES)
def test_ids_spell_the_text_with_placeholders_for_media(
    tokenizer: PreTrainedTokenizerBase, modality: Modality
) -> None:
    ids = encode_prompt(tokenizer, R1OMNI_INSTRUCTION, modality).tolist()
    spelled, piece = "", []
    tags = {VIDEO_PLACEHOLDER: "<video>", AUDIO_PLACEHOLDER: "<audio>"}
    for token in [*ids, None]:
        if token is None or token in tags:
            spelled += tokenizer.decode(piece, skip_special_tokens=False) + tags.get(token, "")
            piece = []
        else:
            piece.append(token)
    assert spelled == prompt_text(R1OMNI_INSTRUCTION, modality)


@pytest.mark.parametrize(
    ("modality", "placeholders"),
    [
        ("video_audio", [VIDEO_PLACEHOLDER, AUDIO_PLACEHOLDER]),
        ("video", [VIDEO_PLACEHOLDER]),
        ("audio", [AUDIO_PLACEHOLDER]),
    ],
)
def test_placeholders_are_no_tokens(
    tokenizer: PreTrainedTokenizerBase, modality: Modality, placeholders: list[int]
) -> None:
    ids = encode_prompt(tokenizer, "Why?", modality).tolist()
    assert [token for token in ids if token < 0] == placeholders
    assert max(ids) < len(tokenizer)
    # Tags around a medium are ordinary text: several tokens each.
    start = tokenizer.encode("<vi_start>", add_special_tokens=False)
    assert len(start) > 1


def test_encoding_is_repeatable_and_safe_from_changes(tokenizer: PreTrainedTokenizerBase) -> None:
    first = encode_prompt(tokenizer, "Why?", "video")
    wanted = first.tolist()
    first.zero_()
    assert encode_prompt(tokenizer, "Why?", "video").tolist() == wanted
    assert encode_prompt(tokenizer, "Why not?", "video").tolist() != wanted
    assert encode_prompt(tokenizer, "Why?", "audio").tolist() != wanted


@pytest.mark.parametrize("target", ["happy", "<think>a\nb</think><answer>sad</answer>", ""])
def test_targets_end_with_the_end_token(tokenizer: PreTrainedTokenizerBase, target: str) -> None:
    *text, end = encode_target(tokenizer, target).tolist()
    assert tokenizer.decode(text, skip_special_tokens=False) == target
    assert end == tokenizer.convert_tokens_to_ids("<|im_end|>")


def spelled(tokenizer: PreTrainedTokenizerBase, ids: list[int], ends: set[int]) -> list[str]:
    """What each token stands for, after a check of what holds for any ids."""
    text, _ = decode_completion(tokenizer, ids, ends)
    spans = token_spans(tokenizer, ids, ends)
    assert len(spans) == next((at for at, id_ in enumerate(ids) if id_ in ends), len(ids))
    distinct = list(dict.fromkeys(spans))
    assert [0, *(end for _, end in distinct)] == [*(start for start, _ in distinct), len(text)]
    return [text[start:end] for start, end in spans]


def test_where_each_token_stands_in_the_text(tokenizer: PreTrainedTokenizerBase) -> None:
    end = int(tokenizer.eos_token_id)
    # Every token, some ids without one, and any bytes, between others and alone.
    every = list(range(len(tokenizer) + 2))
    random.Random(0).shuffle(every)
    spelled(tokenizer, every, set())
    assert len(every) > 300
    for id_ in every:
        [word, shown, last] = spelled(tokenizer, [tokenizer.encode("a")[0], id_, end], {end})[
            :3
        ] + ([""] if id_ != end else ["", ""])
        assert (word, last) == ("a", "") and (bool(shown) or id_ == end)


def test_tokens_that_share_a_character_have_one_span(tokenizer: PreTrainedTokenizerBase) -> None:
    text = "Straße: 眉😀 raised <|im_start|>é"
    ids = tokenizer.encode(text, add_special_tokens=False)
    pieces = spelled(tokenizer, ids, set())
    assert decode_completion(tokenizer, ids, set())[0] == text
    for char in "ß眉😀é":  # of several bytes each
        assert sum(char in piece for piece in pieces) > 1
    assert "<|im_start|>" in pieces and "😀" in pieces
    # Bytes that are no character: alone, and before a letter.
    broken = tokenizer.encode("é", add_special_tokens=False)[:1]
    letter = tokenizer.encode("a", add_special_tokens=False)
    assert spelled(tokenizer, [*broken, *letter], set()) == ["\ufffda", "\ufffda"]
    assert spelled(tokenizer, [*letter, *broken], set()) == ["a", "\ufffd"]
