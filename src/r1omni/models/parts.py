"""Pretrained parts that a new model is made of: found, and checked against what they should be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import (
    BertConfig,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    Qwen2Config,
    SiglipVisionConfig,
    WhisperConfig,
)

from r1omni.models.checkpoint import end_tokens, load_language_tokenizer, load_text_tokenizer
from r1omni.models.config import build_config, preprocessor, read_json
from r1omni.models.folders import locate
from r1omni.models.hub import fetch_weights
from r1omni.models.weights import sha256, weight_files
from r1omni.types import R1OmniError, UsageError

# The key of config.json under which a model made of parts keeps where each came from.
PARTS = "parts"
# Keys of Qwen2's config.json that are written otherwise, or mean nothing of the new model.
_NOT_KEPT = (
    "rope_parameters", "rope_scaling", "layer_types", "dtype", "torch_dtype", "auto_map",
    "_name_or_path",
)  # fmt: skip
# What the prompt is made of beside text.
_MARKS = ("<|im_start|>", "<|im_end|>")


@dataclass(frozen=True)
class Kind:
    """One of the four parts that may be given.

    Attributes:
        name: of the part in `OmniModel`.
        option: of the command line.
        family: as its authors call it.
        model_types: what its config.json may say it is.
        config: class of its settings.
        section: of config.json that holds them where a checkpoint is more than the part.
    """

    name: str
    option: str
    family: str
    model_types: tuple[str, ...]
    config: type[PreTrainedConfig]
    section: str = ""


# By the section of a file of sizes that it stands in place of.
KINDS = {
    "language": Kind("language_model", "--language-model", "Qwen2", ("qwen2",), Qwen2Config),
    "vision": Kind(
        "vision_tower", "--vision-tower", "SigLIP", ("siglip", "siglip_vision_model"),
        SiglipVisionConfig, "vision_config",
    ),
    "audio": Kind("audio_tower", "--audio-tower", "Whisper", ("whisper",), WhisperConfig),
    "text": Kind("text_tower", "--text-encoder", "BERT", ("bert",), BertConfig),
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A pretrained part, its settings read.

    Attributes:
        kind: which one it is.
        source: as it was given.
        folder: holds config.json, and tokenizer or preprocessor settings.
        hub_id: the repository that the folder came from, or None.
        released: config.json.
        config: the part's settings.
    """

    kind: Kind
    source: str
    folder: Path
    hub_id: str | None
    released: dict[str, Any]
    config: Any

    @property
    def name(self) -> str:
        """Of the folder or repository; may be empty for a path that has none."""
        return self.hub_id.split("/")[1] if self.hub_id else self.folder.resolve().name

    @property
    def pinned(self) -> str:
        """What finds it again: `owner/name@commit`, or the folder's whole path."""
        if self.hub_id is None:
            return str(self.folder.resolve())
        return f"{self.hub_id}@{self.folder.name}"

    def weights(self) -> Path:
        """The folder that holds the weights, which are fetched first where it is the hub's."""
        return self.folder if self.hub_id is None else fetch_weights(self.pinned)

    def origin(self) -> dict[str, str | None]:
        """Where it came from, and the SHA-256 of its weights."""
        return {"from": self.pinned, "sha256": sha256(weight_files(self.weights()))}

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Say of what fails inside which part it is, as wrong use."""
        try:
            yield
        except R1OmniError as error:
            raise UsageError(f"{self.kind.option} {self.source}: {error}") from error

    def refuse(self, reason: str) -> UsageError:
        return UsageError(f"{self.kind.option} {self.source}: {reason}")


def find_part(section: str, source: str | Path) -> Part:
    """Locate a pretrained part and read its settings.

    Args:
        section: one of `KINDS`.
        source: a folder, or `owner/name[@revision]` on the hub.

    Raises:
        UsageError: it cannot be had, is of another architecture, or its settings contradict.
    """
    kind = KINDS[section]
    try:
        folder, hub_id = locate(source, "a Hugging Face model")
        released = read_json(folder / "config.json")
        model_type = released.get("model_type")
        if model_type not in kind.model_types:
            raise R1OmniError(
                f"config.json says model_type {model_type!r}, and {kind.family} is "
                f"{' or '.join(map(repr, kind.model_types))}; give a {kind.family} checkpoint"
            )
        config = build_config(kind.config, folder, section=kind.section)
    except R1OmniError as error:
        raise UsageError(f"{kind.option} {source}: {error}") from error
    part = Part(kind, str(source), folder, hub_id, released, config)
    if "quantization_config" in released:
        raise part.refuse("its weights are quantized; give those in floating point")
    _check_preprocessor(part)
    return part


def _check_preprocessor(part: Part) -> None:
    with part.blamed():
        kind = "feature_extractor" if part.kind is KINDS["audio"] else "image_processor"
        found = preprocessor(part.folder, kind)
    bins = found.get("feature_size")
    if part.kind is KINDS["audio"] and bins not in (None, part.config.num_mel_bins):
        raise part.refuse(
            f"its preprocessor makes {bins} mel bins (feature_size), its config.json reads "
            f"{part.config.num_mel_bins} (num_mel_bins); copy both from one model"
        )


def language_keys(part: Part) -> dict[str, Any]:
    """The language model's keys for the main config.json, as Qwen2's releases write them.

    Raises:
        UsageError: it asks for rotary embeddings or windows that are not built.
    """
    rope = part.config.rope_parameters
    if rope.get("rope_type", "default") != "default":
        raise part.refuse(
            f"config.json asks for rotary embeddings of the type {rope['rope_type']!r}; only "
            "plain ones are built"
        )
    if part.config.use_sliding_window:
        raise part.refuse("config.json sets use_sliding_window, which is not built")
    kept = {key: value for key, value in part.released.items() if key not in _NOT_KEPT}
    return {**kept, "vocab_size": part.config.vocab_size, "rope_theta": rope["rope_theta"]}


def check_language_tokenizer(part: Part) -> None:
    """Check that a language model's tokenizer has what prompts are made of.

    Raises:
        UsageError: it is missing or unreadable, lacks a token, or has more than the embedding.
    """
    with part.blamed():
        tokenizer = load_language_tokenizer(part.folder)
        end_tokens(part.folder, tokenizer)
    _check_rows(part, tokenizer)
    for mark in _MARKS:
        if len(tokenizer.encode(mark, add_special_tokens=False)) != 1:
            raise part.refuse(
                f"its tokenizer has no token {mark}, which every prompt has; give a Qwen2 model "
                "with its own tokenizer"
            )


def check_text_tokenizer(part: Part) -> None:
    """Check that a text encoder has a tokenizer and an embedding for each of its tokens.

    Raises:
        UsageError: it has not.
    """
    with part.blamed():
        tokenizer = load_text_tokenizer(part.folder)
    _check_rows(part, tokenizer)


def _check_rows(part: Part, tokenizer: PreTrainedTokenizerBase) -> None:
    rows = part.config.vocab_size
    if len(tokenizer) > rows:
        raise part.refuse(
            f"its tokenizer has {len(tokenizer):,} tokens, but vocab_size is {rows:,}; copy the "
            "tokenizer that belongs to these weights"
        )
