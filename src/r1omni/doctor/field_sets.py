"""Data sets that are checked alike: how many clips each split has, by class and by speaker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
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
        variants: what publishers count beside splits -> split and options of the loader.
        clips_for: data sets that are made of its clips, which need none of its label files.
    """

    name: str
    layout: str
    folders: tuple[str, ...] = ()
    variants: Mapping[str, tuple[str, dict[str, str]]] = field(default_factory=dict)
    clips_for: str = ""

    def spec(self, counted: str, root: Path) -> DatasetSpec:
        """The specification of what publishers count: of a split or a variant."""
        split, options = self.variants.get(counted, (counted, {}))
        return DatasetSpec(self.name, str(root), split=split, options=dict(options))


# Title -> data set.
FIELD_SETS: Mapping[str, FieldSet] = {
    "CREMA-D": FieldSet("cremad", "CREMA-D/VideoFlash or CREMA-D/AudioWAV"),
    "SAVEE": FieldSet("savee", "SAVEE/AudioVisualClip/DC or SAVEE/AudioData/DC"),
    "TESS": FieldSet("tess", "TESS/OAF_angry", ("tesstorontoemotionalspeechsetdata",)),
    "eNTERFACE'05": FieldSet(
        "enterface", "eNTERFACE05/subject 1/anger/sentence 1", ("enterface", "enterfacedatabase")
    ),
    "MELD": FieldSet("meld", "MELD/train_sent_emo.csv and MELD/train/train_splits", ("meldraw",)),
    "MER2023": FieldSet(
        "mer2023", "MER2023/train-label.csv and MER2023/train", clips_for="EMER and MERR"
    ),
    "MER2024": FieldSet(
        "mer2024", "MER2024/label-disdim.csv and MER2024/video-labeled", ("mer2024dataset",)
    ),
    "MER2025": FieldSet(
        "mer2025",
        "MER2025/track1_train_disdim.csv and MER2025/video",
        ("mer2025dataset",),
        variants={name: ("train", {"labels": name}) for name in ("ovmerd", "mercaptionplus")},
    ),
    "MERR": FieldSet(
        "merr",
        "MERR/MERR_fine_grained.json with MER2023 beside it",
        variants={name: ("train", {"grain": name}) for name in ("fine", "coarse")},
    ),
    "IEMOCAP": FieldSet(
        "iemocap",
        "IEMOCAP/Session1/dialog/EmoEvaluation",
        ("iemocapfullrelease",),
        variants={"6way": ("all", {"protocol": "6way"})},
    ),
}


def is_field_set(title: str, root: Path) -> bool:
    """Whether a folder of any name is this data set, whole or broken."""
    entry = FIELD_SETS[title]
    return is_any_there(entry.spec(counted, root) for counted in published.SPLITS[entry.name])


def is_any_there(specs: Iterable[DatasetSpec]) -> bool:
    """Whether the files of one of the specifications are there, whole or broken."""
    for spec in specs:
        try:
            load_dataset(spec)
        except MissingDataError:
            continue
        except UsageError:
            pass  # its files are there, and the check will say what is wrong with them
        return True
    return False


def check_field_set(title: str, folder: Path, shelf: Shelf) -> Iterator[Finding]:
    """Every split of a data set, against what its publisher says, and one clip."""
    entry = FIELD_SETS[title]
    name = entry.name
    first: list[Sample] = []
    absent: dict[str, MissingDataError] = {}
    splits = published.SPLITS[name]
    for split in splits:
        subject = title if split == "all" else f"{title} {split}"
        try:
            samples = load_dataset(entry.spec(split, folder))
        except MissingDataError as error:
            absent[split] = error
            continue
        except UsageError as error:
            yield failure(subject, error)
            continue
        counts = f"{len(samples):,} clips{_speakers(name, samples)}"
        notes = _notes(name, split, samples)
        told = {split: splits[split]}
        yield completeness(subject, counts, {split: samples}, shelf, notes, told)
        first = first or samples
    if len(absent) == len(splits) and entry.clips_for and _holds_clips(folder, splits):
        yield Finding(title, "ok", f"clips without labels, as {entry.clips_for} need them")
    elif len(absent) == len(splits):
        remedy = f"lay it out as its publisher does, {entry.layout} (docs/data.md)"
        yield Finding(title, "fails", str(next(iter(absent.values()))), remedy)
    elif absent:
        yield Finding(
            f"{title} splits", "note", f"there is none of {', '.join(absent)}",
            "they are needed only to train or test on these splits",
        )  # fmt: skip
    yield from guarded(f"{title} clip", check_first_clip, title, first, shelf)


def _holds_clips(folder: Path, splits: Iterable[str]) -> bool:
    return any((folder / split).is_dir() for split in splits)


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
