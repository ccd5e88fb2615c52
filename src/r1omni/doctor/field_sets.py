"""Data sets that are checked alike: how many clips each split has, by class and by speaker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from r1omni.data.labels_io import MissingDataError
from r1omni.data.registry import DatasetSpec, load_dataset
from r1omni.doctor import published
from r1omni.doctor.checks import Finding, failure, guarded
from r1omni.doctor.clips import Shelf, check_first_clip, class_differences, completeness
from r1omni.types import Sample, UsageError


@dataclass(frozen=True)
class FieldSet:
    """A data set of the registry.

    Attributes:
        name: in the registry.
        layout: where its first files lie, for a remedy.
        folders: further names that people give its folder, in small letters without `-`, `_` and
            spaces.
    """

    name: str
    layout: str
    folders: tuple[str, ...] = ()


# Title -> data set.
FIELD_SETS: Mapping[str, FieldSet] = {
    "CREMA-D": FieldSet("cremad", "CREMA-D/VideoFlash or CREMA-D/AudioWAV"),
    "SAVEE": FieldSet("savee", "SAVEE/AudioVisualClip/DC or SAVEE/AudioData/DC"),
    "TESS": FieldSet("tess", "TESS/OAF_angry", ("tesstorontoemotionalspeechsetdata",)),
    "eNTERFACE'05": FieldSet(
        "enterface", "eNTERFACE05/subject 1/anger/sentence 1", ("enterface", "enterfacedatabase")
    ),
    "MELD": FieldSet("meld", "MELD/train_sent_emo.csv and MELD/train/train_splits", ("meldraw",)),
    "IEMOCAP": FieldSet(
        "iemocap", "IEMOCAP/Session1/dialog/EmoEvaluation", ("iemocapfullrelease",)
    ),
}


def is_field_set(title: str, root: Path) -> bool:
    """Whether a folder of any name is this data set, whole or broken."""
    name = FIELD_SETS[title].name
    for split in published.SPLITS[name]:
        try:
            load_dataset(DatasetSpec(name, str(root), split=split))
        except MissingDataError:
            continue
        except UsageError:
            pass  # its files are there, and the check will say what is wrong with them
        return True
    return False


def check_field_set(title: str, folder: Path, shelf: Shelf) -> Iterator[Finding]:
    """Every split of a data set, against what its publisher says, and one clip."""
    name, layout = FIELD_SETS[title].name, FIELD_SETS[title].layout
    first: list[Sample] = []
    absent: dict[str, MissingDataError] = {}
    splits = published.SPLITS[name]
    for split in splits:
        subject = title if split == "all" else f"{title} {split}"
        try:
            samples = load_dataset(DatasetSpec(name, str(folder), split=split))
        except MissingDataError as error:
            absent[split] = error
            continue
        except UsageError as error:
            yield failure(subject, error)
            continue
        counts, notes = (
            f"{len(samples):,} clips{_speakers(name, samples)}",
            _notes(name, split, samples),
        )
        yield completeness(subject, counts, {split: samples}, shelf, notes)
        first = first or samples
    if len(absent) == len(splits):
        remedy = f"lay it out as its publisher does, {layout} (docs/data.md)"
        yield Finding(title, "fails", str(next(iter(absent.values()))), remedy)
    elif absent:
        yield Finding(
            f"{title} splits", "note", f"there is none of {', '.join(absent)}",
            "they are needed only to train or test on these splits",
        )  # fmt: skip
    yield from guarded(f"{title} clip", check_first_clip, title, first, shelf)


def _speakers(name: str, samples: list[Sample]) -> str:
    if name not in published.SPEAKERS:
        return ""
    there = {sample.group for sample in samples}
    return f" by {len(there)} of {published.SPEAKERS[name]} speakers"


def _notes(name: str, split: str, samples: list[Sample]) -> str:
    """What differs from the publisher's files, or ""."""
    told = published.SPLITS[name][split]
    if isinstance(told, int):
        return "" if len(samples) == told else f"published: {told:,}"
    wrong = class_differences(samples, told)
    return f"published: {sum(told.values()):,}; {wrong}" if wrong else ""
