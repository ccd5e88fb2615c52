"""CREMA-D: acted English sentences, with picture and sound; everything is in the file name."""

from __future__ import annotations

import re
from pathlib import Path

from r1omni.data.folds import Division
from r1omni.data.labels_io import confined
from r1omni.data.named_files import (
    NamedFile,
    class_of_folder,
    each_once,
    is_sound,
    named_files,
    refuse_other_class,
    serving,
)
from r1omni.data.registry import labelled_sample, register
from r1omni.types import Clip, Intensity, Modality, Sample, Sex, UsageError

# actor, sentence, emotion, level; the publisher's 1040_ITH_SAD_X lacks a letter
_NAME = re.compile(r"(1\d{3})_([A-Z]{3})_([A-Z]{3})_([A-Z]{1,2})")
_CLASSES = {
    "ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad",
}  # fmt: skip
_LEVELS: dict[str, Intensity | None] = {
    "LO": "low", "MD": "medium", "HI": "high", "XX": None, "X": None,
}  # fmt: skip
_ACTORS = range(1001, 1092)
# The column Sex of the publisher's VideoDemographics.csv; all other actors are men.
_WOMEN = frozenset(
    (1002, 1003, 1004, 1006, 1007, 1008, 1009, 1010, 1012, 1013, 1018, 1020, 1021, 1024, 1025, 1028)
    + (1029, 1030, 1037, 1043, 1046, 1047, 1049, 1052, 1053, 1054, 1055, 1056, 1058, 1060, 1061)
    + (1063, 1072, 1073, 1074, 1075, 1076, 1078, 1079, 1082, 1084, 1089, 1091)
)
_FOLDERS = ("videoflash", "audiowav", "audiomp3")


@register("cremad")
def load_cremad(
    root: Path,
    *,
    split: str,
    instruction: str | None = None,
    modality: Modality | None = None,
    folds: int | None = None,
    fold: int | None = None,
    hold_out_val: bool = False,
) -> list[Sample]:
    """One sample a clip, sorted by name; the group is the actor, the class the intended emotion.

    A clip is read from its film where there is one, and otherwise from its sound.

    Args:
        root: folder with `VideoFlash/1001_DFA_ANG_XX.flv` or `AudioWAV/1001_DFA_ANG_XX.wav`, or
            with such files at any depth.
        split: "test" or "all", which have every actor; CREMA-D has no published split, so "train"
            needs `folds`, and "val" needs `hold_out_val`.
        instruction: None for R1-Omni's.
        modality: which media the prompts carry; None for picture and sound where there are films,
            otherwise for sound alone.
        folds: make so many folds of the actors that are there, balanced by sex and by clips.
        fold: 1 to `folds`: whose actors are the test split; the others train.
        hold_out_val: the next fold's actors are the split val, and train leaves them out.

    Raises:
        UsageError: no recordings, an unknown actor or code of emotion or level, a folder that
            contradicts the code, a linked folder outside the root, the picture asked for where
            there is none, fewer actors than folds, or options of folds that contradict.
    """
    division = Division("cremad", split, folds, fold, hold_out_val)
    files = _recordings(root)
    chosen = division.chosen([(_actor(f), _sex(f)) for f in _once(files)], root)
    return [
        labelled_sample(
            "cremad",
            file.path.stem,
            Clip(confined(root, str(file.path.relative_to(root)), str(file.path))),
            _CLASSES[file.parts[2]],
            label_set="cremad",
            instruction=instruction,
            modality=modality,
            place=str(file.path),
            group=_actor(file),
            sex=_sex(file),
            intensity=_LEVELS[file.parts[3]],
            language="en",
        )
        for file in serving(root, files, modality, lambda file: file.path.stem)
        if _actor(file) in chosen
    ]


def _recordings(root: Path) -> list[NamedFile]:
    """Every film and every sound once, sorted by name."""
    files = named_files(
        root,
        _NAME,
        lambda folder: folder in _FOLDERS or class_of_folder(folder) is not None,
        "no CREMA-D recordings; looked for VideoFlash/1001_DFA_ANG_XX.flv, AudioWAV/*.wav and the "
        "like, at any depth",
    )
    for file in files:
        _check(root, file)
    # Of the publisher's two copies of the sound, the one that lost nothing.
    files.sort(key=lambda file: (file.path.stem, file.path.suffix.lower() != ".wav"))
    return each_once(root, files, lambda file: (is_sound(file.path), file.path.stem))


def _once(files: list[NamedFile]) -> list[NamedFile]:
    """One file of each clip, so that folds are the same whichever of them is read."""
    return list({file.path.stem: file for file in files}.values())


def _actor(file: NamedFile) -> str:
    return f"actor_{file.parts[0]}"


def _sex(file: NamedFile) -> Sex:
    return "female" if int(file.parts[0]) in _WOMEN else "male"


def _check(root: Path, file: NamedFile) -> None:
    actor, _, emotion, level = file.parts
    if int(actor) not in _ACTORS:
        raise UsageError(
            f"{file.path}: actor {actor} is none of {_ACTORS[0]} to {_ACTORS[-1]}; rename or "
            "remove it"
        )
    for what, code, known in (("emotion", emotion, _CLASSES), ("level", level, _LEVELS)):
        if code not in known:
            raise UsageError(
                f"{file.path}: {what} code {code} is none of {', '.join(known)}; rename or remove "
                "it"
            )
    refuse_other_class(root, file.path, f"the code {emotion}", _CLASSES[emotion])
