"""Data sets below one folder: what is there, against what their publishers ship."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from r1omni.data.emodb import class_of_file, group_of_file, utterances
from r1omni.data.labels_io import MissingDataError
from r1omni.data.registry import DatasetSpec, load_dataset
from r1omni.doctor import published
from r1omni.doctor.checks import Finding, failure, guarded
from r1omni.doctor.clips import (
    Counts,
    Shelf,
    check_first_clip,
    class_differences,
    completeness,
    differences,
    group_differences,
)
from r1omni.doctor.field_sets import FIELD_SETS, check_field_set, is_any_there, is_field_set
from r1omni.doctor.recordings import check_recordings, other_scripts
from r1omni.types import Sample, UsageError

_LAYOUT = (
    "lay the sets out as their publishers do: DFEW/EmoLabel_DataSplit and DFEW/Clip/original; "
    "MAFW/Train & Test Set and MAFW/data/clips; RAVDESS/Actor_01; EMER/dataset-v2 with MER2023 "
    "beside it; HumanOmni/*.json; EmoDB/wav; "
    + "".join(f"{entry.layout}; " for entry in FIELD_SETS.values())
    + "(docs/reproduce.md, docs/data.md); or make a mini-world with `python -m r1omni synthesize "
    "--out FOLDER`"
)


def check_data(
    root: Path, num_workers: int | None = None, report: dict[str, Any] | None = None
) -> Iterator[Finding]:
    """Every known data set below a folder, or the one that the folder itself is.

    Args:
        root: holds DFEW, MAFW, RAVDESS, EMER, HumanOmni, EmoDB or one of `FIELD_SETS`, in any case
            of letters.
        num_workers: processes that open every recording; None opens one of each data set.
        report: gets what was found, by title: `source` of the published counts, `splits`
            (`split_report`), and of recordings that were opened what `RecordingsReport` has.
    """
    shelf = Shelf()
    found = _locate(root)
    if not found:
        yield Finding("data", "fails", f"no known data set in {root}", _LAYOUT)
    for title, folder in found.items():
        shelf.title = title
        yield from guarded(title, _CHECKS[title], folder, shelf)
        yield from other_scripts(title, shelf)
        told = {
            "source": published.SOURCES.get(_registered(title)),
            "splits": shelf.splits.get(title, {}),
        }
        if num_workers is not None:
            yield from guarded(
                f"{title} recordings", check_recordings, title, _registered(title), shelf,
                num_workers, told,
            )  # fmt: skip
        if report is not None:
            report[title] = told
    absent = [title for title in _CHECKS if title not in found and title not in FIELD_SETS]
    if found and absent and root not in found.values():
        yield Finding("other sets", "note", f"no folder {', '.join(absent)} in {root}")


def _registered(title: str) -> str:
    """The name of a data set in the registry."""
    return FIELD_SETS[title].name if title in FIELD_SETS else title.lower()


def _locate(root: Path) -> dict[str, Path]:
    """Title of each data set that is there -> its folder."""
    folders = (path for path in sorted(root.iterdir()) if path.is_dir())
    children = {_plain(path.name): path for path in folders}
    found: dict[str, Path] = {}
    for title in _CHECKS:
        names = (_plain(title), *(FIELD_SETS[title].folders if title in FIELD_SETS else ()))
        folder = next((children[name] for name in names if name in children), None)
        if folder is not None:
            found[title] = folder
    return found or {title: root for title in _CHECKS if _is_one(title, root)}


def _plain(name: str) -> str:
    return re.sub(r"[-_ .'’]", "", name.lower())


def _is_one(title: str, root: Path) -> bool:
    """Whether a folder of any name is this data set, whole or broken."""
    if title in FIELD_SETS:
        return is_field_set(title, root)
    if title == "HumanOmni":
        return any(_loads(file) for file in _instruction_files(root))
    options: list[dict[str, object]] = [{}]
    if title in ("DFEW", "MAFW"):
        options = [{"fold": fold} for fold in range(1, 6)]
    elif title == "EMER":
        options = [{"version": version} for version in published.EMER_ROWS]
    elif title == "RAVDESS":
        options = [{"vocal": "both"}]
    split = "test" if title in ("RAVDESS", "EmoDB") else "train"
    return is_any_there(
        DatasetSpec(title.lower(), str(root), split=split, options=option) for option in options
    )


def _loads(file: Path) -> bool:
    try:
        load_dataset(DatasetSpec("humanomni", str(file)))
    except UsageError:
        return False
    return True


def _check_folds(title: str, folder: Path, shelf: Shelf) -> Iterator[Finding]:
    """A set that is split into five folds of train and test."""
    absent: dict[int, str] = {}
    refused: dict[str, list[str]] = {}  # why -> which splits
    first: list[Sample] = []
    for fold in range(1, 6):
        splits: dict[str, list[Sample]] = {}
        for split in ("train", "test"):
            spec = DatasetSpec(title.lower(), str(folder), split=split, options={"fold": fold})
            try:
                splits[split] = load_dataset(spec)
            except MissingDataError as error:
                absent[fold] = str(error)
            except UsageError as error:
                refused.setdefault(str(error), []).append(f"{title} fold {fold} {split}")
        if splits:
            yield _fold_finding(title, fold, splits, shelf)
            first = first or next(iter(splits.values()))
    for reason, names in refused.items():
        yield failure(names[0] if len(names) == 1 else title, UsageError(reason))
    yield from guarded(f"{title} clip", check_first_clip, title, first, shelf)
    if not first and not refused:
        yield Finding(title, "fails", absent[1], _LAYOUT)
    elif absent:
        yield Finding(
            f"{title} folds", "note", f"label files are missing for {_folds(absent)}",
            "they are needed only to train or test on these folds",
        )  # fmt: skip


def _folds(numbers: Iterable[int]) -> str:
    listed = list(map(str, numbers))
    return f"fold {listed[0]}" if len(listed) == 1 else f"folds {', '.join(listed)}"


def _fold_finding(title: str, fold: int, splits: dict[str, list[Sample]], shelf: Shelf) -> Finding:
    train, test = published.FOLDS[title.lower()][fold - 1]
    counts = ", ".join(f"{split} {len(samples):,}" for split, samples in splits.items())
    notes = ""
    if {split: len(samples) for split, samples in splits.items()} != {"train": train, "test": test}:
        notes = f"published: train {train:,}, test {test:,}"
    elif title == "DFEW" and fold == 1:
        notes = class_differences(splits["test"], published.DFEW_TEST_CLASSES)
    told: dict[str, Counts] = {"train": train, "test": test}
    if title == "DFEW" and fold == 1:
        told["test"] = published.DFEW_TEST_CLASSES
    return completeness(f"{title} fold {fold}", counts, splits, shelf, notes, told)


def _check_dfew(folder: Path, shelf: Shelf) -> Iterator[Finding]:
    yield from _check_folds("DFEW", folder, shelf)


def _check_mafw(folder: Path, shelf: Shelf) -> Iterator[Finding]:
    yield from _check_folds("MAFW", folder, shelf)


def _check_ravdess(folder: Path, shelf: Shelf) -> Iterator[Finding]:
    spec = DatasetSpec("ravdess", str(folder), split="all", options={"vocal": "both"})
    samples = load_dataset(spec)
    # The second number of a name is the vocal channel.
    speech = [sample for sample in samples if sample.sample_id.split("-")[1] == "01"]
    song = [sample for sample in samples if sample.sample_id.split("-")[1] == "02"]
    channels = (
        ("speech", speech, published.RAVDESS_CLASSES, published.RAVDESS_ACTORS),
        ("song", song, published.RAVDESS_SONG_CLASSES, published.RAVDESS_SONG_ACTORS),
    )
    there = [f"{len(found):,} of {name}" for name, found, *_ in channels if found]
    actors = {sample.group for sample in samples}
    counts = f"{' and '.join(there)} by {len(actors)} of 24 actors"
    counts += {"audio": ", sound alone", "video": ", the picture alone"}.get(
        samples[0].modality, ""
    )
    notes = [_differing(*channel) for channel in channels if channel[1]]
    told = sum((Counter(channel[2]) for channel in channels if channel[1]), Counter[str]())
    yield completeness(
        "RAVDESS", counts, {"all": samples}, shelf, "; ".join(filter(None, notes)), {"all": told}
    )
    yield from guarded("RAVDESS clip", check_first_clip, "RAVDESS", samples, shelf)


def _differing(
    channel: str, samples: list[Sample], classes: Mapping[str, int], actors: Mapping[str, int]
) -> str:
    """How a vocal channel of RAVDESS differs from what is published, or ""."""
    wrong = [class_differences(samples, classes), group_differences(samples, actors)]
    if not any(wrong):
        return ""
    return f"published: {sum(classes.values()):,} of {channel}; {'; '.join(filter(None, wrong))}"


def _check_emodb(folder: Path, shelf: Shelf) -> Iterator[Finding]:
    files = utterances(folder)
    classes = Counter(map(class_of_file, files))
    speakers = Counter(map(group_of_file, files))
    counts = f"{len(files)} utterances by {len(speakers)} of 10 speakers"
    if classes["boredom"]:
        counts += f", {classes['boredom']} of them of boredom, which no protocol has"
    wrong = [
        differences(classes, published.EMODB_CLASSES, "classes"),
        differences(speakers, published.EMODB_SPEAKERS, "speakers"),
    ]
    total = sum(published.EMODB_CLASSES.values())
    notes = f"published: {total}; {'; '.join(filter(None, wrong))}" if any(wrong) else ""
    samples = load_dataset(DatasetSpec("emodb", str(folder), split="all"))
    told = {"all": {k: n for k, n in published.EMODB_CLASSES.items() if k != "boredom"}}
    yield completeness("EmoDB", counts, {"all": samples}, shelf, notes, told)
    yield from guarded("EmoDB clip", check_first_clip, "EmoDB", samples, shelf)


def _check_emer(folder: Path, shelf: Shelf) -> Iterator[Finding]:
    first: list[Sample] = []
    absent: list[MissingDataError] = []
    for version, rows in published.EMER_ROWS.items():
        spec = DatasetSpec("emer", str(folder), options={"version": version})
        try:
            samples = load_dataset(spec)
        except MissingDataError as error:
            absent.append(error)
            continue
        notes = f"published: {rows}" if len(samples) != rows else ""
        counts = f"{len(samples):,} explained clips"
        told = {"train": rows}
        yield completeness(f"EMER {version}", counts, {"train": samples}, shelf, notes, told)
        first = first or samples
    if len(absent) == len(published.EMER_ROWS):
        yield Finding("EMER", "fails", str(absent[0]), _LAYOUT)
    yield from guarded("EMER clip", check_first_clip, "EMER", first, shelf)


def _check_humanomni(folder: Path, shelf: Shelf) -> Iterator[Finding]:
    """Every instruction file, with the paths counted from where most clips are found."""
    files = _instruction_files(folder)
    if not files:
        yield Finding(
            "HumanOmni", "fails", f"{folder} holds no .json or .jsonl file",
            "put an instruction file there, or remove the folder",
        )  # fmt: skip
    first: list[Sample] = []
    for file in files:
        subject = f"HumanOmni {file.name}"
        try:
            samples, base = _entries(file, shelf)
        except UsageError as error:
            yield failure(subject, error)
            continue
        counts = f"{len(samples):,} entries, paths from {base}"
        yield completeness(subject, counts, {"train": samples}, shelf)
        first = first or samples
    yield from guarded("HumanOmni clip", check_first_clip, "HumanOmni", first, shelf)


def _instruction_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".json", ".jsonl"))


def _entries(file: Path, shelf: Shelf) -> tuple[list[Sample], Path]:
    """Entries of a file, and the folder that their paths count from.

    That is the data folder in the release, and the file's own folder where people repackage.
    """
    tried = []
    for base in (file.parent.absolute().parent, file.parent):
        options = {"video_root": str(base)}
        samples = load_dataset(DatasetSpec("humanomni", str(file), options=options))
        missing = sum(not shelf.has(sample.clip.path) for sample in samples)
        if not missing:
            return samples, base
        tried.append((missing, samples, base))
    _, samples, base = min(tried, key=lambda entry: entry[0])
    return samples, base


_CHECKS: dict[str, Callable[[Path, Shelf], Iterator[Finding]]] = {
    "DFEW": _check_dfew,
    "MAFW": _check_mafw,
    "RAVDESS": _check_ravdess,
    "EMER": _check_emer,
    "HumanOmni": _check_humanomni,
    "EmoDB": _check_emodb,
    **{title: partial(check_field_set, title) for title in FIELD_SETS},
}
