"""Models from folders in the released HumanOmni layout; `saving.py` writes them."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BertTokenizer, PreTrainedTokenizerBase, Qwen2Tokenizer

from r1omni.models.config import OmniConfig, read_config, read_json
from r1omni.models.folders import ModelFolder
from r1omni.models.omni import OmniModel
from r1omni.models.released import fill
from r1omni.models.weights import WithoutInitialWeights
from r1omni.types import R1OmniError, UsageError


def load_model(folder: ModelFolder, dtype: torch.dtype = torch.float32) -> OmniModel:
    """Build the model of a folder and load every tensor of its checkpoint.

    The peak of memory is the model itself and one tensor.

    Raises:
        R1OmniError: weights are missing, unreadable, unexpected or of another shape.
    """
    model = unfilled_model(folder, dtype)
    fill(model, folder)
    return model


def unfilled_model(folder: ModelFolder, dtype: torch.dtype = torch.float32) -> OmniModel:
    """The model of a folder without values: weights take memory as they are written.

    Raises:
        R1OmniError: as `build_model`.
    """
    config = read_config(folder.main, folder.vision_tower, folder.audio_tower, folder.text_tower)
    with WithoutInitialWeights():
        model = build_model(config, folder)
    for parameter in model.parameters():
        if parameter.dtype != dtype:
            parameter.data = torch.empty_like(parameter, dtype=dtype)
    return model


def unfilled(config: OmniConfig) -> OmniModel:
    """A model of some sizes without values: weights take memory as they are written."""
    with WithoutInitialWeights():
        return OmniModel(config)


def build_model(config: OmniConfig, folder: ModelFolder) -> OmniModel:
    """A model of the sizes that a folder asks for.

    Raises:
        R1OmniError: the sizes contradict each other, or no memory can hold them.
    """
    try:
        return OmniModel(config)
    except (ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise R1OmniError(
            f"{folder.main}: no model can be built from the sizes in its config.json and its "
            f"towers' ({reason}); copy these files again"
        ) from error


def cast_weights(model: OmniModel, dtype: torch.dtype) -> OmniModel:
    """Give every parameter another dtype, in place.

    Buffers stay: in bfloat16 the rotary frequencies would confuse positions beyond a few hundred.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


def load_tokenizers(
    folder: ModelFolder,
) -> tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase]:
    """The language model's tokenizer and that of the gate's text encoder.

    Raises:
        R1OmniError: a folder holds no tokenizer, or one that cannot be read.
    """
    return load_language_tokenizer(folder.main), load_text_tokenizer(folder.text_tower)


def load_language_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Qwen2's tokenizer of a folder.

    Raises:
        R1OmniError: the folder holds none, one that cannot be read, or one without an end token.
    """
    tokenizer = _load_tokenizer(Qwen2Tokenizer, folder, ("vocab.json", "merges.txt"))
    if tokenizer.eos_token_id is None:
        raise R1OmniError(
            f"{folder}: its tokenizer has no end token; add eos_token to tokenizer_config.json"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked, so any token will do
    return tokenizer


def load_text_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """BERT's tokenizer of a folder.

    Raises:
        R1OmniError: the folder holds none, or one that cannot be read.
    """
    return _load_tokenizer(BertTokenizer, folder, ("vocab.txt",))


def end_tokens(folder: Path, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Ids of the tokens that end a completion: the tokenizer's, then others that are named.

    Qwen2's chat models may end with `<|endoftext|>` as well as `<|im_end|>`; `eos_token_id` of
    generation_config.json, where there is one, lists both.

    Raises:
        R1OmniError: generation_config.json names something else than tokens.
    """
    path = folder / "generation_config.json"
    named = read_json(path).get("eos_token_id") if path.is_file() else None
    ids = [] if named is None else named if isinstance(named, list) else [named]
    for token in ids:
        # bool is a kind of int in Python
        if type(token) is not int or not 0 <= token < len(tokenizer):
            raise R1OmniError(
                f"{path}: eos_token_id {token!r} is no token of the tokenizer; correct it"
            )
    return tuple(dict.fromkeys([int(tokenizer.eos_token_id), *ids]))


def _load_tokenizer(
    kind: type[PreTrainedTokenizerBase], folder: Path, vocabulary: tuple[str, ...]
) -> PreTrainedTokenizerBase:
    # Without these files transformers builds a tokenizer that knows no words, and says nothing.
    whole = (folder / "tokenizer.json").is_file()
    if not whole and not all((folder / name).is_file() for name in vocabulary):
        raise R1OmniError(
            f"{folder} holds no tokenizer; copy {' and '.join(vocabulary)} or tokenizer.json there"
        )
    try:
        tokenizer = kind.from_pretrained(folder)
        tokenizer.encode("a")  # a broken vocabulary shows only here
    except Exception as error:  # what the tokenizers library raises has no type of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise R1OmniError(
            f"{folder}: its tokenizer cannot be read ({reason}); copy its files again"
        ) from error
    return tokenizer


def same_architecture(config: OmniConfig, other: dict, source: str) -> None:
    """Check that a checkpoint's recorded sizes are those of this model.

    Raises:
        R1OmniError: naming the part that differs.
    """
    own = config.architecture()
    for part, sizes in own.items():
        if other.get(part) != sizes:
            raise R1OmniError(
                f"{source} is a checkpoint of another architecture: its {part} has sizes "
                f"{other.get(part)}, this model {sizes}; use the model folder it was trained from"
            )


def check_device(device: str) -> None:
    """Raise UsageError where this machine has no such torch device."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch names no better type
        reason = str(error).splitlines()[0]
        raise UsageError(f"device {device!r} cannot be used ({reason}); use cpu") from None
