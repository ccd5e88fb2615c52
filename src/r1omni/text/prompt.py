"""The prompt: Qwen2's chat template around media tags and an instruction; and back to text.

The user's turn is `<vi_start><video><vi_end>\\n<au_start><audio><au_end>\\n{instruction}`, with
the parts of a modality that is not given left out. `<video>` and `<audio>` become placeholders
which the model replaces by media tokens; the start and end tags are ordinary text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from itertools import groupby

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from r1omni.text.tags import SPECIAL_TOKEN
from r1omni.types import MODALITIES, Modality, UsageError

R1OMNI_INSTRUCTION = (
    "As an emotional recognition expert; throughout the video, which emotion conveyed by the "
    "characters is the most obvious to you?\n"
    "Output the thinking process in <think> </think> and final emotion in <answer> </answer> tags."
)
SYSTEM_PROMPT = "You are a helpful assistant."

# Negative, so they can never be the id of a token.
VIDEO_PLACEHOLDER = -200
AUDIO_PLACEHOLDER = -201

_MEDIA_TEXT = {
    "video_audio": "<vi_start><video><vi_end>\n<au_start><audio><au_end>\n",
    "video": "<vi_start><video><vi_end>\n",
    "audio": "<au_start><audio><au_end>\n",
}
# What stands for bytes that are no character, or only a part of one.
_NOT_WHOLE = "\ufffd"
_PLACEHOLDERS = {"<video>": VIDEO_PLACEHOLDER, "<audio>": AUDIO_PLACEHOLDER}


def check_instruction(instruction: str | None, prefix: str = "") -> None:
    """Refuse a question without words; None stands for one that is not given.

    Args:
        instruction: the question.
        prefix: what a message puts before the key, such as "dataset dfew: ".

    Raises:
        UsageError: it is empty.
    """
    if instruction is not None and not instruction.strip():
        raise UsageError(f"{prefix}instruction is empty; write a question, or leave it out")


def prompt_text(instruction: str, modality: Modality) -> str:
    """The whole prompt as text, `<video>` and `<audio>` still in place.

    Raises:
        UsageError: unknown modality, or an instruction that itself holds a media tag.
    """
    if modality not in MODALITIES:
        raise UsageError(f"modality {modality!r} is unknown; use one of {', '.join(MODALITIES)}")
    for tag in _PLACEHOLDERS:
        if tag in instruction:
            raise UsageError(
                f"the instruction holds the media tag {tag}; leave media tags out, "
                "they are added from the modality"
            )
    return (
        f"<|im_start|>system\n{SYSTEM_PROMPT}<|im_end|>\n"
        f"<|im_start|>user\n{_MEDIA_TEXT[modality]}{instruction}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, instruction: str, modality: Modality
) -> Tensor:
    """Token ids of the prompt, long [L_text], with the placeholders where media go.

    The text between two media tags is tokenized as one piece, as the released model was trained:
    no merge crosses a medium.
    """
    return torch.tensor(_encode_cached(tokenizer, instruction, modality), dtype=torch.long)


# Training asks the same few questions about thousands of clips.
@lru_cache(maxsize=1024)
def _encode_cached(
    tokenizer: PreTrainedTokenizerBase, instruction: str, modality: Modality
) -> tuple[int, ...]:
    ids: list[int] = []
    for piece in re.split(r"(<video>|<audio>)", prompt_text(instruction, modality)):
        if piece in _PLACEHOLDERS:
            ids.append(_PLACEHOLDERS[piece])
        elif piece:
            ids.extend(tokenizer.encode(piece, add_special_tokens=False))
    return tuple(ids)


def encode_target(tokenizer: PreTrainedTokenizerBase, target: str) -> Tensor:
    """Token ids of the assistant's turn, long [C], the end token included."""
    ids = tokenizer.encode(target, add_special_tokens=False)
    return torch.tensor([*ids, tokenizer.eos_token_id], dtype=torch.long)


def decode_completion(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], end_ids: Collection[int]
) -> tuple[str, bool]:
    """A completion as text with nothing left out but its end token, and whether it has one.

    Decoding alone would leave out special tokens, and ids that the model has a place for and the
    tokenizer no token. Here a reader sees them: `<|im_start|>` as it is, another one by its number,
    `<|151700|>`.

    Args:
        tokenizer: of the language model.
        ids: tokens of the completion, without padding; what follows an end token is not read.
        end_ids: tokens that end a completion.
    """
    shown, ended = _shown(ids, end_ids)
    pieces: list[str] = []
    for hidden, run in _runs(tokenizer, shown):
        if hidden:
            pieces += [_mark(id_, token) for id_, token in run]
        else:
            pieces.append(str(tokenizer.decode([id_ for id_, _ in run])))
    return "".join(pieces), ended


def token_spans(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], end_ids: Collection[int]
) -> list[tuple[int, int]]:
    """The characters that each token stands for in the text of `decode_completion`.

    Tokens are bytes, and a character may take several of them. Tokens that share a character have
    one span, up to the next token that ends with a whole character; so every character is of the
    tokens that any of its bytes are in. The text of a token that ends so does not depend on the
    tokens before it.

    Args:
        tokenizer, ids, end_ids: as for `decode_completion`.

    Returns:
        (start, end) of the tokens before the end token, in order and without gaps.
    """
    spans: list[tuple[int, int]] = []
    at = 0
    for hidden, run in _runs(tokenizer, _shown(ids, end_ids)[0]):
        waiting: list[int] = []
        tokens = list(run)
        for place, (id_, token) in enumerate(tokens):
            waiting.append(id_)
            piece = _mark(id_, token) if hidden else str(tokenizer.decode(waiting))
            if piece.endswith(_NOT_WHOLE) and place + 1 < len(tokens):
                continue
            spans += [(at, at + len(piece))] * len(waiting)
            at += len(piece)
            waiting = []
    return spans


def _shown(ids: Sequence[int], end_ids: Collection[int]) -> tuple[list[int], bool]:
    """The tokens before an end token, and whether there is one."""
    end = next((place for place, id_ in enumerate(ids) if id_ in end_ids), None)
    return list(ids if end is None else ids[:end]), end is not None


def _runs(
    tokenizer: PreTrainedTokenizerBase, ids: list[int]
) -> Iterator[tuple[bool, Iterator[tuple[int, str | None]]]]:
    """Ids with their tokens, in runs of those that decoding would leave out and of others."""
    special = set(tokenizer.all_special_ids)
    tokens = zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True)
    return groupby(tokens, key=lambda pair: pair[1] is None or pair[0] in special)


def _mark(id_: int, token: str | None) -> str:
    return token if token and SPECIAL_TOKEN.fullmatch(token) else f"<|{id_}|>"
