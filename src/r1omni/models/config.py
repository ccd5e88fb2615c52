"""Sizes and choices of a model, read from and written to a folder in the released layout.

A model folder holds `config.json` (Qwen2's keys plus `mm_*`), the tokenizer and the weights; each
tower is a folder of its own with its `config.json`, inside the model folder or beside it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    BertConfig,
    PreTrainedConfig,
    Qwen2Config,
    SiglipVisionConfig,
    WhisperConfig,
)

from r1omni.media.config import MediaConfig
from r1omni.types import DTYPES, R1OmniError, UsageError

TORCH_DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in DTYPES}
MODEL_TYPE = "HumanOmni_qwen2"
PROJECTOR_TYPE = "all_in_one_small"
NUM_BRANCHES = 3
AUDIO_POOL = 3


@dataclass(frozen=True)
class OmniConfig:
    """Everything that fixes the architecture of an `OmniModel`.

    Attributes:
        language: Qwen2 sizes.
        vision: SigLIP sizes.
        audio: Whisper sizes (the encoder is used).
        text: BERT sizes, for the gate's text encoder.
        media: how a clip becomes pixel values and a mel spectrogram.
        vision_select_layer: index into the vision tower's hidden states.
        audio_select_layer: index into the audio tower's; -1 is its output, as in the releases.
        gate_hidden_size: width of the gate's hidden layer.
        released: the whole main config.json, so that saving keeps what we do not use.
    """

    language: Qwen2Config
    vision: SiglipVisionConfig
    audio: WhisperConfig
    text: BertConfig
    media: MediaConfig
    vision_select_layer: int = -2
    audio_select_layer: int = -1
    gate_hidden_size: int = 3584
    released: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def grid(self) -> int:
        """Patches along one side of a frame."""
        return self.media.image_size // int(self.vision.patch_size)  # type: ignore[arg-type]

    @property
    def num_video_tokens(self) -> int:
        """Lv: half the grid in each direction, for every frame."""
        return self.media.num_frames * (self.grid // 2) ** 2

    @property
    def num_audio_tokens(self) -> int:
        """La."""
        return self.audio.max_source_positions // AUDIO_POOL

    @property
    def heads_per_key(self) -> int:
        """Query heads of the language model that share a head of keys."""
        key_heads = self.language.num_key_value_heads or self.language.num_attention_heads
        return int(self.language.num_attention_heads // key_heads)

    def architecture(self) -> dict[str, Any]:
        """The sizes two checkpoints must share for their weights to fit."""
        return {
            "language": [
                self.language.vocab_size,
                self.language.hidden_size,
                self.language.intermediate_size,
                self.language.num_hidden_layers,
                self.language.num_attention_heads,
                self.language.num_key_value_heads,
            ],
            "vision": [
                self.vision.hidden_size,
                self.vision.num_hidden_layers,
                self.vision.image_size,
                self.vision.patch_size,
            ],
            "audio": [
                self.audio.d_model,
                self.audio.encoder_layers,
                self.audio.num_mel_bins,
                self.audio.max_source_positions,
            ],
            "text": [self.text.hidden_size, self.text.num_hidden_layers, self.text.vocab_size],
            "num_frames": self.media.num_frames,
        }


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        UsageError: the file is missing.
        R1OmniError: it is not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        below = path.parent / "model"  # where a run's folder has its model
        hint = f"{below} is one" if (below / path.name).is_file() else "name a folder that is one"
        raise UsageError(f"{path} is missing, which a model folder has; {hint}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise R1OmniError(f"{path} is not valid JSON ({error}); copy the file again") from None
    if not isinstance(value, dict):
        raise R1OmniError(f"{path} holds no JSON object; copy the file again")
    return value


def read_config(main: Path, vision: Path, audio: Path, text: Path) -> OmniConfig:
    """The configuration of a model whose parts lie in the given folders.

    Raises:
        R1OmniError: a config.json is missing, unreadable, or of another architecture.
    """
    released = read_json(main / "config.json")
    model_type = released.get("model_type")
    if model_type != MODEL_TYPE:
        raise R1OmniError(
            f"{main / 'config.json'} says model_type {model_type!r}, expected {MODEL_TYPE!r}; "
            "give a HumanOmni or R1-Omni checkpoint"
        )
    if released.get("mm_projector_type", PROJECTOR_TYPE) != PROJECTOR_TYPE:
        raise R1OmniError(
            f"{main / 'config.json'} asks for the projector {released['mm_projector_type']!r}; "
            f"only {PROJECTOR_TYPE!r} (the 0.5B releases) is built"
        )
    vision_config = build_config(SiglipVisionConfig, vision, section="vision_config")
    audio_config = build_config(WhisperConfig, audio)
    try:
        media = _media_config(released, main, vision_config, audio_config, vision, audio)
    except (UsageError, TypeError, ArithmeticError) as error:  # numbers of none of the parts
        raise R1OmniError(
            f"{main / 'config.json'} and the settings of its towers ask for clips that cannot be "
            f"made ({error}); copy these files again"
        ) from error
    return OmniConfig(
        language=_language_config(released, main),
        vision=vision_config,
        audio=audio_config,
        text=build_config(BertConfig, text),
        media=media,
        vision_select_layer=_integer(released, "mm_vision_select_layer", -2, main),
        audio_select_layer=_integer(released, "mm_audio_select_layer", -1, main),
        gate_hidden_size=_integer(released, "mm_gate_hidden_size", 3584, main),
        released=released,
    )


Config = TypeVar("Config", bound=PreTrainedConfig)


def build_config(
    kind: type[Config], folder: Path, values: dict[str, Any] | None = None, section: str = ""
) -> Config:
    """The configuration class of a folder's config.json, or of one section of it if it is there.

    Raises:
        R1OmniError: the file is missing, or its values are not those of the class.
    """
    if values is None:
        values = read_json(folder / "config.json")
        values = values.get(section, values)
    try:
        return kind(**values)
    except (StrictDataclassError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise R1OmniError(
            f"{folder / 'config.json'} is no valid {kind.__name__} ({reason}); copy the file again"
        ) from error


def _integer(released: dict[str, Any], key: str, default: int, folder: Path) -> int:
    value = released.get(key, default)
    if not isinstance(value, int):
        raise R1OmniError(f"{folder / 'config.json'}: {key} must be an integer, not {value!r}")
    return value


def _language_config(released: dict[str, Any], folder: Path) -> Qwen2Config:
    keys = (
        "attention_dropout bos_token_id eos_token_id hidden_act hidden_size initializer_range "
        "intermediate_size max_position_embeddings num_attention_heads num_hidden_layers "
        "num_key_value_heads rms_norm_eps rope_theta tie_word_embeddings vocab_size"
    ).split()
    # `sliding_window` is left out: the releases set use_sliding_window to false.
    return build_config(
        Qwen2Config, folder, {key: released[key] for key in keys if key in released}
    )


def _media_config(
    released: dict[str, Any],
    main_folder: Path,
    vision: SiglipVisionConfig,
    audio: WhisperConfig,
    vision_folder: Path,
    audio_folder: Path,
) -> MediaConfig:
    images = preprocessor(vision_folder, "image_processor")
    return MediaConfig(
        num_frames=_integer(released, "num_frames", 8, main_folder),
        image_size=int(vision.image_size),  # type: ignore[arg-type]
        image_mean=tuple(images.get("image_mean", (0.5, 0.5, 0.5))),
        image_std=tuple(images.get("image_std", (0.5, 0.5, 0.5))),
        frame_fit="pad" if released.get("image_aspect_ratio") == "pad" else "squash",
        **sound_settings(audio, audio_folder),
    )


def sound_settings(audio: WhisperConfig, folder: Path) -> dict[str, Any]:
    """The fields of `MediaConfig` that say how a Whisper's input is made of a sound.

    Args:
        audio: settings of the tower.
        folder: of the tower; holds its preprocessor's settings.

    Raises:
        R1OmniError: these cannot be read.
    """
    sounds = preprocessor(folder, "feature_extractor")
    hop_length = sounds.get("hop_length", 160)
    sampling_rate_hz = sounds.get("sampling_rate", 16_000)
    return {
        "sampling_rate_hz": sampling_rate_hz,
        "num_mel_bins": audio.num_mel_bins,
        "n_fft": sounds.get("n_fft", 400),
        "hop_length": hop_length,
        # The encoder halves the frame rate, so this is the one length it accepts.
        "audio_length_s": 2 * audio.max_source_positions * hop_length / sampling_rate_hz,
    }


def preprocessor(folder: Path, kind: str) -> dict[str, Any]:
    """How a tower's inputs are made, as its folder says it; empty where it says nothing.

    Args:
        folder: of the tower.
        kind: "image_processor" or "feature_extractor", what processor_config.json calls it.

    Raises:
        R1OmniError: the file cannot be read.
    """
    if (folder / "preprocessor_config.json").exists():
        return read_json(folder / "preprocessor_config.json")
    if not (folder / "processor_config.json").exists():
        return {}
    file = folder / "processor_config.json"
    found = read_json(file).get(kind, {})
    if not isinstance(found, dict):
        raise R1OmniError(f"{file}: {kind} must be an object, not {found!r}; copy the file again")
    return found
