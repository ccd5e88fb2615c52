"""Model folders in the released HumanOmni layout: finding the towers, reading, writing.

Names differ in two places only: the release keeps its parts under `model.`, and transformers no
longer has the `vision_model.` level inside SigLIP.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    BertTokenizer,
    PreTrainedTokenizerBase,
    Qwen2Tokenizer,
)

from r1omni.models.config import OmniConfig, read_config, read_json
from r1omni.models.omni import OmniModel
from r1omni.types import R1OmniError

# Ours to released, first match wins.
_RENAMES = (
    ("vision_tower.vision_tower.", "model.vision_tower.vision_tower.vision_model."),
    ("audio_tower.", "model.audio_tower."),
    ("text_tower.bert_model.", "model.bert_model."),
    ("gate.", "model.bert_gate."),
    ("video_projector.", "model.mm_projector."),
    ("audio_projector.", "model.audio_projector."),
    ("language_model.", "model."),
    ("lm_head.", "lm_head."),
)
# Buffers that old releases wrote and nobody reads.
_IGNORED_SUFFIXES = ("rotary_emb.inv_freq", "embeddings.position_ids")
_TOWER_KEYS = {
    "vision_tower": "mm_vision_tower",
    "audio_tower": "mm_audio_tower",
    "text_tower": "mm_text_tower",
}
_DEFAULT_TEXT_TOWERS = ("bert-base-uncased", "bert-tiny")


@dataclass(frozen=True)
class ModelFolder:
    """A model folder and the folders of its towers."""

    main: Path
    vision_tower: Path
    audio_tower: Path
    text_tower: Path


def released_name(name: str) -> str:
    """The name a tensor of `OmniModel` has in a released checkpoint."""
    for ours, theirs in _RENAMES:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise KeyError(name)


def find_model_folder(
    path: str | Path,
    vision_tower: str | Path | None = None,
    audio_tower: str | Path | None = None,
    text_encoder: str | Path | None = None,
) -> ModelFolder:
    """Locate a model and its towers.

    A tower is looked for in this order: the argument; the path that config.json names; a folder
    of that base name inside the model folder; one beside it.

    Raises:
        R1OmniError: a folder cannot be found; the message lists the places tried.
    """
    main = Path(path)
    if not main.is_dir():
        raise R1OmniError(f"{main} is not a folder; give the folder of a model (with config.json)")
    config = read_json(main / "config.json")
    given = {
        "vision_tower": vision_tower,
        "audio_tower": audio_tower,
        "text_tower": text_encoder,
    }
    towers = {name: _find_tower(main, config, name, given[name]) for name in given}
    return ModelFolder(main, **towers)


def _find_tower(main: Path, config: dict, name: str, given: str | Path | None) -> Path:
    if given is not None:
        candidates = [Path(given)]
    else:
        named = config.get(_TOWER_KEYS[name])
        names = [named] if named else list(_DEFAULT_TEXT_TOWERS)
        candidates = [Path(entry) for entry in names if Path(entry).is_absolute()]
        for entry in names:
            base = Path(entry).name
            candidates += [main / base, main.parent / base]
    for candidate in candidates:
        if (candidate / "config.json").is_file():
            return candidate
    tried = ", ".join(str(candidate) for candidate in candidates)
    raise R1OmniError(
        f"{main}: its {name.replace('_', ' ')} was not found (tried {tried}); "
        f"put the folder there or name it by {name if name != 'text_tower' else 'text_encoder'}="
    )


def load_model(folder: ModelFolder, dtype: torch.dtype = torch.float32) -> OmniModel:
    """Build the model of a folder and load every tensor of its checkpoint.

    Raises:
        R1OmniError: weights are missing, unreadable, unexpected or of another shape.
    """
    config = read_config(folder.main, folder.vision_tower, folder.audio_tower, folder.text_tower)
    model = OmniModel(config)
    tensors = _read_weights(folder.main)
    for part, prefix in (
        ("vision_tower", "model.vision_tower.vision_tower."),
        ("audio_tower", "model.audio_tower.audio_tower."),
        ("text_tower", "model.bert_model."),
    ):
        if not any(name.startswith(prefix) for name in tensors):
            beside = _read_weights(getattr(folder, part))
            tensors |= {prefix + name: tensor for name, tensor in beside.items()}
    _assign(model, tensors, folder.main)
    return model.to(dtype)


def _read_weights(folder: Path) -> dict[str, Tensor]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise R1OmniError(f"{folder} holds no .safetensors file; copy the weights into it")
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as reader:
                tensors |= {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise R1OmniError(
                f"{file} cannot be read as safetensors ({error}); copy the file again"
            ) from None
    return tensors


def _assign(model: OmniModel, tensors: dict[str, Tensor], source: Path) -> None:
    own = model.state_dict()
    wanted = {released_name(name): name for name in own}
    tied = model.config.language.tie_word_embeddings
    missing, wrong_shape, state = [], [], {}
    for theirs, ours in wanted.items():
        if theirs in tensors:
            if tensors[theirs].shape != own[ours].shape:
                wrong_shape.append(
                    f"{theirs} {list(tensors[theirs].shape)} instead of {list(own[ours].shape)}"
                )
            state[ours] = tensors[theirs]
        elif not (tied and ours == "lm_head.weight"):
            missing.append(theirs)
    unexpected = [
        name for name in tensors if name not in wanted and not name.endswith(_IGNORED_SUFFIXES)
    ]
    problems = [
        f"{kind}: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''} ({len(names)})"
        for kind, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", wrong_shape),
        )
        if names
    ]
    if problems:
        raise R1OmniError(
            f"{source}: its weights do not fit its config.json; {'; '.join(problems)}; "
            "give a checkpoint of the same architecture"
        )
    model.load_state_dict(state, strict=False)


def load_tokenizers(
    folder: ModelFolder,
) -> tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase]:
    """The language model's tokenizer and that of the gate's text encoder.

    Raises:
        R1OmniError: a folder holds no tokenizer, or one that cannot be read.
    """
    return (
        _load_tokenizer(Qwen2Tokenizer, folder.main, ("vocab.json", "merges.txt")),
        _load_tokenizer(BertTokenizer, folder.text_tower, ("vocab.txt",)),
    )


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


def save_model(model: OmniModel, source: ModelFolder, out: Path) -> ModelFolder:
    """Write a model folder: config, tokenizer and tower settings of `source`, this model's weights.

    All weights are in the main file, so a tower's folder inside `out` holds settings only. The
    folder appears whole or not at all.

    Returns:
        the new folder.
    """
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _copy_settings(source.main, partial)
    config = dict(model.config.released)
    for part, key in _TOWER_KEYS.items():
        tower: Path = getattr(source, part)
        (partial / tower.name).mkdir()
        _copy_settings(tower, partial / tower.name)
        config[key] = tower.name
    (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file(_released_state(model), partial / "model.safetensors", metadata={"format": "pt"})
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    return find_model_folder(out)


def _copy_settings(source: Path, target: Path) -> None:
    for file in sorted(source.iterdir()):
        if file.is_file() and file.suffix in {".json", ".txt", ".jinja"}:
            shutil.copyfile(file, target / file.name)


def _released_state(model: OmniModel) -> dict[str, Tensor]:
    tied = model.config.language.tie_word_embeddings
    return {
        released_name(name): tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if not (tied and name == "lm_head.weight")
    }


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
