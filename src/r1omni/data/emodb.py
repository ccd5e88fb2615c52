"""Emo-DB: acted German sentences, sound alone; everything is in the file name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from r1omni.data.folds import Division
from r1omni.data.labels_io import confined
from r1omni.data.named_files import (
    NamedFile,
    class_of_folder,
    each_once,
    named_files,
    refuse_other_class,
)
from r1omni.data.registry import labelled_sample, register
from r1omni.text.emotions import LABEL_SETS
from r1omni.types import Clip, Modality, Sample, Sex, UsageError

# speaker, text, emotion, version; some copies have all of it in small letters
_NAME = re.compile(r"(\d\d)([a-z]\d\d)([a-z])([a-z])", re.IGNORECASE)
# The letters stand for German words: Wut, Langeweile, Ekel, Angst, Freude, Trauer.
CLASSES = {
    "W": "angry", "L": "boredom", "E": "disgust", "A": "fear", "F": "happy", "T": "sad",
    "N": "neutral",
}  # fmt: skip
SPEAKERS: dict[str, Sex] = {
    "03": "male", "08": "female", "09": "female", "10": "male", "11": "male", "12": "male",
    "13": "female", "14": "female", "15": "male", "16": "female",
}  # fmt: skip
# What copies call a class's folder, beside the taxonomy's words. The publisher's A is fear and
# anxiety in one.
_FOLDERS = {
    "boredom": "boredom", "bored": "boredom", "langeweile": "boredom", "wut": "angry",
    "ärger": "angry", "ekel": "disgust", "angst": "fear", "anxiety": "fear", "freude": "happy",
    "trauer": "sad",
}  # fmt: skip
Protocol = Literal["6way_no_boredom", "4way"]


@register("emodb")
def load_emodb(
    root: Path,
    *,
    split: str,
    instruction: str | None = None,
    modality: Modality | None = None,
    protocol: Protocol = "6way_no_boredom",
    folds: int | None = None,
    fold: int | None = None,
    hold_out_val: bool = False,
) -> list[Sample]:
    """One sample an utterance, sorted by name; the group is the speaker.

    Boredom is no emotion of the project's taxonomy: every protocol leaves it out.

    Args:
        root: folder with `wav/03a01Fa.wav`, or with such files in folders by class, at any depth.
        split: "test" or "all", which have every speaker; Emo-DB has no published split, so "train"
            needs `folds`, and "val" needs `hold_out_val`.
        instruction: None for R1-Omni's.
        modality: None or "audio".
        protocol: "6way_no_boredom"; "4way" has anger, happiness, neutral and sadness alone.
        folds: make so many folds of the speakers that are there, balanced by sex and by
            utterances, those of boredom included.
        fold: 1 to `folds`: whose speakers are the test split; the others train.
        hold_out_val: the next fold's speakers are the split val, and train leaves them out.

    Raises:
        UsageError: an unknown option value, no recordings, an unknown speaker or emotion letter, a
            folder that contradicts the letter, a linked folder outside the root, the picture asked
            for, fewer speakers than folds, or options of folds that contradict.
    """
    division = Division("emodb", split, folds, fold, hold_out_val)
    files = utterances(root)
    told = [(group_of_file(file), SPEAKERS[file.parts[0]]) for file in files]
    chosen = division.chosen(told, root)
    label_set = f"emodb_{protocol}"
    return [
        labelled_sample(
            "emodb",
            file.path.stem,
            Clip(confined(root, str(file.path.relative_to(root)), str(file.path))),
            class_of_file(file),
            label_set=label_set,
            instruction=instruction,
            modality=modality,
            place=str(file.path),
            group=group_of_file(file),
            sex=SPEAKERS[file.parts[0]],
            language="de",
        )
        for file in files
        if group_of_file(file) in chosen and class_of_file(file) in LABEL_SETS[label_set].labels
    ]


def utterances(root: Path) -> list[NamedFile]:
    """Every utterance once, boredom included, sorted by name; parts are as in the name.

    Raises:
        MissingDataError: there is none.
        UsageError: an unknown speaker or letter, a folder that contradicts the letter, or
            utterances behind a link that leads outside.
    """
    files = named_files(
        root,
        _NAME,
        lambda folder: folder == "wav" or class_of_folder(folder, _FOLDERS) is not None,
        "no Emo-DB recordings; looked for wav/03a01Fa.wav and the like, at any depth",
    )
    for file in files:
        _check(root, file)
    return each_once(root, files, lambda file: file.path.stem.lower())


def class_of_file(file: NamedFile) -> str:
    """The class that the letter of a name stands for, boredom among them."""
    return CLASSES[file.parts[2].upper()]


def group_of_file(file: NamedFile) -> str:
    """Who speaks, as samples have it: speaker_03."""
    return f"speaker_{file.parts[0]}"


def _check(root: Path, file: NamedFile) -> None:
    speaker, _, letter, _ = file.parts
    if speaker not in SPEAKERS:
        raise UsageError(
            f"{file.path}: speaker {speaker} is none of {', '.join(SPEAKERS)}; rename or remove it"
        )
    if letter.upper() not in CLASSES:
        raise UsageError(
            f"{file.path}: emotion letter {letter} is none of {', '.join(CLASSES)}; rename or "
            "remove it"
        )
    refuse_other_class(root, file.path, f"the letter {letter}", class_of_file(file), _FOLDERS)
