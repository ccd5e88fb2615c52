"""Recordings analyzed: decoded beside the model, answered in batches, written as it goes."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor
from tqdm import tqdm

from r1omni.media.processor import given_media
from r1omni.media.windows import Window
from r1omni.models.answering import Question, analyze_windows
from r1omni.models.pipeline import R1Omni
from r1omni.recordings.decoding import DECODE_LIMIT_S, Decoded, Plan, decoded
from r1omni.recordings.intervals import Interval
from r1omni.recordings.records import Record
from r1omni.text.emotions import LABEL_SETS
from r1omni.text.prompt import R1OMNI_INSTRUCTION
from r1omni.text.reasoning import verdict
from r1omni.types import NUM_EXAMPLES, Analysis

Intervals = Mapping[Path, Sequence[Interval]]


@dataclass(frozen=True)
class Asked:
    """What is asked of every recording of an analysis.

    Attributes:
        question: to the model.
        window_s, hop_s: seconds of a window and from one to the next, or None.
        intervals: of each recording, in place of windows, by their ends; None for none.
        dtype: of the weights.
    """

    question: Question
    window_s: float | None = None
    hop_s: float | None = None
    intervals: Intervals | None = None
    dtype: str = "float32"

    def row(self) -> dict[str, Any]:
        """The settings of all recordings by their names, with the defaults in force."""
        return {
            **asdict(self.question),
            "instruction": self.question.instruction or R1OMNI_INSTRUCTION,
            "window_s": self.window_s,
            "hop_s": self.window_s if self.hop_s is None else self.hop_s,
            "dtype": self.dtype,
            "has_intervals": self.intervals is not None,
        }

    def hash(self, path: Path) -> str:
        """Tells settings of a recording apart: with the same ones its answers may go on."""
        own = (self.intervals or {}).get(path, ())
        spans = [(i.start_s, i.end_s, i.speaker) for i in own]
        whole = json.dumps([self.row(), spans], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()[:16]

    def plan(self, path: Path, skip: int, last: tuple[float, float] | None) -> Plan:
        """What is to be decoded of a recording.

        Args:
            path: the recording.
            skip: so many of its first spans are answered already.
            last: the last one of them; says nothing of a recording that was not begun.
        """
        own = None if self.intervals is None else self.intervals[path]
        spans = None if own is None else tuple((i.start_s, i.end_s) for i in own)
        modality = self.question.modality
        return Plan(path, modality, self.window_s, self.hop_s, spans, skip, last if skip else None)


class TakesRecords(Protocol):
    """Where records go, such as a `Log`."""

    def write(self, record: Record) -> None: ...


class Watcher(Protocol):
    """Sees an analysis go on; what it raises ends the analysis."""

    def begins(self, windows: Sequence[Window]) -> None:
        """These spans are about to be answered."""

    def hears(self, windows: Sequence[Window], part: Tensor) -> None:
        """N spans, and the next tokens of each answer, long [N, k], as `HearWindows` has it."""


@dataclass
class Analyzer:
    """Has a model answer about recordings, and writes each answer when it is known.

    Attributes:
        omni: the model.
        asked: of every recording.
        log: takes the records.
        model: hash of the model, for the records.
        settings: by recording, the hash of what is asked of it, likewise.
        batch_size: spans that are answered at once, of one recording or of several.
        num_workers: processes that decode.
        limit_s: as for `decoded`.
        shows_progress: on standard error.
        watcher: sees every batch of spans, and the answers while they are written.
        failures: recordings that could not be analyzed, with the reasons.
    """

    omni: R1Omni
    asked: Asked
    log: TakesRecords
    model: str
    settings: Mapping[str, str]
    batch_size: int = 8
    num_workers: int = 1
    limit_s: float = DECODE_LIMIT_S
    shows_progress: bool = False
    watcher: Watcher | None = None
    failures: dict[str, str] = field(default_factory=dict)

    def run(self, plans: Sequence[Plan]) -> None:
        """Analyze recordings in order; a recording that fails has a record that says why.

        Raises:
            R1OmniError: a record cannot be written.
        """
        batch: list[tuple[Plan, Decoded]] = []
        num_windows = 0
        items = decoded(
            self.omni.processor.config, plans, self.num_workers, self.batch_size, self.limit_s
        )
        with _Progress(len(plans), self.shows_progress) as progress:
            try:
                for plan, item in items:
                    batch.append((plan, item))
                    num_windows += isinstance(item, Window)
                    # What no answer is waited for is written at once.
                    if num_windows in (0, self.batch_size):
                        self._answer(batch, progress)
                        batch, num_windows = [], 0
                self._answer(batch, progress)
            finally:
                items.close()

    def fail(self, path: Path, reason: str) -> None:
        """Write why a recording cannot be analyzed."""
        self.failures[str(path)] = reason
        self._write(Record(str(path), error=reason, is_last=True))

    def _answer(self, batch: Sequence[tuple[Plan, Decoded]], progress: _Progress) -> None:
        windows = [item for _, item in batch if isinstance(item, Window)]
        hear = None
        if self.watcher is not None:
            self.watcher.begins(windows)
            hear = self.watcher.hears
        analyses = iter(analyze_windows(self.omni, windows, self.asked.question, hear))
        for plan, item in batch:
            if isinstance(item, Window):
                self._write(self._record(plan, item, next(analyses)))
                progress.answered(item)
            elif item is not None:
                self.fail(plan.path, str(item))
            if not isinstance(item, Window):
                progress.ended()

    def _record(self, plan: Plan, window: Window, analysis: Analysis) -> Record:
        intervals = None if self.asked.intervals is None else self.asked.intervals[plan.path]
        merges = LABEL_SETS[self.asked.question.label_set].merges
        supported = None
        if analysis.label is not None:
            supported = verdict(analysis.reasoning, analysis.label, merges)
        return Record(
            path=str(plan.path),
            start_s=analysis.start_s,
            end_s=analysis.end_s,
            speaker=None if intervals is None else intervals[window.place].speaker,
            label=analysis.label,
            scores=analysis.scores,
            direct_label=analysis.direct_label,
            direct_scores=analysis.direct_scores,
            reasoning=analysis.reasoning,
            supported=supported,
            text=analysis.text,
            format_ok=analysis.format_ok,
            media=given_media(window.media),
            warnings=analysis.warnings,
            is_last=window.is_last,
            ablation=analysis.ablation,
        )

    def _write(self, record: Record) -> None:
        settings = self.settings[record.path]
        self.log.write(replace(record, model=self.model, settings=settings))


def failures_line(failures: Mapping[str, str], total: int) -> str:
    """What is said at the end of recordings that could not be analyzed.

    Args:
        failures: at least one, by path.
        total: recordings that were asked for.
    """
    reasons = list(failures.values())
    if total == 1:
        return reasons[0]
    more = len(reasons) - NUM_EXAMPLES
    named = "; ".join(reasons[:NUM_EXAMPLES]) + (f"; and {more} more" if more > 0 else "")
    return f"{len(reasons)} of {total} recordings could not be analyzed: {named}"


class _Progress:
    """How far an analysis is: recordings, speed against real time, and the time that is left."""

    def __init__(self, num_recordings: int, is_shown: bool) -> None:
        self._bar = tqdm(
            total=num_recordings, unit="recording", disable=not is_shown, file=sys.stderr,
            bar_format="{percentage:3.0f}% of {total} recordings, {remaining} left{postfix}",
        )  # fmt: skip
        self._begun_s = time.monotonic()
        self._heard_s = self._until_s = self._share = 0.0

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def answered(self, window: Window) -> None:
        """Count a window."""
        # Where spans overlap, a second counts once.
        self._heard_s += max(window.end_s - max(window.start_s, self._until_s), 0.0)
        self._until_s = max(self._until_s, window.end_s)
        share = (window.place + 1) / window.total
        self._bar.update(share - self._share)
        self._share = share
        rate = self._heard_s / max(time.monotonic() - self._begun_s, 1e-9)
        self._bar.set_postfix_str(f"{rate:.1f} x real time", refresh=False)

    def ended(self) -> None:
        """Count what is missing of a recording that has come to its end."""
        self._bar.update(1.0 - self._share)
        self._share = self._until_s = 0.0
