"""Writing model folders, so that a reader finds a whole model or is told that there is none."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from huggingface_hub import save_torch_state_dict
from safetensors import SafetensorError

from r1omni.models.card import CARD, model_card
from r1omni.models.config import MODEL_TYPE, read_json
from r1omni.models.folders import ORIGIN, TOWER_KEYS, WRITING, ModelFolder, find_model_folder
from r1omni.models.omni import OmniModel
from r1omni.models.released import released_state
from r1omni.types import R1OmniError

# Larger models are written in several files of this size, with an index.
_MAX_SHARD_SIZE = "5GB"
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
# The settings that transformers knows of a model or a tokenizer. Together with the weights they
# are the model: one that is left of an older model would change how the new one works.
_SETTINGS = (
    "config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", "normalizer.json", "chat_template.json",
    "chat_template.jinja",
)  # fmt: skip


_FILE_SUFFIXES = {".json", ".txt", ".jinja", ".safetensors", ".bin"}


def save_model(model: OmniModel, source: ModelFolder, out: Path) -> ModelFolder:
    """Write a model folder: config, tokenizer and tower settings of `source`, this model's weights.

    All weights are in the main folder, so a tower's folder inside `out` holds settings only.
    A new folder appears whole or not at all. In a folder that is there, an older model is replaced
    file by file and everything else stays as it is; a process that is killed leaves the older
    model, or a folder that cannot be loaded until a model is written there again.

    Returns:
        the new folder.

    Raises:
        R1OmniError: `out` exists and is no model folder, or cannot be written.
    """
    check_replaceable(out)
    replaces = out.exists()
    staged = out / WRITING if replaces else out.with_name(f".{out.name}{WRITING}")
    try:
        shutil.rmtree(staged, ignore_errors=True)  # of a process that was killed
        _write(model, source, staged)
        if replaces:
            _put_in_place(staged, out)
        else:
            staged.rename(out)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise R1OmniError(
            f"{out}: the model cannot be written ({reason}); give it space and rights there, or "
            "choose another folder"
        ) from error
    return find_model_folder(out)


def _write(model: OmniModel, source: ModelFolder, out: Path) -> None:
    """Write every file of a model to a new folder."""
    out.mkdir(parents=True)
    copy_settings(source.main, out)
    config = dict(model.config.released)
    names = tower_names({part: _tower_name(source, part) for part in TOWER_KEYS})
    for part, key in TOWER_KEYS.items():
        name = names[part]
        (out / name).mkdir()
        copy_settings(getattr(source, part), out / name)
        config[key] = name
    origin = source.origin(config)
    if origin:
        config[ORIGIN] = origin
    config["torch_dtype"] = str(model.dtype).removeprefix("torch.")
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    card = model_card(replace(model.config, released=config), num_parameters)
    (out / CARD).write_text(card, encoding="utf-8")
    save_torch_state_dict(released_state(model), out, max_shard_size=_MAX_SHARD_SIZE)
    for weights in out.glob("*.safetensors"):  # safetensors makes files for their owner alone
        shutil.copymode(out / "config.json", weights)


def _put_in_place(staged: Path, out: Path) -> None:
    """Replace the model of a folder by the staged one; nothing else is touched.

    There is no config.json while the files are those of two models, so none of them is loaded.
    """
    files = sorted(file.relative_to(staged) for file in staged.rglob("*") if file.is_file())
    old = _old_files(out, {file.parent for file in files}) - {*files}
    # The index goes first: by it the next one to write here knows the weights that are in place.
    files.sort(key=lambda file: (file == Path("config.json"), file != Path(_INDEX)))
    (out / "config.json").unlink(missing_ok=True)
    for name in sorted(old):
        (out / name).unlink()
    for file in files:
        (out / file).parent.mkdir(exist_ok=True)
        os.replace(staged / file, out / file)
    shutil.rmtree(staged)


def _old_files(out: Path, folders: set[Path]) -> set[Path]:
    """What an older model would leave to the new one, relative to `out`."""
    names = {folder / name for folder in folders for name in _SETTINGS}
    names |= {Path(_WEIGHTS), Path(_INDEX)}
    if (out / _INDEX).is_file():
        shards = read_json(out / _INDEX).get("weight_map")
        if isinstance(shards, dict):  # their names alone: it must not lead anywhere else
            names |= {Path(Path(str(shard)).name) for shard in shards.values()}
    return {name for name in names if (out / name).is_file()}


def check_replaceable(out: Path) -> None:
    """Check that a model may be written to `out`: it is new, empty, or a model folder.

    Raises:
        R1OmniError: `out` is a file, or a folder with other things in it.
    """
    if not out.exists():
        return
    if out.is_dir():
        if all(entry.name == WRITING for entry in out.iterdir()):
            return
        # A process that was killed while it put files in place has left its config.json there.
        configs = [out / "config.json", out / WRITING / "config.json"]
        config = next((file for file in configs if file.is_file()), configs[0])
        if read_json(config).get("model_type") == MODEL_TYPE:
            return
    raise R1OmniError(f"{out} exists and is no model folder; choose another name")


def tower_names(named: Mapping[str, str]) -> dict[str, str]:
    """The towers' folders inside a model folder.

    Args:
        named: tower -> what it is called, the most important one first.

    Returns:
        the same names; one that is none, that another tower has or that files of a model have is
        followed by what the tower is.
    """
    names: dict[str, str] = {}
    for tower, name in named.items():
        is_free = is_free_name(name) and name not in names.values()
        names[tower] = name if is_free else f"{name}-{tower.removesuffix('_tower')}".strip("-")
    return names


def is_free_name(name: str) -> bool:
    """Whether a folder inside a model folder can have a name: no path, and none of its files'."""
    is_plain = Path(name).name == name and not name.startswith(".")
    return is_plain and Path(name.lower()).suffix not in _FILE_SUFFIXES


def _tower_name(folder: ModelFolder, part: str) -> str:
    """A tower's name, as its folder or its repository has it."""
    hub_id = folder.hub_ids.get(part)
    tower: Path = getattr(folder, part)
    return hub_id.split("/")[1] if hub_id else tower.name


def copy_settings(source: Path, target: Path) -> None:
    """Copy what a folder holds beside its weights: settings and tokenizer."""
    for name in _SETTINGS:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
