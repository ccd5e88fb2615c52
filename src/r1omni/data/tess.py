"""TESS: single words of two women, acted in English, sound alone; everything is in the name."""

from __future__ import annotations

import re
from pathlib import Path

from r1omni.data.folds import Division
from r1omni.data.labels_io import confined
from r1omni.data.named_files import NamedFile, each_once, named_files, refuse_other_class
from r1omni.data.registry import labelled_sample, register
from r1omni.types import Clip, Modality, Sample

# Speaker, word, emotion. The publisher's OA_bite_neutral lacks a letter.
_NAME = re.compile(
    r"(OAF|OA|YAF)_([a-z]+)_(angry|disgust|fear|happy|neutral|ps|sad)", re.IGNORECASE
)
_CLASSES = {
    "angry": "angry", "disgust": "disgust", "fear": "fear", "happy": "happy", "neutral": "neutral",
    "ps": "surprise", "sad": "sad",
}  # fmt: skip
# The publisher's folders: OAF_Pleasant_surprise, YAF_pleasant_surprised, OAF_Fear.
_FOLDERS = {
    f"{speaker}_{word}": label
    for speaker in ("oaf", "yaf")
    for word, label in (
        *((label, label) for code, label in _CLASSES.items() if code != "ps"),
        ("pleasant_surprise", "surprise"),
        ("pleasant_surprised", "surprise"),
    )
}


@register("tess")
def load_tess(
    root: Path,
    *,
    split: str,
    instruction: str | None = None,
    modality: Modality | None = None,
    folds: int | None = None,
    fold: int | None = None,
    hold_out_val: bool = False,
) -> list[Sample]:
    """One sample a recording, sorted by name; the group is the speaker, OAF or YAF.

    Pleasant surprise is the class surprise.

    Args:
        root: folder with `OAF_angry/OAF_back_angry.wav`, or with such files at any depth.
        split: "test" or "all", which have both speakers; TESS has no published split, so "train"
            needs `folds`.
        instruction: None for R1-Omni's.
        modality: None or "audio".
        folds: 2, each speaker being one.
        fold: 1 to `folds`: whose speaker is the test split; the other one trains.
        hold_out_val: needs three speakers, which TESS does not have.

    Raises:
        UsageError: no recordings, a folder that contradicts the name's emotion, a linked folder
            outside the root, the picture asked for, fewer speakers than folds, or options of folds
            that contradict.
    """
    division = Division("tess", split, folds, fold, hold_out_val)
    files = _recordings(root)
    chosen = division.chosen([(_speaker(file), "female") for file in files], root)
    return [
        labelled_sample(
            "tess",
            file.path.stem,
            Clip(confined(root, str(file.path.relative_to(root)), str(file.path))),
            _class(file),
            label_set="tess",
            instruction=instruction,
            modality=modality,
            place=str(file.path),
            group=_speaker(file),
            sex="female",
            language="en",
        )
        for file in files
        if _speaker(file) in chosen
    ]


def _recordings(root: Path) -> list[NamedFile]:
    files = named_files(
        root,
        _NAME,
        lambda folder: folder in _FOLDERS,
        "no TESS recordings; looked for OAF_angry/OAF_back_angry.wav and the like, at any depth",
    )
    for file in files:
        code = file.parts[2]
        refuse_other_class(root, file.path, f"the name's {code}", _class(file), _FOLDERS)
    return each_once(root, files, lambda file: file.path.stem.lower())


def _class(file: NamedFile) -> str:
    return _CLASSES[file.parts[2].lower()]


def _speaker(file: NamedFile) -> str:
    return f"speaker_{'YAF' if file.parts[0].upper() == 'YAF' else 'OAF'}"
