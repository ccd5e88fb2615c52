"""RAVDESS: acted clips of eight emotions; everything is in the file name."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from r1omni.data.labels_io import SOUND_SUFFIXES, MissingDataError, confined, is_recording
from r1omni.data.registry import check_fold, check_split, labelled_sample, register
from r1omni.types import Clip, Modality, Sample, UsageError

_logger = logging.getLogger(__name__)

_CLASSES = ("neutral", "calm", "happy", "sad", "angry", "fear", "disgust", "surprise")
_NUM_ACTORS = 24
_NUM_FOLDS = 6
# modality, vocal channel, emotion, intensity, statement, repetition, actor
_NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)")
_ACTOR = re.compile(r"actor_\d\d")
Vocal = Literal["speech", "song", "both"]
_VOCAL: dict[Vocal, tuple[str, ...]] = {"speech": ("01",), "song": ("02",), "both": ("01", "02")}
# What the publisher's first number says that a file holds.
_HOLDS = {"01": "picture and sound", "02": "the picture alone", "03": "sound alone"}
_MODALITIES: dict[str, Modality] = {"01": "video_audio", "02": "video", "03": "audio"}
# Modality asked for -> the files that serve it; of one take the first that is there.
_SERVE: dict[Modality, tuple[str, ...]] = {
    "video_audio": ("01",),
    "video": ("01", "02"),
    "audio": ("01", "03"),
}
Protocol = Literal["8way", "7way_no_calm", "7way_calm_as_neutral"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)


@dataclass(frozen=True)
class _Recording:
    """A file, the seven numbers of its name, and which of `_HOLDS` it is.

    Sound that someone took out of a film keeps the film's name, and is sound alone.
    """

    path: Path
    numbers: tuple[str, ...]

    @property
    def kind(self) -> str:
        return "03" if self.path.suffix.lower() in SOUND_SUFFIXES else self.numbers[0]


@register("ravdess")
def load_ravdess(
    root: Path,
    *,
    split: str,
    instruction: str | None = None,
    modality: Modality | None = None,
    protocol: Protocol = "8way",
    actors: Sequence[int] | None = None,
    fold: int | None = None,
    vocal: Vocal = "speech",
) -> list[Sample]:
    """One sample a take, sorted by name; the group is the actor.

    A take is read from its file with picture and sound (`01-*.mp4`) where there is one. Without
    it, prompts of sound alone read `03-*.wav` and those of the picture alone `02-*.mp4`.

    Args:
        root: folder with `Actor_XX/*.mp4` or `*.wav`, at any depth.
        split: "test" or "all"; RAVDESS has no published split, so "train" needs `fold` or
            `actors`.
        instruction: None for R1-Omni's.
        modality: which media the prompts carry; None for picture and sound where files hold both,
            otherwise for what they hold: sound alone, or the picture alone.
        protocol: "8way"; "7way_no_calm" leaves calm out; "7way_calm_as_neutral" counts it as
            neutral.
        actors: take these actors only, 1 to 24.
        fold: 1 to 6: four consecutive actors are the test split, the others train.
        vocal: "speech", "song" or "both".

    Raises:
        UsageError: an unknown option value, no recordings, none that hold what `modality` and
            `vocal` ask for, an unknown emotion code, or a linked folder outside the root.
    """
    check_split("ravdess", split, ("train", "test", "all"))
    chosen = _actors(split, actors, fold)
    samples = []
    for found in _takes(root, _recordings(root), modality, vocal):
        path, actor = found.path, found.numbers[6]
        if int(actor) not in chosen:
            continue
        label = _label(found.numbers[2], path, protocol)
        if label is None:
            continue
        samples.append(
            labelled_sample(
                "ravdess",
                path.stem,
                Clip(confined(root, str(path.relative_to(root)), str(path))),
                label,
                label_set="ravdess" if protocol == "8way" else f"ravdess_{protocol}",
                instruction=instruction,
                modality=modality or _MODALITIES[found.kind],
                place=str(path),
                group=f"actor_{actor}",
            )
        )
    return samples


def _recordings(root: Path) -> list[_Recording]:
    """Every recording once, sorted by name.

    Raises:
        MissingDataError: there is none.
        UsageError: actors lie behind a link that leads outside.
    """
    files, outward = _files(root)
    first: dict[tuple[str, str], _Recording] = {}
    for file in sorted(files, key=lambda file: (file.path.stem, len(file.path.parts), file.path)):
        first.setdefault((file.kind, file.path.stem), file)
    if outward and (first or any(_ACTOR.fullmatch(path.name.lower()) for path in outward)):
        confined(root, str(outward[0].relative_to(root)), str(root))  # says where it leads
    if not first:
        raise MissingDataError(
            f"{root}: no RAVDESS recordings; looked for Actor_XX/01-01-*.mp4, 02-*.mp4, 03-*.wav"
        )
    if len(first) < len(files):
        _logger.warning(
            "%s: %d of %d files are further copies by their names; each recording is read once",
            root, len(files) - len(first), len(files),
        )  # fmt: skip
    return list(first.values())


def _files(root: Path) -> tuple[list[_Recording], list[Path]]:
    """Recordings below a folder, and linked folders that lead outside it.

    Linked folders inside it are read where they lie.
    """
    real_root = os.path.realpath(root)
    files: list[_Recording] = []
    outward: list[Path] = []
    for folder, subfolders, names in os.walk(root):
        at = Path(folder)
        for path in (at / name for name in names):
            match = _NAME.fullmatch(path.stem)
            if match is not None and is_recording(path):
                files.append(_Recording(path, match.groups()))
        outward += [
            at / name for name in subfolders
            if (at / name).is_symlink() and not _inside(os.path.realpath(at / name), real_root)
        ]  # fmt: skip
    return files, sorted(outward)


def _inside(path: str, real_root: str) -> bool:
    return os.path.commonpath([path, real_root]) == real_root


def _takes(
    root: Path, found: list[_Recording], modality: Modality | None, vocal: Vocal
) -> list[_Recording]:
    """Of each take the file that serves the modality, sorted by name.

    Raises:
        UsageError: no file does, or none is of the vocal channel.
    """
    heard = [file for file in found if file.numbers[1] in _VOCAL[vocal]]
    if not heard:
        raise UsageError(
            f"{root}: holds {len(found)} recordings of RAVDESS and no {vocal}; set the option "
            f"vocal, one of {', '.join(_VOCAL)}"
        )
    kinds = {file.kind for file in heard}
    serving: tuple[str, ...] = tuple(_MODALITIES)
    if modality is not None:
        serving = _SERVE[modality]
    elif kinds & _MODALITIES.keys():
        serving = (next(kind for kind in ("01", "03", "02") if kind in kinds),)
    takes: dict[tuple[str, ...], _Recording] = {}
    for kind in serving:
        for file in heard:
            if file.kind == kind:
                takes.setdefault(file.numbers[1:], file)
    if not takes:
        held = " and ".join(_HOLDS.get(kind, f"{kind}-*, no known form") for kind in sorted(kinds))
        needed = " or ".join(_HOLDS[kind] for kind in serving)
        raise UsageError(
            f"{root}: the {vocal} of RAVDESS there holds {held}, and modality {modality} needs "
            f"{needed}; set another modality, or leave it out"
        )
    return sorted(takes.values(), key=lambda file: file.path.stem)


def _actors(split: str, actors: Sequence[int] | None, fold: int | None) -> frozenset[int]:
    everyone = frozenset(range(1, _NUM_ACTORS + 1))
    chosen = everyone
    if actors is not None:
        chosen = frozenset(actors)
        if not chosen or not chosen <= everyone:
            raise UsageError(f"ravdess: actors {list(actors)} are not all in 1 to {_NUM_ACTORS}")
    if fold is not None:
        check_fold("ravdess", fold, _NUM_FOLDS)
        size = _NUM_ACTORS // _NUM_FOLDS
        held_out = frozenset(range(size * (fold - 1) + 1, size * fold + 1))
        if split != "all":
            chosen &= held_out if split == "test" else everyone - held_out
    elif split == "train" and actors is None:
        raise UsageError(
            "ravdess has no published train split; give the option fold (1 to 6) or actors, or "
            "use split test"
        )
    return chosen


def _label(code: str, path: Path, protocol: str) -> str | None:
    """The class, or None where the protocol leaves the recording out."""
    if not 1 <= int(code) <= len(_CLASSES):
        raise UsageError(f"{path}: emotion code {code} is none of 01 to 08; rename or remove it")
    label = _CLASSES[int(code) - 1]
    if label == "calm" and protocol != "8way":
        return None if protocol == "7way_no_calm" else "neutral"
    return label
