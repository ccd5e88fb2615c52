"""Clips and label files of the MER challenges, which several data sets share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from r1omni.data.labels_io import class_of, confined, first_existing, read_csv, recordings
from r1omni.data.registry import labelled_sample
from r1omni.text.emotions import LABEL_SETS
from r1omni.types import Clip, Modality, Sample, UsageError

# Where a set that only explains clips of MER2023 and its successors looks for them.
VIDEO_FOLDERS = ("train", "video", "video-labeled", "videos", "test1", "test2", "test3", "")


class MerClips:
    """Clips below a folder, found by their names; a later folder serves what earlier ones lack."""

    def __init__(self, root: Path, folders: Sequence[str] = VIDEO_FOLDERS) -> None:
        """Index those of `folders` below `root` that exist."""
        self.root = root
        self._files = {
            folder: recordings(root / folder) for folder in folders if (root / folder).is_dir()
        }
        self._first = next(iter(self._files), "")

    def find(self, name: str, place: str) -> Path:
        """The clip's file, or the path where it should be.

        Raises:
            UsageError: the name or a link leads outside the root.
        """
        # An absolute or climbing name must not even be looked for.
        confined(self.root, name, place)
        for folder, files in self._files.items():
            if name in files:
                return confined(self.root, f"{folder}/{files[name]}".lstrip("/"), place)
        return confined(self.root, f"{self._first}/{name}.mp4".lstrip("/"), place)


def video_root(dataset: str, root: Path, given: str | None) -> Path:
    """The folder that clips lie below: the one given, or a folder MER2023 in or beside the root.

    Raises:
        UsageError: the option names no folder.
    """
    if given is not None:
        path = Path(given).expanduser()
        if not path.is_dir():
            raise UsageError(f"{path}: the option video_root of {dataset} names no folder")
        return path
    for path in (root / "MER2023", root.parent / "MER2023"):
        if path.is_dir():
            return path
    return root


def challenge_samples(
    dataset: str,
    root: Path,
    split: str,
    tables: Sequence[str],
    folders: Sequence[str],
    instruction: str | None,
    modality: Modality | None,
) -> list[Sample]:
    """One sample a row of a table (name, discrete), in its order, with the classes of MER.

    Args:
        dataset: name of the loader.
        root: of the data set.
        split: for messages.
        tables: where the table may lie below the root; the first that is there is read.
        folders: where the clips may lie; the first that is there holds them.
        instruction, modality: as loaders take them.

    Raises:
        UsageError: a missing table or folder, a malformed row, or a label that is none of MER's.
    """
    table = first_existing(root, tables, f"label file of split {split!r} of {dataset}")
    folder = first_existing(root, folders, f"folder with the clips of split {split!r} of {dataset}")
    clips = MerClips(root, [str(folder.relative_to(root))])
    return [
        labelled_sample(
            dataset,
            row.text("name"),
            Clip(clips.find(row.text("name"), row.place)),
            class_of(row.text("discrete"), LABEL_SETS["mer"], row.place),
            label_set="mer",
            instruction=instruction,
            modality=modality,
            place=row.place,
            language="zh",
        )
        for row in read_csv(table, ["name", "discrete"])
    ]
