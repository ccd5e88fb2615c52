"""eNTERFACE'05: reactions to short stories, in English, with picture and sound; folders say all."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from r1omni.data.folds import Division
from r1omni.data.labels_io import MissingDataError, confined, is_recording
from r1omni.data.registry import labelled_sample, register
from r1omni.types import Clip, Modality, Sample, UsageError

_logger = logging.getLogger(__name__)

_SUBJECT = re.compile(r"subject[ _-]?(\d{1,2})", re.IGNORECASE)
_SENTENCE = re.compile(r"sentence[ _-]?(\d)", re.IGNORECASE)
# The subject of a name is not read: all files of subject 11 are called s12.
_NAME = re.compile(r"s_?\d{1,2}_(an|di|fe|ha|sa|su)_?(\d).*", re.IGNORECASE)
_CLASSES = {
    "anger": "angry", "disgust": "disgust", "fear": "fear", "happiness": "happy", "sadness": "sad",
    "surprise": "surprise",
}  # fmt: skip
_CODES = {word[:2]: label for word, label in _CLASSES.items()}


@dataclass(frozen=True)
class _Clip:
    path: Path
    subject: int
    emotion: str
    sentence: int

    @property
    def name(self) -> str:
        """By folders: two subjects have files of the same names."""
        return f"s{self.subject}_{self.emotion[:2]}_{self.sentence}"


@register("enterface")
def load_enterface(
    root: Path,
    *,
    split: str,
    instruction: str | None = None,
    modality: Modality | None = None,
    folds: int | None = None,
    fold: int | None = None,
    hold_out_val: bool = False,
) -> list[Sample]:
    """One sample a sentence, by subject, emotion and sentence; the group is the subject.

    Subject and emotion are those of the folders, since names are misspelt. A recording without a
    folder of a sentence is left out with a warning: those of subject 6 are whole sessions.

    Args:
        root: folder with `subject 1/anger/sentence 1/s1_an_1.avi`, at any depth.
        split: "test" or "all", which have every subject; eNTERFACE'05 has no published split, so
            "train" needs `folds`, and "val" needs `hold_out_val`.
        instruction: None for R1-Omni's.
        modality: which media the prompts carry; None for what the files' names tell.
        folds: make so many folds of the subjects that are there, balanced by clips.
        fold: 1 to `folds`: whose subjects are the test split; the others train.
        hold_out_val: the next fold's subjects are the split val, and train leaves them out.

    Raises:
        UsageError: no recordings, a folder of an unknown emotion, a name that contradicts its
            folder, two files of one sentence, a linked folder outside the root, fewer subjects
            than folds, or options of folds that contradict.
    """
    division = Division("enterface", split, folds, fold, hold_out_val)
    clips = _clips(root)
    chosen = division.chosen([(f"subject_{clip.subject}", None) for clip in clips], root)
    return [
        labelled_sample(
            "enterface",
            clip.name,
            Clip(confined(root, str(clip.path.relative_to(root)), str(clip.path))),
            _CLASSES[clip.emotion],
            label_set="enterface",
            instruction=instruction,
            modality=modality,
            place=str(clip.path),
            group=f"subject_{clip.subject}",
            language="en",
        )
        for clip in clips
        if f"subject_{clip.subject}" in chosen
    ]


def _clips(root: Path) -> list[_Clip]:
    """Every recording of a sentence.

    Raises:
        MissingDataError: there is none.
        UsageError: as in the loader.
    """
    clips: dict[str, _Clip] = {}
    left_out: list[Path] = []
    for path in _below_subjects(root):
        clip = _read(root, path)
        if clip is None:
            left_out.append(path)
        elif clips.setdefault(clip.name, clip) is not clip:
            raise UsageError(
                f"{path}: is a second recording of that sentence, beside {clips[clip.name].path}; "
                "remove one"
            )
    if not clips:
        raise MissingDataError(
            f"{root}: no eNTERFACE'05 recordings; looked for subject 1/anger/sentence 1/*.avi, at "
            "any depth"
        )
    if left_out:
        folders = Counter(path.parent for path in left_out)
        _logger.warning(
            "%s: %d recordings are left out, in no folder of a sentence (%s)",
            root, len(left_out), ", ".join(str(f.relative_to(root)) for f in list(folders)[:3]),
        )  # fmt: skip
    return sorted(clips.values(), key=lambda clip: (clip.subject, clip.emotion, clip.sentence))


def _below_subjects(root: Path) -> list[Path]:
    """Recordings with a folder of a subject above them, sorted."""
    found: list[Path] = []
    for folder, subfolders, names in os.walk(root):
        at = Path(folder)
        for name in subfolders:
            if (at / name).is_symlink() and _SUBJECT.fullmatch(name):
                confined(root, str((at / name).relative_to(root)), str(root))
        if any(_SUBJECT.fullmatch(part) for part in at.relative_to(root).parts):
            found += [at / name for name in names if is_recording(at / name)]
    return sorted(found)


def _read(root: Path, path: Path) -> _Clip | None:
    """A recording by its folders, or None where it is in none of a sentence."""
    parts = path.relative_to(root).parts[:-1]
    start = next(i for i, part in enumerate(parts) if _SUBJECT.fullmatch(part))
    inner = parts[start + 1 :]
    if len(inner) < 2 or _SENTENCE.fullmatch(inner[1]) is None:
        return None
    emotion = inner[0].lower()
    if emotion not in _CLASSES:
        raise UsageError(
            f"{path}: the folder {inner[0]} is none of {', '.join(_CLASSES)}; rename it"
        )
    match = _NAME.fullmatch(path.stem)
    if match is not None and _CODES[match[1].lower()] != _CLASSES[emotion]:
        raise UsageError(
            f"{path}: the name says {_CODES[match[1].lower()]}, and the folder {inner[0]} says "
            f"{_CLASSES[emotion]}; move the file, or rename the folder"
        )
    subject, sentence = _SUBJECT.fullmatch(parts[start]), _SENTENCE.fullmatch(inner[1])
    assert subject is not None and sentence is not None
    return _Clip(path, int(subject[1]), emotion, int(sentence[1]))
