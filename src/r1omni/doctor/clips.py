"""Clips on disk: those that the lists name and that are not there, and one that is opened."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from r1omni.doctor.checks import Finding
from r1omni.types import Clip, Modality, Sample

# `max_broken_ratio` of the data module: a run stops above it.
ALLOWED_SHARE = 0.01
_NUM_NAMES = 3
_TAG = re.compile(r"</?\w+>")
_HAN = re.compile(r"[\u3400-\u9fff]")
# How many clips there are of each class, or of all.
Counts = Mapping[str, int] | int
_NUM_TRIES = 3


@dataclass
class Shelf:
    """Says which files are there, each looked up once, and keeps what was found of each split.

    Attributes:
        title: the data set that is examined.
        splits: title -> what was looked at -> split -> `split_report`.
        clips: title -> its clips, each with the modality of a sample.
    """

    title: str = ""
    splits: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    clips: dict[str, dict[Clip, Modality]] = field(default_factory=dict)
    _known: dict[Path, bool] = field(default_factory=dict)

    def keep(
        self, subject: str, split: str, samples: Sequence[Sample], told: Counts | None
    ) -> None:
        """Keep what is to be said of a split, and its clips."""
        found = split_report(samples, self.missing(samples), told)
        self.splits.setdefault(self.title, {}).setdefault(subject, {})[split] = found
        clips = self.clips.setdefault(self.title, {})
        for sample in samples:
            clips.setdefault(sample.clip, sample.modality)

    def missing(self, samples: Sequence[Sample]) -> list[Path]:
        """Of each clip that is not whole on disk, the first file that is not there or empty."""
        lost: list[Path] = []
        for clip in dict.fromkeys(sample.clip for sample in samples):
            files = [path for path in (clip.path, clip.audio_path) if path is not None]
            lost += [path for path in files if not self.has(path)][:1]
        return lost

    def has(self, path: Path) -> bool:
        """Whether the file is there and holds something."""
        if path not in self._known:
            self._known[path] = path.is_file() and path.stat().st_size > 0
        return self._known[path]


def split_report(
    samples: Sequence[Sample], missing: Sequence[Path], told: Counts | None
) -> dict[str, Any]:
    """What is in a split, as the report in JSON has it.

    Args:
        samples: of the split.
        missing: files that are not there or empty.
        told: what its publisher counts: of each class, or of all; None where nothing is published.

    Returns:
        clips, classes, speakers: counts; null for speakers that are not known.
        published: `told`; differs: where it is another number, what is there and what is published.
        missing: paths.
        other_script: samples whose explanation is written in another script than the question.
    """
    classes = Counter(str(sample.label) for sample in samples)
    groups = Counter(str(sample.group) for sample in samples if sample.group is not None)
    expected = told if isinstance(told, Mapping) else {} if told is None else {"clips": told}
    counted = classes if isinstance(told, Mapping) else Counter({"clips": len(samples)})
    names = dict.fromkeys((*expected, *counted)) if expected else ()
    return {
        "clips": len(samples),
        "classes": dict(classes.most_common()),
        "speakers": dict(groups.most_common()) or None,
        "published": told,
        "differs": {
            name: {"found": counted[name], "published": expected.get(name, 0)}
            for name in names
            if counted[name] != expected.get(name, 0)
        },
        "missing": list(map(str, missing)),
        "other_script": [s.sample_id for s in samples if _is_other_script(s)],
    }


def _is_other_script(sample: Sample) -> bool:
    """Whether the target is mostly in Chinese characters and the question is not, or vice versa."""
    shares = [
        len(_HAN.findall(text)) / max(1, sum(map(str.isalpha, text)))
        for text in (sample.instruction, _TAG.sub("", sample.target or ""))
    ]
    return bool(sample.target) and (shares[0] > 0.5) != (shares[1] > 0.5)


def completeness(
    subject: str,
    counts: str,
    splits: Mapping[str, Sequence[Sample]],
    shelf: Shelf,
    notes: str = "",
    told: Mapping[str, Counts] | None = None,
) -> Finding:
    """A finding about the clips of some splits.

    Args:
        subject: the data set.
        counts: how many samples there are, in words.
        splits: name -> samples.
        shelf: knows which files are there.
        notes: what differs from the publisher's files, or "".
        told: what the publisher counts, by split.
    """
    for split, samples in splits.items():
        shelf.keep(subject, split, samples, (told or {}).get(split))
    missing = {split: shelf.missing(samples) for split, samples in splits.items()}
    lost = [path for paths in missing.values() for path in paths]
    if not lost:
        if notes:
            return Finding(
                subject, "note", f"{counts}, every clip there; {notes}",
                "fine for a part of the set or a mini-world; otherwise fetch the lists again",
            )  # fmt: skip
        return Finding(subject, "ok", f"{counts}, every clip there")
    stops = any(
        len(paths) > ALLOWED_SHARE * len({sample.clip for sample in splits[split]})
        for split, paths in missing.items()
    )
    named = ", ".join(path.name for path in lost[:_NUM_NAMES])
    more = f" and {len(lost) - _NUM_NAMES} more" if len(lost) > _NUM_NAMES else ""
    parts = ", ".join(f"{split} {len(paths):,}" for split, paths in missing.items() if paths)
    found = f"{counts}; not on disk or empty: {parts} ({named}{more})"
    folder = lost[0].parent
    allowed = f"a run stops where more than {ALLOWED_SHARE:.0%} of a split are missing"
    return Finding(
        subject, "fails" if stops else "note", f"{found}; {notes}" if notes else found,
        f"copy the missing clips to {folder}; {allowed} (data.loader.max_broken_ratio)",
    )  # fmt: skip


def differences(counted: Counter[str], published: Mapping[str, int], what: str) -> str:
    """What is there in another number than published, in words, or "".

    Args:
        counted: clips there, by class or by speaker.
        published: the same of the publisher's files.
        what: the word for what is counted, such as "classes".
    """
    wrong = [
        f"{name} {counted[name]} instead of {published.get(name, 0)}"
        for name in dict.fromkeys((*published, *sorted(counted)))
        if counted[name] != published.get(name, 0)
    ]
    named = len(wrong) if len(wrong) == _NUM_NAMES + 1 else _NUM_NAMES
    more = f" and {len(wrong) - named} {what} more" if len(wrong) > named else ""
    return f"{', '.join(wrong[:named])}{more}"


def class_differences(samples: Sequence[Sample], published: Mapping[str, int]) -> str:
    """Classes whose clips are not as many as published, in words, or ""."""
    return differences(Counter(str(sample.label) for sample in samples), published, "classes")


def group_differences(samples: Sequence[Sample], published: Mapping[str, int]) -> str:
    """Speakers whose clips are not as many as published, in words, or ""."""
    return differences(Counter(str(sample.group) for sample in samples), published, "speakers")


def check_first_clip(title: str, samples: Sequence[Sample], shelf: Shelf) -> Iterator[Finding]:
    """Open the first recording that is there; opening all would take as long as a run's start.

    Where it cannot be read the next few are tried: single broken clips stop no run.
    """
    from r1omni.media.container import MediaError

    subject = f"{title} clip"
    present = (sample for sample in samples if shelf.has(sample.clip.path))
    broken: list[MediaError] = []
    for sample in islice(present, _NUM_TRIES):
        try:
            found = f"{_open(sample)}; most were not opened"
        except MediaError as error:
            broken.append(error)
            continue
        if broken:
            reasons = "; ".join(map(str, broken))
            yield Finding(subject, "note", f"{reasons}; {found}", "copy the broken clips again")
        else:
            yield Finding(subject, "ok", found)
        return
    if broken:
        reasons = "; ".join(map(str, broken))
        yield Finding(
            subject, "fails", f"none of {len(broken)} tried: {reasons}", "copy the clips again"
        )


def _open(sample: Sample) -> str:
    """What a recording holds; a frame of it is decoded where the picture is asked for.

    Raises:
        MediaError: it cannot be read.
    """
    from r1omni.media.timeline import read_duration_s
    from r1omni.media.video import read_frames

    path = sample.clip.path
    seconds = read_duration_s(path)
    if sample.modality == "audio":
        return f"{path.name}: {seconds:.1f} s"
    _, height, width, _ = read_frames(path, 1).frames.shape
    return f"{path.name}: {seconds:.1f} s, {width} x {height} px"
