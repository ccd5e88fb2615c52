"""SAVEE: acted sentences of four Englishmen, with picture and sound; names and folders say all."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from r1omni.data.folds import Division
from r1omni.data.labels_io import MissingDataError, confined
from r1omni.data.named_files import (
    NamedFile,
    each_once,
    is_sound,
    named_files,
    refuse_other_class,
    serving,
)
from r1omni.data.registry import labelled_sample, register
from r1omni.types import Clip, Modality, Sample

# Speaker (in copies that have no folders of speakers), emotion, sentence: DC_a01, or DC/a01 and, of
# the films, DC/a1.
_NAME = re.compile(r"(?:(DC|JE|JK|KL)_)?(sa|su|a|d|f|h|n)(\d{1,2})", re.IGNORECASE)
_SPEAKERS = ("DC", "JE", "JK", "KL")
_CLASSES = {
    "a": "angry", "d": "disgust", "f": "fear", "h": "happy", "n": "neutral", "sa": "sad",
    "su": "surprise",
}  # fmt: skip
_FOLDERS = ("audiodata", "audiovisualclip", *(speaker.lower() for speaker in _SPEAKERS))
_LOOKED_FOR = (
    "no SAVEE recordings; looked for AudioVisualClip/DC/a1.avi, AudioData/DC/a01.wav, DC_a01.wav "
    "and the like, at any depth"
)


@register("savee")
def load_savee(
    root: Path,
    *,
    split: str,
    instruction: str | None = None,
    modality: Modality | None = None,
    folds: int | None = None,
    fold: int | None = None,
    hold_out_val: bool = False,
) -> list[Sample]:
    """One sample an utterance, sorted by name; the group is the speaker.

    An utterance is read from its film where there is one, and otherwise from its sound.

    Args:
        root: folder with `AudioVisualClip/DC/a1.avi` or `AudioData/DC/a01.wav`, or with files such
            as `DC_a01.wav`, at any depth.
        split: "test" or "all", which have every speaker; SAVEE has no published split, so "train"
            needs `folds`, and "val" needs `hold_out_val`.
        instruction: None for R1-Omni's.
        modality: which media the prompts carry; None for picture and sound where there are films,
            otherwise for sound alone.
        folds: make so many folds of the speakers that are there, balanced by utterances.
        fold: 1 to `folds`: whose speakers are the test split; the others train.
        hold_out_val: the next fold's speakers are the split val, and train leaves them out.

    Raises:
        UsageError: no recordings, a folder that contradicts the name's emotion, a linked folder
            outside the root, the picture asked for where there is none, fewer speakers than folds,
            or options of folds that contradict.
    """
    division = Division("savee", split, folds, fold, hold_out_val)
    files = _recordings(root)
    once = {_name(file): file for file in files}
    chosen = division.chosen([(_speaker(file), "male") for file in once.values()], root)
    return [
        labelled_sample(
            "savee",
            _name(file),
            Clip(confined(root, str(file.path.relative_to(root)), str(file.path))),
            _CLASSES[file.parts[1]],
            label_set="savee",
            instruction=instruction,
            modality=modality,
            place=str(file.path),
            group=_speaker(file),
            sex="male",
            language="en",
        )
        for file in serving(root, files, modality, _name)
        if _speaker(file) in chosen
    ]


def _recordings(root: Path) -> list[NamedFile]:
    """Every film and every sound once, sorted by name; parts are speaker, emotion and sentence.

    Many a recording is called a01. Without a speaker in its name or above it, it is not of SAVEE.

    Raises:
        MissingDataError: there is none.
    """
    found = named_files(root, _NAME, lambda folder: folder in _FOLDERS, _LOOKED_FOR)
    files = []
    for file in found:
        speaker, emotion, sentence = file.parts
        speaker = (speaker or file.path.parent.name).upper()
        if speaker in _SPEAKERS:
            files.append(replace(file, parts=(speaker, emotion.lower(), f"{int(sentence):02d}")))
    if not files:
        raise MissingDataError(f"{root}: {_LOOKED_FOR}")
    for file in files:
        code = file.parts[1]
        refuse_other_class(root, file.path, f"the code {code}", _CLASSES[code])
    files.sort(key=lambda file: (_name(file), len(file.path.parts), file.path))
    return each_once(root, files, lambda file: (is_sound(file.path), _name(file)))


def _name(file: NamedFile) -> str:
    """The same for every way in which files are called: DC_a01."""
    speaker, emotion, sentence = file.parts
    return f"{speaker}_{emotion}{sentence}"


def _speaker(file: NamedFile) -> str:
    return f"speaker_{file.parts[0]}"
