"""RAVDESS: acted clips of eight emotions; everything is in the file name."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal, get_args

from r1omni.data.folds import FOLD_SPLITS, check_folds, speaker_folds, speakers_of_split
from r1omni.data.labels_io import SOUND_SUFFIXES, confined
from r1omni.data.named_files import NamedFile, each_once, named_files
from r1omni.data.registry import check_split, labelled_sample, register
from r1omni.types import Clip, Intensity, Modality, Sample, Sex, UsageError

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
_INTENSITIES: dict[str, Intensity] = {"01": "normal", "02": "strong"}
# Modality asked for -> the files that serve it; of one take the first that is there.
_SERVE: dict[Modality, tuple[str, ...]] = {
    "video_audio": ("01",),
    "video": ("01", "02"),
    "audio": ("01", "03"),
}
Protocol = Literal["8way", "7way_no_calm", "7way_calm_as_neutral"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
_CONSECUTIVE = tuple(
    frozenset(f"actor_{actor:02d}" for actor in range(first, first + _NUM_ACTORS // _NUM_FOLDS))
    for first in range(1, _NUM_ACTORS + 1, _NUM_ACTORS // _NUM_FOLDS)
)


@register("ravdess", folds=_NUM_FOLDS)
def load_ravdess(
    root: Path,
    *,
    split: str,
    instruction: str | None = None,
    modality: Modality | None = None,
    protocol: Protocol = "8way",
    actors: Sequence[int] | None = None,
    fold: int | None = None,
    folds: int | None = None,
    hold_out_val: bool = False,
    vocal: Vocal = "speech",
) -> list[Sample]:
    """One sample a take, sorted by name; the group is the actor.

    A take is read from its file with picture and sound (`01-*.mp4`) where there is one. Without
    it, prompts of sound alone read `03-*.wav` and those of the picture alone `02-*.mp4`.

    Args:
        root: folder with `Actor_XX/*.mp4` or `*.wav`, at any depth.
        split: "test" or "all"; RAVDESS has no published split, so "train" needs `fold` or
            `actors`, and "val" needs `hold_out_val`.
        instruction: None for R1-Omni's.
        modality: which media the prompts carry; None for picture and sound where files hold both,
            otherwise for what they hold: sound alone, or the picture alone.
        protocol: "8way"; "7way_no_calm" leaves calm out; "7way_calm_as_neutral" counts it as
            neutral.
        actors: take these actors only, 1 to 24.
        fold: 1 to 6: four consecutive actors are the test split, the others train; with `folds`
            1 to that number.
        folds: make so many folds of the actors that are there, balanced by sex and by recordings
            of either vocal channel and any modality.
        hold_out_val: the next fold's actors are the split val, and train leaves them out.
        vocal: "speech", "song" or "both".

    Raises:
        UsageError: an unknown option value, no recordings, none that hold what `modality` and
            `vocal` ask for, none of the actors that are asked for, an unknown code of emotion or
            intensity, a linked folder outside the root, fewer actors than folds, or options of
            folds that contradict.
    """
    check_split("ravdess", split, (*FOLD_SPLITS, "all"))
    check_folds("ravdess", split, folds, fold, hold_out_val, _NUM_FOLDS)
    chosen = _actors(split, actors, fold)
    files = _recordings(root)
    if fold is not None:
        made = _CONSECUTIVE if folds is None else speaker_folds(_speakers(files), folds, str(root))
        chosen &= speakers_of_split(made, split, fold, hold_out_val)
    takes = _takes(root, files, modality, vocal)
    _check_there(root, {_actor(take) for take in takes}, chosen, vocal, fold, folds)
    samples = []
    for found in takes:
        path, actor = found.path, _actor(found)
        if actor not in chosen:
            continue
        label = _label(found.parts[2], path, protocol)
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
                modality=modality or _MODALITIES[_kind(found)],
                place=str(path),
                group=actor,
                sex=_sex(found),
                intensity=_intensity(found),
                language="en",
            )
        )
    return samples


def _recordings(root: Path) -> list[NamedFile]:
    """Every recording once, sorted by name.

    Raises:
        MissingDataError: there is none.
        UsageError: actors lie behind a link that leads outside.
    """
    files = named_files(
        root,
        _NAME,
        lambda folder: _ACTOR.fullmatch(folder) is not None,
        "no RAVDESS recordings; looked for Actor_XX/01-01-*.mp4, 02-*.mp4, 03-*.wav",
    )
    return each_once(root, files, lambda file: (_kind(file), file.path.stem))


def _kind(file: NamedFile) -> str:
    """Which of `_HOLDS` a file is.

    Sound that someone took out of a film keeps the film's name, and is sound alone.
    """
    return "03" if file.path.suffix.lower() in SOUND_SUFFIXES else file.parts[0]


def _actor(file: NamedFile) -> str:
    return f"actor_{file.parts[6]}"


def _sex(file: NamedFile) -> Sex:
    """Odd numbers are men, says the publisher."""
    return "male" if int(file.parts[6]) % 2 else "female"


def _intensity(file: NamedFile) -> Intensity:
    """The fourth number. Neutral was acted with one intensity, which the publisher calls normal."""
    code = file.parts[3]
    if code not in _INTENSITIES:
        raise UsageError(
            f"{file.path}: intensity code {code} is neither 01 nor 02; rename or remove it"
        )
    return _INTENSITIES[code]


def _speakers(files: list[NamedFile]) -> list[tuple[str, Sex | None]]:
    """Actor and sex of each recording, of whatever option: folds are the same for all of them."""
    return [(_actor(f), _sex(f)) for f in files if 1 <= int(f.parts[6]) <= _NUM_ACTORS]


def _takes(
    root: Path, found: list[NamedFile], modality: Modality | None, vocal: Vocal
) -> list[NamedFile]:
    """Of each take the file that serves the modality, sorted by name.

    Raises:
        UsageError: no file does, or none is of the vocal channel.
    """
    heard = [file for file in found if file.parts[1] in _VOCAL[vocal]]
    if not heard:
        raise UsageError(
            f"{root}: holds {len(found)} recordings of RAVDESS and no {vocal}; set the option "
            f"vocal, one of {', '.join(_VOCAL)}"
        )
    kinds = {_kind(file) for file in heard}
    serving: tuple[str, ...] = tuple(_MODALITIES)
    if modality is not None:
        serving = _SERVE[modality]
    elif kinds & _MODALITIES.keys():
        serving = (next(kind for kind in ("01", "03", "02") if kind in kinds),)
    takes: dict[tuple[str, ...], NamedFile] = {}
    for kind in serving:
        for file in heard:
            if _kind(file) == kind:
                takes.setdefault(file.parts[1:], file)
    if not takes:
        held = " and ".join(_HOLDS.get(kind, f"{kind}-*, no known form") for kind in sorted(kinds))
        needed = " or ".join(_HOLDS[kind] for kind in serving)
        raise UsageError(
            f"{root}: the {vocal} of RAVDESS there holds {held}, and modality {modality} needs "
            f"{needed}; set another modality, or leave it out"
        )
    return sorted(takes.values(), key=lambda file: file.path.stem)


def _actors(split: str, actors: Sequence[int] | None, fold: int | None) -> frozenset[str]:
    """The actors that options name, before any fold."""
    everyone = range(1, _NUM_ACTORS + 1)
    if actors is not None and not (actors and set(actors) <= set(everyone)):
        raise UsageError(f"ravdess: actors {list(actors)} are not all in 1 to {_NUM_ACTORS}")
    if split == "train" and actors is None and fold is None:
        raise UsageError(
            "ravdess has no published train split; give the option fold (1 to 6) or actors, or "
            "use split test"
        )
    return frozenset(f"actor_{actor:02d}" for actor in (actors or everyone))


def _check_there(
    root: Path,
    there: set[str],
    chosen: frozenset[str],
    vocal: Vocal,
    fold: int | None,
    folds: int | None,
) -> None:
    """Raise UsageError where none of the chosen actors is there: people have parts of the set."""
    if chosen & there:
        return
    if not chosen:
        raise UsageError(f"{root}: none of the actors given is in the split of fold {fold}")
    remedy = "choose others"
    if fold is not None and folds is None:
        remedy = "choose another fold, or give folds, too, which divides the actors that are there"
    raise UsageError(
        f"{root}: the split asks for {_listed(chosen)}, of whom no {vocal} is there; it holds that "
        f"of {_listed(there)}; {remedy}"
    )


def _listed(actors: Collection[str]) -> str:
    numbers = [name.removeprefix("actor_") for name in sorted(actors)]
    return f"{'actor' if len(numbers) == 1 else 'actors'} {', '.join(numbers)}"


def _label(code: str, path: Path, protocol: str) -> str | None:
    """The class, or None where the protocol leaves the recording out."""
    if not 1 <= int(code) <= len(_CLASSES):
        raise UsageError(f"{path}: emotion code {code} is none of 01 to 08; rename or remove it")
    label = _CLASSES[int(code) - 1]
    if label == "calm" and protocol != "8way":
        return None if protocol == "7way_no_calm" else "neutral"
    return label
