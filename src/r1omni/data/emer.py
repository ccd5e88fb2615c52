"""EMER: reasoning about emotions, for the cold start. The videos are those of MER2023."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from r1omni.data.labels_io import (
    Row,
    class_of,
    first_existing,
    read_csv,
)
from r1omni.data.mer_clips import MerClips
from r1omni.data.mer_clips import video_root as find_video_root
from r1omni.data.registry import check_split, labelled_sample, refuse_outside, register
from r1omni.text.emotions import ANSWER_WORDS, LABEL_SETS, LabelSetName, canonical
from r1omni.text.tags import render_completion
from r1omni.text.wheel import list_words
from r1omni.types import Clip, Modality, Sample, UsageError

_logger = logging.getLogger(__name__)

Version = Literal["v1", "v2"]
_FILES: dict[Version, tuple[str, ...]] = {
    "v2": ("dataset-v2/final-EMER-reason.csv", "final-EMER-reason.csv"),
    "v1": ("dataset-v1/gt-eng.csv", "gt-eng.csv"),
}
_LABEL_FILES = ("train-label.csv", "label-disdim.csv", "track1_train_disdim.csv")
_OPEN_LABEL_FILE = "track2_train_ovmerd.csv"
_WORD = re.compile(r"[A-Za-z]+(?:-[A-Za-z]+)*")


@register("emer")
def load_emer(
    root: Path,
    *,
    split: str,
    instruction: str | None = None,
    modality: Modality | None = None,
    version: Version = "v2",
    video_root: str | None = None,
    labels_csv: str | None = None,
    open_labels_csv: str | None = None,
    label_set: LabelSetName | None = None,
) -> list[Sample]:
    """Reasoning and answer: target `<think>{reasoning}</think>\\n<answer>{word}</answer>`.

    EMER has no column of closed labels. The class comes from the MER label file (name, discrete)
    where it names the clip, otherwise from the last emotion word of the reasoning; a clip with
    neither is left out with a warning.

    Args:
        root: folder with `dataset-v2/final-EMER-reason.csv` (or `dataset-v1/gt-eng.csv`).
        split: train or all; EMER has no other.
        instruction: None for R1-Omni's.
        modality: which media the prompts carry; None for what the clips' names tell.
        version: "v2" (332 clips: name, chinese, english) or "v1" (100: names, ..., reasons).
        video_root: the MER2023 folder; None for a folder MER2023 beside or in the root, or the
            root itself. Relative paths count from the working directory, as `root` does.
        labels_csv: label file; None for `train-label.csv` and the like in the video root.
        open_labels_csv: free emotion words of the clips (name, openset), as OV-MERD ships them;
            None for `track2_train_ovmerd.csv` in the video root, where it is there.
        label_set: name of the label set in force; None for the six classes of MER, or for any
            emotion where explanations end in another one.

    Raises:
        UsageError: a missing folder or file, a malformed row, an unknown label, or one outside
            `label_set`.
    """
    check_split("emer", split, ("train", "all"))
    path = first_existing(root, _FILES[version], f"EMER file of version {version}")
    videos = find_video_root("emer", root, video_root)
    classes = _classes(videos, labels_csv)
    open_labels = _open_labels(videos, open_labels_csv)
    clips = MerClips(videos)
    rows = [
        (row, name, reasoning, classes.get(name) or last_emotion(reasoning))
        for row, name, reasoning in _rows(path, version)
    ]
    in_force = _label_set(path, Counter(label for *_, label in rows if label), label_set)
    samples, unlabelled = [], []
    for row, name, reasoning, label in rows:
        if label is None:
            unlabelled.append(name)
            continue
        sample = labelled_sample(
            "emer",
            name,
            Clip(clips.find(name, row.place)),
            label,
            label_set=in_force,
            instruction=instruction,
            modality=modality,
            place=row.place,
            language="zh",
        )
        target = _target(row, reasoning, label)
        samples.append(replace(sample, target=target, open_labels=open_labels.get(name)))
    if unlabelled:
        _logger.warning(
            "%s: %d clips are left out, no label and no emotion word in their text: %s; give a "
            "label file with the option labels_csv",
            path, len(unlabelled), ", ".join(unlabelled[:5]),
        )  # fmt: skip
    return samples


def last_emotion(text: str) -> str | None:
    """The canonical emotion of the last word of the text that names one, or None."""
    for word in reversed(_WORD.findall(text)):
        emotion = canonical(word)
        if emotion is not None:
            return emotion
    return None


def _label_set(path: Path, labels: Counter[str], asked: LabelSetName | None) -> str:
    """The label set in force: the one asked for, or the narrowest that holds every label."""
    if asked is not None:
        refuse_outside(path, asked, labels)
        return asked
    others = labels.keys() - set(LABEL_SETS["mer"].labels)
    if not others:
        return "mer"
    _logger.warning(
        "%s: %d of %d labels are none of MER's six classes (%s); the label set is all, any emotion",
        path, sum(labels[label] for label in others), labels.total(), ", ".join(sorted(others)),
    )  # fmt: skip
    return "all"


def _target(row: Row, reasoning: str, label: str) -> str:
    try:
        return render_completion(reasoning, ANSWER_WORDS[label])
    except UsageError as error:
        raise UsageError(f"{row.place}: {error}") from error


def _rows(path: Path, version: Version) -> Iterator[tuple[Row, str, str]]:
    text = "english" if version == "v2" else "reasons"
    for row in read_csv(path, [("name", "names"), text]):
        yield row, row.text("name", "names"), row.text(text)


def _classes(videos: Path, labels_csv: str | None) -> dict[str, str]:
    """name -> canonical class of the MER challenge's label file; empty when there is none."""
    path = _label_file(videos, "labels_csv", labels_csv, _LABEL_FILES)
    if path is None:
        return {}
    return {
        row.text("name"): class_of(row.text("discrete"), None, row.place)
        for row in read_csv(path, ["name", "discrete"])
    }


def _open_labels(videos: Path, open_labels_csv: str | None) -> dict[str, tuple[str, ...]]:
    """name -> free emotion words; empty when there is no file of them."""
    path = _label_file(videos, "open_labels_csv", open_labels_csv, (_OPEN_LABEL_FILE,))
    if path is None:
        return {}
    return {
        row.text("name"): tuple(list_words(row.text("openset")))
        for row in read_csv(path, ["name", "openset"])
    }


def _label_file(
    videos: Path, option: str, given: str | None, usual: tuple[str, ...]
) -> Path | None:
    """The file that an option names, or the first of the usual ones that is there."""
    if given is None:
        return next((videos / name for name in usual if (videos / name).is_file()), None)
    path = Path(given).expanduser()
    path = path if path.is_absolute() or path.is_file() else videos / path
    if not path.is_file():
        raise UsageError(f"{path}: the option {option} of emer names no file")
    return path
