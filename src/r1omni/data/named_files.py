"""Recordings whose names say everything about them: found at any depth below a folder."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path

from r1omni.data.labels_io import SOUND_SUFFIXES, MissingDataError, confined, is_recording
from r1omni.text.emotions import canonical, normalize_word
from r1omni.types import Modality, UsageError

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NamedFile:
    """A recording and the parts of its name."""

    path: Path
    parts: tuple[str, ...]


def named_files(
    root: Path, name: re.Pattern[str], is_folder: Callable[[str], bool], looked_for: str
) -> list[NamedFile]:
    """Every recording with such a name, sorted by name, and of one name the least deep first.

    Linked folders inside the root are read where they lie.

    Args:
        root: where to look.
        name: what the whole name without its suffix has to be; its groups are the parts.
        is_folder: whether a folder of this name, in small letters, belongs to such a data set.
        looked_for: for the message where there is nothing.

    Raises:
        MissingDataError: there is none.
        UsageError: some lie behind a link that leads outside.
    """
    real_root = os.path.realpath(root)
    files: list[NamedFile] = []
    outward: list[Path] = []
    for folder, subfolders, names in os.walk(root):
        at = Path(folder)
        for path in (at / file for file in names):
            match = name.fullmatch(path.stem)
            if match is not None and is_recording(path):
                files.append(NamedFile(path, match.groups()))
        outward += [
            at / name for name in subfolders
            if (at / name).is_symlink() and not _inside(os.path.realpath(at / name), real_root)
        ]  # fmt: skip
    outward.sort()
    if outward and (files or any(is_folder(path.name.lower()) for path in outward)):
        confined(root, str(outward[0].relative_to(root)), str(root))  # says where it leads
    if not files:
        raise MissingDataError(f"{root}: {looked_for}")
    return sorted(files, key=lambda file: (file.path.stem, len(file.path.parts), file.path))


def each_once(
    root: Path, files: list[NamedFile], identity: Callable[[NamedFile], Hashable]
) -> list[NamedFile]:
    """The first file of each recording, in their order; a warning says how many are copies."""
    first: dict[Hashable, NamedFile] = {}
    for file in files:
        first.setdefault(identity(file), file)
    if len(first) < len(files):
        _logger.warning(
            "%s: %d of %d files are further copies by their names; each recording is read once",
            root, len(files) - len(first), len(files),
        )  # fmt: skip
    return list(first.values())


def serving(
    root: Path,
    files: list[NamedFile],
    modality: Modality | None,
    identity: Callable[[NamedFile], Hashable],
) -> list[NamedFile]:
    """Of each take the file that serves the modality, in the files' order.

    Where a take is there as a film and as sound alone, the film serves prompts of sound, too, so
    that it is the same clip in every run. Without a modality these are the films, or, where there
    is none, the sound.

    Raises:
        UsageError: the picture is asked for, and no file is a film by its name.
    """
    films = [file for file in files if not is_sound(file.path)]
    if modality is None:
        return films or files
    if modality == "audio":
        filmed = set(map(identity, films))
        return [f for f in files if not is_sound(f.path) or identity(f) not in filmed]
    if not films:
        raise UsageError(
            f"{root}: holds sound alone by its names, and modality {modality} needs a picture; set "
            "modality: audio, or leave it out"
        )
    return films


def is_sound(path: Path) -> bool:
    """Whether the name is that of sound alone."""
    return path.suffix.lower() in SOUND_SUFFIXES


def refuse_other_class(
    root: Path, path: Path, told_by: str, label: str, names: Mapping[str, str] | None = None
) -> None:
    """Raise UsageError where a folder above a recording is called like another emotion.

    Args:
        root: of the data set.
        path: the recording.
        told_by: what says its class, such as "the letter W".
        label: that class.
        names: further names of folders -> the class that they say, in the form of
            `normalize_word`.
    """
    for folder in path.relative_to(root).parts[:-1]:
        said = class_of_folder(folder, names)
        if said not in (None, label):
            raise UsageError(
                f"{path}: {told_by} says {label}, and the folder {folder} says {said}; move the "
                "file, or rename the folder"
            )


def class_of_folder(folder: str, names: Mapping[str, str] | None = None) -> str | None:
    """The emotion that a folder's name says, or None."""
    word = normalize_word(folder)
    return (names or {}).get(word) or canonical(word)


def _inside(path: str, real_root: str) -> bool:
    return os.path.commonpath([path, real_root]) == real_root
