"""The sizes of a model as one YAML file, and the settings of a model folder made of them.

A part that is given pretrained (`parts.py`) brings its own sizes, and has none in the file.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from transformers import BertConfig, SiglipVisionConfig, WhisperConfig

from r1omni.media.config import MediaConfig
from r1omni.models.config import MODEL_TYPE, PROJECTOR_TYPE, OmniConfig, read_config
from r1omni.models.parts import KINDS, Part, language_keys
from r1omni.models.saving import copy_settings, is_free_name, tower_names
from r1omni.types import UsageError, why_no_file

_TOWERS = ("vision", "audio", "text")
# What a section cannot do without, beside the names of the towers in omni.
_NEEDED = {
    "language": ("vocab_size",),
    "vision": ("hidden_size",),
    "audio": ("d_model", "num_mel_bins", "hop_length", "n_fft"),
}
# What joins the parts, as in the releases: for a model of which every part is given.
_RELEASED_OMNI = {
    "num_frames": MediaConfig.num_frames,
    "image_aspect_ratio": MediaConfig.frame_fit,
    "mm_vision_select_layer": OmniConfig.vision_select_layer,
    "mm_gate_hidden_size": OmniConfig.gate_hidden_size,
}


def read_sizes(file: Path | None, parts: Mapping[str, Part] | None = None) -> dict[str, Any]:
    """The sections language, vision, audio, text and omni of a YAML file.

    They hold the configuration keys of Qwen2, SigLIP, Whisper, BERT and the release.

    Args:
        file: holds the sections of all parts that are not given, and omni; None where every part
            is given, which takes the releases' omni.
        parts: pretrained ones, by section.

    Raises:
        UsageError: the file is missing, or a section is missing, unknown, or that of a given part.
    """
    parts = parts or {}
    if file is None:
        missing = [name for name in KINDS if name not in parts]
        if missing:
            raise UsageError(
                f"--sizes is missing, with the sections {', '.join([*missing, 'omni'])}; give it, "
                f"or these parts by {', '.join(KINDS[name].option for name in missing)}"
            )
        return {"omni": dict(_RELEASED_OMNI)}
    if not file.is_file():
        raise UsageError(f"--sizes {file}: {why_no_file(file)}")
    try:
        sizes: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: is no YAML ({' '.join(str(error).split())})") from error
    wanted = [*(name for name in KINDS if name not in parts), "omni"]
    if isinstance(sizes, dict):
        twice = [name for name in parts if name in sizes]
        if twice:
            raise UsageError(
                f"{file} has a section {twice[0]}, but {KINDS[twice[0]].option} gives that part "
                "with its sizes; remove one of them"
            )
    if not isinstance(sizes, dict) or set(sizes) != set(wanted):
        raise UsageError(f"{file} must have exactly the sections {', '.join(wanted)}")
    towers = tuple(f"{tower}_tower" for tower in _TOWERS if tower not in parts)
    for name in wanted:
        if not isinstance(sizes[name], dict):
            raise UsageError(f"{file}: {name} must be a section of keys and values")
        needed = towers if name == "omni" else _NEEDED.get(name, ())
        lacking = [key for key in needed if key not in sizes[name]]
        if lacking:
            raise UsageError(f"{file}: {name} lacks {', '.join(lacking)}")
    names = [str(sizes["omni"][tower]) for tower in towers]
    if len(set(names)) < len(names):
        raise UsageError(f"{file}: omni gives two towers one name; name them apart")
    for tower, name in zip(towers, names, strict=True):
        if not is_free_name(name):
            raise UsageError(
                f"{file}: omni calls the {tower} {name!r}, which cannot be a folder beside the "
                "model's files; give it a plain name"
            )
    for name in parts:
        if f"{name}_tower" in sizes["omni"]:
            raise UsageError(
                f"{file}: omni names the {name}_tower, but {KINDS[name].option} gives it with its "
                "name; remove the key"
            )
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
    parts: Mapping[str, Part] | None = None,
    released: Mapping[str, Any] | None = None,
) -> dict[str, Path]:
    """Write config.json of a model and of its towers, these in folders inside `out`.

    Args:
        sizes: from `read_sizes`.
        out: folder of the model.
        vocab_size: V.
        text_vocab_size: words of the gate's text encoder; None takes the sizes'.
        parts: pretrained ones, by section, whose settings are copied.
        released: further keys of the model's config.json.

    Returns:
        the towers' folders under "vision", "audio" and "text".
    """
    omni, parts = sizes["omni"], parts or {}
    named = {tower: str(omni[f"{tower}_tower"]) for tower in _TOWERS if tower not in parts}
    named |= {tower: parts[tower].name for tower in _TOWERS if tower in parts}
    towers = {tower: out / name for tower, name in tower_names(named).items()}
    for tower, folder in towers.items():
        folder.mkdir(parents=True, exist_ok=True)
        if tower in parts:
            copy_settings(parts[tower].folder, folder)
        else:
            _write_tower(tower, dict(sizes[tower]), folder, text_vocab_size)
    main = {
        **(language_keys(parts["language"]) if "language" in parts else sizes["language"]),
        "architectures": ["HumanOmniQwen2ForCausalLM"],
        "model_type": MODEL_TYPE,
        "vocab_size": vocab_size,
        "mm_projector_type": PROJECTOR_TYPE,
        "mm_audio_projector_type": "mlp2x_gelu",
        "mm_use_x_start_end": True,
        "mm_hidden_size": _width("vision", "hidden_size", sizes, parts),
        "audio_hidden_size": _width("audio", "d_model", sizes, parts),
        **{f"mm_{part}_tower": folder.name for part, folder in towers.items()},
        **{key: value for key, value in omni.items() if not key.endswith("_tower")},
        **(released or {}),
    }
    write_json(out / "config.json", main)
    return towers


def _width(tower: str, key: str, sizes: dict[str, Any], parts: Mapping[str, Part]) -> int:
    value: int = getattr(parts[tower].config, key) if tower in parts else sizes[tower][key]
    return value


def _write_tower(
    tower: str, sizes: dict[str, Any], folder: Path, text_vocab_size: int | None
) -> None:
    """Write the settings of a tower of these sizes, and of what makes its inputs."""
    if tower == "text" and text_vocab_size is not None:
        sizes["vocab_size"] = text_vocab_size
    if tower == "audio":
        sound = {key: sizes.pop(key) for key in ("hop_length", "n_fft")}
        sound |= {"feature_size": sizes["num_mel_bins"], "sampling_rate": 16_000}
        write_json(folder / "preprocessor_config.json", sound)
    kinds = {"vision": SiglipVisionConfig, "audio": WhisperConfig, "text": BertConfig}
    write_json(folder / "config.json", kinds[tower](**sizes).to_dict())


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write an object, indented."""
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
