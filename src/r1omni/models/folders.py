"""Finding a model folder and the folders of its towers, on disk or on the hub."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from r1omni.models.config import read_json
from r1omni.models.hub import PUBLIC_IDS, fetch_settings, fetch_weights, is_hub_id, split_id
from r1omni.models.weights import quick_digest
from r1omni.types import R1OmniError, UsageError

# A model that is being written lies in a folder of this name until it is whole.
WRITING = ".r1omni_writing"
# The key of config.json under which a model folder keeps where it came from.
ORIGIN = "origin"
# Where config.json names each tower.
TOWER_KEYS = {
    "vision_tower": "mm_vision_tower",
    "audio_tower": "mm_audio_tower",
    "text_tower": "mm_text_tower",
}
# Releases do not name the gate's text encoder.
_DEFAULT_TEXT_TOWERS = ("bert-base-uncased", "bert-tiny")


@dataclass(frozen=True)
class ModelFolder:
    """A model folder and the folders of its towers; all hold their settings.

    Attributes:
        main: config.json, tokenizer and weights of the model.
        vision_tower, audio_tower, text_tower: config.json of each, and its weights unless the
            main folder holds them.
        hub_ids: by attribute name, the repository a folder came from; its weights are fetched
            when they are needed.
        commits: by attribute name, the commit of that repository.
    """

    main: Path
    vision_tower: Path
    audio_tower: Path
    text_tower: Path
    hub_ids: Mapping[str, str] = field(default_factory=dict)
    commits: Mapping[str, str] = field(default_factory=dict)

    def with_weights(self, part: str) -> Path:
        """The folder of a part, its weights fetched."""
        if part in self.hub_ids:
            return fetch_weights(self.pinned(part))
        folder: Path = getattr(self, part)
        return folder

    def pinned(self, part: str) -> str:
        """What finds the same files again: `owner/name@commit`, or the folder's whole path."""
        if part in self.hub_ids:
            return f"{self.hub_ids[part]}@{self.commits[part]}"
        folder: Path = getattr(self, part)
        return str(folder.resolve())

    def digest(self) -> str:
        """16 characters that tell models apart.

        They are of the commits of what is from the hub, and of `quick_digest` of other folders.
        """
        parts = ("main", *TOWER_KEYS)
        found = [
            self.pinned(part) if part in self.hub_ids else quick_digest(getattr(self, part))
            for part in parts
        ]
        return hashlib.sha256(repr(found).encode()).hexdigest()[:16]

    def origin(self, released: Mapping[str, Any]) -> dict[str, str]:
        """`owner/name@commit` of each part that came from the hub, now or at an earlier stage.

        Args:
            released: the main config.json, in which a folder that was written keeps it.
        """
        earlier = released.get(ORIGIN)
        kept = earlier if isinstance(earlier, dict) else {}
        return {**kept, **{part: self.pinned(part) for part in self.hub_ids}}


def find_model_folder(
    path: str | Path,
    vision_tower: str | Path | None = None,
    audio_tower: str | Path | None = None,
    text_encoder: str | Path | None = None,
) -> ModelFolder:
    """Locate a model and its towers.

    A tower is looked for in this order: the argument; the path that config.json names; a folder
    of that base name inside the model folder; one beside it; the public repository known for the
    base name. Settings from the hub are fetched here, weights when they are loaded.

    Args:
        path: a folder, or a repository of the hub: `owner/name`, or `owner/name@revision` for one
            commit, tag or branch of it. Towers are given likewise.
        vision_tower: folder or repository of the SigLIP tower.
        audio_tower: folder or repository of the Whisper tower.
        text_encoder: folder or repository of the BERT encoder.

    Raises:
        UsageError: an argument is no folder and no repository.
        R1OmniError: a tower cannot be found; the message lists the places tried.
    """
    main, hub_ids = locate(path)
    if (main / WRITING).exists() and not (main / "config.json").exists():
        raise R1OmniError(
            f"{main}: the process that wrote this model was stopped before it was whole; write the "
            "model there again"
        )
    config = read_json(main / "config.json")
    found = {"main": main}
    ids = {"main": hub_ids} if hub_ids else {}
    given = {"vision_tower": vision_tower, "audio_tower": audio_tower, "text_tower": text_encoder}
    for part, argument in given.items():
        found[part], hub_id = (
            _find_tower(main, config, part) if argument is None else _given_tower(argument, part)
        )
        if hub_id:
            ids[part] = hub_id
    commits = {part: found[part].name for part in ids}
    return ModelFolder(**found, hub_ids=ids, commits=commits)


def locate(path: str | Path, what: str = "a model") -> tuple[Path, str | None]:
    """A folder, and the repository it came from if it did.

    Args:
        path: a folder, or `owner/name[@revision]`.
        what: should lie there, for the message.

    Raises:
        UsageError: it is neither.
        R1OmniError: the repository cannot be had.
    """
    folder = Path(path)
    if not str(path):
        raise UsageError(f"the folder of {what} is empty; give its path or its id on the hub")
    if folder.is_dir():
        return folder, None
    if not folder.exists() and is_hub_id(str(path)):
        try:
            return fetch_settings(str(path)), split_id(str(path))[0]
        except R1OmniError as error:
            raise R1OmniError(f"{path} is not a folder, and {error}") from None
    raise UsageError(
        f"{path} is not a folder; give the folder of {what} (with config.json) or its id on the "
        "hub (owner/name or owner/name@revision)"
    )


def _given_tower(argument: str | Path, part: str) -> tuple[Path, str | None]:
    folder, hub_id = locate(argument)
    if not (folder / "config.json").is_file():
        raise R1OmniError(f"{argument} was given as {_words(part)} but holds no config.json")
    return folder, hub_id


def _find_tower(main: Path, config: dict, part: str) -> tuple[Path, str | None]:
    named = config.get(TOWER_KEYS[part])
    names = [str(named)] if named else list(_DEFAULT_TEXT_TOWERS) if part == "text_tower" else []
    candidates = [Path(name) for name in names if Path(name).is_absolute()]
    for name in names:
        base = _base_name(name)
        candidates += [main / base, main.parent / base]
    for candidate in candidates:
        if (candidate / "config.json").is_file():
            return candidate, None
    tried = [str(candidate) for candidate in candidates]
    for name in names:
        hub_id = PUBLIC_IDS.get(_base_name(name)) or (name if is_hub_id(name) else None)
        if hub_id is None:
            continue
        try:
            return fetch_settings(hub_id), split_id(hub_id)[0]
        except R1OmniError as error:
            tried.append(str(error))
    argument = "text_encoder" if part == "text_tower" else part
    raise R1OmniError(
        f"{main}: its {_words(part)} was not found (tried {', '.join(tried) or 'no place'}); put "
        f"the folder there or name it by {argument}="
    )


def _base_name(name: str) -> str:
    # Whatever the path looked like on the authors' disk, "/" or "..": only its last part is used.
    base = PurePosixPath(name.replace("\\", "/")).name
    return "" if base == ".." else base


def _words(part: str) -> str:
    return part.replace("_", " ")
