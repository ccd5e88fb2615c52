"""DFEW: film clips of seven emotions, five folds, labels 1 to 7."""

from __future__ import annotations

from pathlib import Path

from r1omni.data.folds import check_fold
from r1omni.data.labels_io import ClipFolder, Row, first_existing, read_csv
from r1omni.data.registry import check_split, labelled_sample, register
from r1omni.types import Clip, Modality, Sample, UsageError

_DFEW_FOLDS = 5
_CLASSES = ("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear")
_CLIP_FOLDERS = ("Clip/original", "Clip", "clip", "clips", "videos", "video", "")
_SPLIT_FOLDERS = ("EmoLabel_DataSplit", "EmoLabel_DataSplit/single-labeled", "split", "")


@register("dfew", folds=_DFEW_FOLDS)
def load_dfew(
    root: Path,
    *,
    split: str,
    instruction: str | None = None,
    modality: Modality | None = None,
    fold: int = 1,
    clips_dir: str | None = None,
    labels_csv: str | None = None,
) -> list[Sample]:
    """Single-labelled clips of one fold.

    Args:
        root: folder holding `EmoLabel_DataSplit/` and `Clip/original/`, or repackaged ones.
        split: train or test.
        instruction: None for R1-Omni's.
        modality: which media the prompts carry; None for what the clips' names tell.
        fold: the publisher's fold, 1 to 5.
        clips_dir: folder of the clips below the root, where it has another name.
        labels_csv: the split's file below the root, where it has another name.

    Raises:
        UsageError: a missing folder or file, a malformed row, or a label outside 1..7.
    """
    check_split("dfew", split, ("train", "test"))
    check_fold("dfew", fold, _DFEW_FOLDS)
    names = [labels_csv] if labels_csv else _split_files(split, fold)
    labels = first_existing(root, names, f"label file of split {split!r}, fold {fold}")
    clips = ClipFolder(root, [clips_dir] if clips_dir is not None else _CLIP_FOLDERS)
    samples = []
    for row in read_csv(labels, ["video_name", "label"]):
        name = row.text("video_name")
        samples.append(
            labelled_sample(
                "dfew",
                name,
                Clip(clips.find(name, row.place)),
                _label(row),
                label_set="dfew",
                instruction=instruction,
                modality=modality,
                place=row.place,
            )
        )
    return samples


def _split_files(split: str, fold: int) -> list[str]:
    parts = (f"{split}(single-labeled)", f"{split}_single-labeled", f"{split}_single_labeled")
    files = [f"{folder}/{part}/set_{fold}.csv" for folder in _SPLIT_FOLDERS for part in parts]
    files += [f"{folder}/{split}/set_{fold}.csv" for folder in _SPLIT_FOLDERS]
    return [file.lstrip("/") for file in files]


def _label(row: Row) -> str:
    text = row.text("label")
    if text not in {str(number) for number in range(1, len(_CLASSES) + 1)}:
        raise UsageError(
            f"{row.place}: label {text!r} is none of 1 to 7 "
            f"({', '.join(_CLASSES)}); correct it or drop the row"
        )
    return _CLASSES[int(text) - 1]
