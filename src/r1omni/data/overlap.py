"""Whether two lists of samples share clips: the same file, another name of it, or a copy."""

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

from r1omni.types import NUM_EXAMPLES, Sample, UsageError

_logger = logging.getLogger(__name__)

# Most files of one size differ here already.
_HEAD_BYTES = 65_536


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


def refuse_shared_clips(splits: Mapping[str, Sequence[Sample]]) -> None:
    """Raise UsageError where clips of "train" are in another split, too.

    Clips of both "val" and "test" are warned about: what validation chooses is then chosen on them.

    Args:
        splits: name -> samples, "train" among them.
    """
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
    heads = {path: _digest(path, _HEAD_BYTES) for path in alike}
    alike = _found_on_both_sides(heads, first, second)
    whole = {
        path: heads[path] if (sizes[path] or 0) <= _HEAD_BYTES else _digest(path) for path in alike
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


def _digest(path: str, limit: int | None = None) -> str | None:
    """SHA-256 of a file, or of its first bytes; None where it cannot be read."""
    try:
        with open(path, "rb") as file:
            if limit is None:
                return hashlib.file_digest(file, "sha256").hexdigest()
            return hashlib.sha256(file.read(limit)).hexdigest()
    except OSError:
        return None
