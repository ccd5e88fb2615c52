"""The sizes of a model as one YAML file, and the settings of a model folder made of them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import yaml
from transformers import BertConfig, SiglipVisionConfig, WhisperConfig

from r1omni.models.config import MODEL_TYPE, PROJECTOR_TYPE, OmniConfig, read_config
from r1omni.types import UsageError

_SECTIONS = ("language", "vision", "audio", "text", "omni")


def read_sizes(file: Path) -> dict[str, Any]:
    """The sections language, vision, audio, text and omni of a YAML file.

    They hold the configuration keys of Qwen2, SigLIP, Whisper, BERT and the release.

    Raises:
        UsageError: the file is missing, or a section is missing or unknown.
    """
    if not file.is_file():
        raise UsageError(f"{file} does not exist; give a YAML file of model sizes")
    sizes: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(sizes, dict) or set(sizes) != set(_SECTIONS):
        raise UsageError(f"{file} must have exactly the sections {', '.join(_SECTIONS)}")
    return sizes


def config_from_sizes(file: Path) -> OmniConfig:
    """The configuration of a model of these sizes, without a folder or a tokenizer.

    Raises:
        UsageError: as `read_sizes`.
    """
    sizes = read_sizes(file)
    with tempfile.TemporaryDirectory() as scratch:
        main = Path(scratch)
        towers = write_settings(sizes, main, sizes["language"]["vocab_size"])
        return read_config(main, towers["vision"], towers["audio"], towers["text"])


def write_settings(
    sizes: dict[str, Any],
    out: Path,
    vocab_size: int,
    text_vocab_size: int | None = None,
    **released: Any,
) -> dict[str, Path]:
    """Write config.json of a model and of its towers, these in folders inside `out`.

    Args:
        sizes: from `read_sizes`.
        out: folder of the model.
        vocab_size: V.
        text_vocab_size: words of the gate's text encoder; None takes the sizes'.
        released: further keys of the model's config.json.

    Returns:
        the towers' folders under "vision", "audio" and "text".
    """
    omni = sizes["omni"]
    towers = {part: out / omni[f"{part}_tower"] for part in ("vision", "audio", "text")}
    for folder in towers.values():
        folder.mkdir(parents=True, exist_ok=True)
    audio = dict(sizes["audio"])
    sound = {key: audio.pop(key) for key in ("hop_length", "n_fft")}
    text = dict(sizes["text"])
    if text_vocab_size is not None:
        text["vocab_size"] = text_vocab_size
    write_json(towers["vision"] / "config.json", SiglipVisionConfig(**sizes["vision"]).to_dict())
    write_json(towers["audio"] / "config.json", WhisperConfig(**audio).to_dict())
    write_json(
        towers["audio"] / "preprocessor_config.json",
        {**sound, "feature_size": audio["num_mel_bins"], "sampling_rate": 16_000},
    )
    write_json(towers["text"] / "config.json", BertConfig(**text).to_dict())
    main = {
        **sizes["language"],
        "architectures": ["HumanOmniQwen2ForCausalLM"],
        "model_type": MODEL_TYPE,
        "vocab_size": vocab_size,
        "mm_projector_type": PROJECTOR_TYPE,
        "mm_audio_projector_type": "mlp2x_gelu",
        "mm_use_x_start_end": True,
        "mm_hidden_size": sizes["vision"]["hidden_size"],
        "audio_hidden_size": audio["d_model"],
        **{f"mm_{part}_tower": folder.name for part, folder in towers.items()},
        **{key: value for key, value in omni.items() if not key.endswith("_tower")},
        **released,
    }
    write_json(out / "config.json", main)
    return towers


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write an object, indented."""
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
