"""Whether lists of samples that are to be apart share clips, or speakers.

A clip is shared as the same file, as another name of it, or as a copy.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from r1omni.data.registry import DatasetSpec
from r1omni.types import NUM_EXAMPLES, Sample, UsageError

_logger = logging.getLogger(__name__)

# The samples of each data set of a split.
Listed = Sequence[tuple[DatasetSpec, Sequence[Sample]]]
# Options of loaders that say whose recordings a split has.
_CHOOSE_SPEAKERS = ("fold", "folds", "hold_out_val", "actors")
# The data set whose splits a person makes, and whose rows name the speaker or do not.
_OWN = "own"
# Most files of one size differ here already.
HEAD_BYTES = 65_536


@dataclass(frozen=True)
class Shared:
    """A clip that two lists share.

    Attributes:
        first, second: a sample of each list.
        first_path, second_path: their files, which are one or have the same content.
    """

    first: Sample
    second: Sample
    first_path: Path
    second_path: Path

    def __str__(self) -> str:
        paths = dict.fromkeys((self.second_path, self.first_path))
        files = " has the content of ".join(map(str, paths))
        return f"{self.second.sample_id} is {self.first.sample_id} ({files})"


@dataclass(frozen=True)
class _Span:
    """A part of a file that a sample shows, in seconds."""

    start_s: float
    end_s: float
    sample: Sample
    path: Path


def refuse_shared(splits: Mapping[str, Listed]) -> None:
    """Raise UsageError where clips of "train" are in another split, too, or speakers kept apart.

    What both "val" and "test" have is warned about: what validation chooses is then chosen on it.

    Args:
        splits: name -> data sets with their samples, "train" among them.
    """
    _refuse_shared_clips(
        {name: [s for _, samples in listed for s in samples] for name, listed in splits.items()}
    )
    for name, listed in splits.items():
        told = _shared_speakers(splits["train"], listed) if name != "train" else None
        if told is not None:
            raise UsageError(
                f"data.train and data.{name} share {told}; give both the same folds, fold and "
                "hold_out_val, or a speaker of your own tables one split; where speakers need not "
                "be apart, none of these, and tables of your own the option shared_speakers: true"
            )
    told = _shared_speakers(splits.get("val", ()), splits.get("test", ()))
    if told is not None:
        _logger.warning("data.val and data.test share %s", told)


def _shared_speakers(first: Listed, second: Listed) -> str | None:
    """Who is in data sets of both sides that are divided by speakers, in words; None for nobody.

    Divided are two data sets of which one is told whose recordings it has, and the other is told
    otherwise or nothing; of one choice, they share its speakers on purpose. A table of one's own
    that names speakers is divided from any other list, unless `shared_speakers` says otherwise. A
    name is one person in one data set, whatever its folder, and in lists of clips that lie in one
    folder.
    """
    found: dict[str, str] = {}
    for spec, samples in first:
        for other, others in second:
            if not _are_divided(spec, other) or not _same_people(spec, other):
                continue
            known = {s.group: s.sample_id for s in reversed(samples) if s.group is not None}
            for s in others:
                if s.group in known:
                    found.setdefault(s.group, f"{s.group} ({known[s.group]} and {s.sample_id})")
    if not found:
        return None
    return f"{len(found)} speakers: {'; '.join(sorted(found.values())[:NUM_EXAMPLES])}"


def _are_divided(spec: DatasetSpec, other: DatasetSpec) -> bool:
    """Whether data sets are two parts of speakers, by what they are told of whose they have."""
    chosen, chosen_there = (
        {name: one.options[name] for name in _CHOOSE_SPEAKERS if one.options.get(name)}
        for one in (spec, other)
    )
    if chosen or chosen_there:
        return (spec.split, chosen) != (other.split, chosen_there)
    if any(one.options.get("shared_speakers") for one in (spec, other)):
        return False
    return _OWN in (spec.name, other.name) and _rows_of(spec) != _rows_of(other)


def _rows_of(spec: DatasetSpec) -> tuple[object, ...]:
    """What names the rows that a data set is drawn from; equal for two parts by `sampling`."""
    return spec.name, os.path.realpath(spec.root), spec.options.get("file"), spec.split


def _same_people(spec: DatasetSpec, other: DatasetSpec) -> bool:
    """Whether a speaker's name means the same person in both."""
    if spec.name == other.name != _OWN:
        return True
    folder, other_folder = _clips_folder(spec), _clips_folder(other)
    return folder.is_relative_to(other_folder) or other_folder.is_relative_to(folder)


def _clips_folder(spec: DatasetSpec) -> Path:
    """The folder that a data set's clips lie in; the root may be a table, or hold nothing else."""
    root = Path(spec.options.get("video_root") or spec.root).expanduser()
    return Path(os.path.realpath(root.parent if root.is_file() else root))


def _refuse_shared_clips(splits: Mapping[str, Sequence[Sample]]) -> None:
    for name, samples in splits.items():
        shared = shared_clips(splits["train"], samples) if name != "train" else []
        if shared:
            raise UsageError(
                f"data.train and data.{name} share {len(shared)} clips: "
                f"{'; '.join(map(str, shared[:NUM_EXAMPLES]))}; take them out of one, or hold "
                f"clips out: sampling `random:2%` in data.{name} and `not random:2%` in data.train"
            )
    shared = shared_clips(splits.get("val", ()), splits.get("test", ()))
    if shared:
        _logger.warning(
            "data.val and data.test share %d clips: %s; what is chosen by validation is chosen on "
            "clips of the test",
            len(shared), "; ".join(map(str, shared[:NUM_EXAMPLES])),
        )  # fmt: skip


def shared_clips(first: Sequence[Sample], second: Sequence[Sample]) -> list[Shared]:
    """Samples of `second` that show what a sample of `first` shows, one entry each.

    Spans of one recording that do not overlap are different clips. Contents are read only of files
    whose size is found on both sides, and beyond their head only where that is alike. A file that
    is not there, is empty or cannot be read is known by its path alone.

    Args:
        first, second: samples of any data sets.
    """
    spans, others = _spans(first), _spans(second)
    real = {span.path: os.path.realpath(span.path) for span in (*spans, *others)}
    contents = _contents({real[s.path] for s in spans}, {real[s.path] for s in others})
    by_file: dict[str, list[_Span]] = defaultdict(list)
    for span in spans:
        by_file[contents.get(real[span.path], real[span.path])].append(span)
    files = {name: _File(known) for name, known in by_file.items()}
    shared: dict[str, Shared] = {}
    for span in others:
        file = files.get(contents.get(real[span.path], real[span.path]))
        found = None if file is None else file.overlapping(span)
        if found is not None:
            entry = Shared(found.sample, span.sample, found.path, span.path)
            shared.setdefault(span.sample.sample_id, entry)
    return list(shared.values())


def _spans(samples: Iterable[Sample]) -> list[_Span]:
    """What each sample shows of each of its files."""
    return [
        _Span(
            s.clip.start_s or 0.0, math.inf if s.clip.end_s is None else s.clip.end_s, s, path
        )
        for s in samples
        for path in (s.clip.path, s.clip.audio_path)
        if path is not None
    ]  # fmt: skip


class _File:
    """The spans of one file; finds one that overlaps another without a look at each."""

    def __init__(self, spans: list[_Span]) -> None:
        spans = sorted(spans, key=lambda span: span.start_s)
        self._starts = [span.start_s for span in spans]
        # Of the spans up to each, the one that ends last.
        self._last: list[_Span] = list(accumulate(spans, _later))

    def overlapping(self, span: _Span) -> _Span | None:
        before = bisect_left(self._starts, span.end_s)
        last = self._last[before - 1] if before else None
        return last if last is not None and last.end_s > span.start_s else None


def _later(one: _Span, other: _Span) -> _Span:
    return other if other.end_s > one.end_s else one


def _contents(first: set[str], second: set[str]) -> dict[str, str]:
    """Real path -> a name for its content, for files that a file of the other side may equal."""
    sizes = {path: _size(path) for path in first | second}
    alike = _found_on_both_sides(sizes, first, second)
    heads = {path: digest(path, HEAD_BYTES) for path in alike}
    alike = _found_on_both_sides(heads, first, second)
    whole = {
        path: heads[path] if (sizes[path] or 0) <= HEAD_BYTES else digest(path) for path in alike
    }
    return {path: f"content {digest}" for path, digest in whole.items() if digest is not None}


def _found_on_both_sides(
    keys: Mapping[str, object], first: set[str], second: set[str]
) -> list[str]:
    """The paths whose key, unless it is None, is that of a path of each side."""
    ours = {keys[path] for path in first if keys.get(path) is not None}
    both = ours & {keys[path] for path in second if keys.get(path) is not None}
    return [path for path in keys if keys[path] in both]


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size or None
    except OSError:
        return None


def digest(path: str | Path, limit: int | None = None) -> str | None:
    """SHA-256 of a file, or of its first bytes; None where it cannot be read."""
    try:
        with open(path, "rb") as file:
            if limit is None:
                return hashlib.file_digest(file, "sha256").hexdigest()
            return hashlib.sha256(file.read(limit)).hexdigest()
    except OSError:
        return None
