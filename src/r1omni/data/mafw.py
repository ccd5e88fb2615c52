"""MAFW: clips of eleven emotions, five folds, lines of `00025.mp4 anger`."""

from __future__ import annotations

from pathlib import Path

from r1omni.data.folds import check_fold
from r1omni.data.labels_io import ClipFolder, class_of, first_existing, read_text
from r1omni.data.registry import check_split, labelled_sample, register
from r1omni.text.emotions import LABEL_SETS
from r1omni.types import Clip, Modality, Sample, UsageError

_MAFW_FOLDS = 5
_CLIP_FOLDERS = ("data/clips", "clips", "data", "clip", "videos", "video", "")
_SPLIT_FOLDERS = ("Train & Test Set", "Train_Test_Set", "split", "anno", "")
_SETTINGS = ("single/no_caption", "single", "no_caption", "")


@register("mafw", folds=_MAFW_FOLDS)
def load_mafw(
    root: Path,
    *,
    split: str,
    instruction: str | None = None,
    modality: Modality | None = None,
    fold: int = 1,
    clips_dir: str | None = None,
    labels_txt: str | None = None,
) -> list[Sample]:
    """Single-labelled clips of one fold. Names are taken as given, never as numbers.

    Args:
        root: folder holding `Train & Test Set/` and `data/clips/`, or repackaged ones.
        split: train or test.
        instruction: None for R1-Omni's.
        modality: which media the prompts carry; None for what the clips' names tell.
        fold: the publisher's fold, 1 to 5.
        clips_dir: folder of the clips below the root, where it has another name.
        labels_txt: the split's file below the root, where it has another name.

    Raises:
        UsageError: a missing folder or file, a malformed row, or an unknown label.
    """
    check_split("mafw", split, ("train", "test"))
    check_fold("mafw", fold, _MAFW_FOLDS)
    names = [labels_txt] if labels_txt else _split_files(split, fold)
    labels = first_existing(root, names, f"label file of split {split!r}, fold {fold}")
    clips = ClipFolder(root, [clips_dir] if clips_dir is not None else _CLIP_FOLDERS)
    samples = []
    for number, line in enumerate(read_text(labels).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{labels}, line {number}"
        fields = line.rsplit(maxsplit=1)
        if len(fields) != 2:
            raise UsageError(f"{place}: {line.strip()!r}, expected `<clip> <emotion>`")
        name, word = fields[0].strip(), fields[1]
        samples.append(
            labelled_sample(
                "mafw",
                Path(name).stem,
                Clip(clips.find(name, place)),
                class_of(word, LABEL_SETS["mafw"], place),
                label_set="mafw",
                instruction=instruction,
                modality=modality,
                place=place,
            )
        )
    return samples


def _split_files(split: str, fold: int) -> list[str]:
    return [
        "/".join(part for part in (folder, setting, f"set_{fold}", f"{split}.txt") if part)
        for folder in _SPLIT_FOLDERS
        for setting in _SETTINGS
    ]
