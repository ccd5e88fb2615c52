"""RAVDESS: acted clips of eight emotions; everything is in the file name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from r1omni.data.labels_io import MissingDataError, confined
from r1omni.data.registry import check_fold, check_split, labelled_sample, register
from r1omni.types import Clip, Modality, Sample, UsageError

_CLASSES = ("neutral", "calm", "happy", "sad", "angry", "fear", "disgust", "surprise")
_NUM_ACTORS = 24
_NUM_FOLDS = 6
# modality, vocal channel, emotion, intensity, statement, repetition, actor
_NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)\.mp4", re.IGNORECASE)
_VOCAL = {"speech": ("01",), "song": ("02",), "both": ("01", "02")}
PROTOCOLS = ("8way", "7way_no_calm", "7way_calm_as_neutral")


@register("ravdess")
def load_ravdess(
    root: Path,
    *,
    split: str,
    instruction: str | None = None,
    modality: Modality = "video_audio",
    protocol: str = "8way",
    actors: Sequence[int] | None = None,
    fold: int | None = None,
    vocal: str = "speech",
) -> list[Sample]:
    """Recordings with picture and sound (modality 01), sorted by name; the group is the actor.

    Args:
        root: folder with `Actor_XX/*.mp4`, at any depth.
        split: "test" or "all"; RAVDESS has no published split, so "train" needs `fold` or
            `actors`.
        instruction: None for R1-Omni's.
        modality: which media the prompts carry.
        protocol: "8way"; "7way_no_calm" leaves calm out; "7way_calm_as_neutral" counts it as
            neutral.
        actors: take these actors only, 1 to 24.
        fold: 1 to 6: four consecutive actors are the test split, the others train.
        vocal: "speech", "song" or "both".

    Raises:
        UsageError: an unknown option value, no recordings, or an unknown emotion code.
    """
    check_split("ravdess", split, ("train", "test", "all"))
    if protocol not in PROTOCOLS:
        raise UsageError(
            f"ravdess: protocol {protocol!r} is unknown; use one of {', '.join(PROTOCOLS)}"
        )
    if vocal not in _VOCAL:
        raise UsageError(f"ravdess: vocal {vocal!r} is unknown; use one of {', '.join(_VOCAL)}")
    chosen = _actors(split, actors, fold)
    samples = []
    files = sorted((path.name, path) for path in root.rglob("*.mp4"))
    found = [(match, path) for name, path in files if (match := _NAME.fullmatch(name))]
    if not found:
        raise MissingDataError(f"{root}: no RAVDESS recordings; looked for Actor_XX/01-01-*.mp4")
    for match, path in found:
        if match[1] != "01" or match[2] not in _VOCAL[vocal] or int(match[7]) not in chosen:
            continue
        label = _label(match[3], path, protocol)
        if label is None:
            continue
        samples.append(
            labelled_sample(
                "ravdess",
                path.stem,
                Clip(confined(root, str(path.relative_to(root)), str(path))),
                label,
                instruction=instruction,
                modality=modality,
                group=f"actor_{match[7]}",
            )
        )
    return samples


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
