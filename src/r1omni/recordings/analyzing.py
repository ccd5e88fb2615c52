"""Recordings analyzed: decoded beside the model, answered several at once, written as it goes."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from r1omni.media.processor import given_media
from r1omni.media.windows import Window
from r1omni.models.answering import Question
from r1omni.models.pipeline import R1Omni
from r1omni.models.spans import analyze_windows
from r1omni.recordings.decoding import DECODE_LIMIT_S, Decoded, Plan, decoded
from r1omni.recordings.intervals import Interval
from r1omni.recordings.records import Record
from r1omni.text.emotions import LABEL_SETS
from r1omni.text.prompt import R1OMNI_INSTRUCTION
from r1omni.text.reasoning import verdict
from r1omni.types import NUM_EXAMPLES, Analysis, ClipMedia, Medium

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
        # What came later and changes nothing leaves the hash what it was.
        asked = {k: v for k, v in self.row().items() if (k, v) != ("media_ablation", "none")}
        whole = json.dumps([asked, spans], sort_keys=True)
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

    def begins(self, window: Window) -> None:
        """This span is about to be answered."""

    def hears(self, windows: Sequence[Window], parts: Sequence[Sequence[int]]) -> None:
        """Spans without their media, and the next tokens of each, as `HearWindows` has it."""


@dataclass
class Analyzer:
    """Has a model answer about recordings, and writes each answer when it is known.

    Attributes:
        omni: the model.
        asked: of every recording.
        log: takes the records.
        model: hash of the model, for the records.
        settings: by recording, the hash of what is asked of it, likewise.
        batch_size: spans that are answered at once, at most, of one recording or of several.
        num_workers: processes that decode.
        limit_s: as for `decoded`.
        shows_progress: on standard error.
        watcher: sees every span before it is answered, and the answers while they are written.
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
        items = decoded(
            self.omni.processor.config, plans, self.num_workers, self.batch_size, self.limit_s
        )
        hear = None if self.watcher is None else self.watcher.hears
        with _Progress(len(plans), self.shows_progress) as progress:
            waiting = _Waiting(self, progress)
            answers = analyze_windows(
                self.omni, waiting.windows(items), self.asked.question, self.batch_size, hear
            )
            with closing(items), closing(answers):
                for analysis in answers:
                    waiting.answered(analysis)

    def fail(self, path: Path, reason: str) -> None:
        """Write why a recording cannot be analyzed."""
        self.failures[str(path)] = reason
        self._write(Record(str(path), error=reason, is_last=True))

    def answer(self, plan: Plan, window: Window, media: Sequence[Medium], said: Analysis) -> None:
        """Write what was said about a span, of which the model was given some media."""
        given = self.asked.intervals
        interval = None if given is None else given[plan.path][window.place]
        supported = None
        if said.label is not None:
            supported = verdict(
                said.reasoning, said.label, LABEL_SETS[self.asked.question.label_set]
            )
        record = Record(
            path=str(plan.path),
            start_s=said.start_s,
            end_s=said.end_s,
            speaker=None if interval is None else interval.speaker,
            label=said.label,
            scores=said.scores,
            direct_label=said.direct_label,
            direct_scores=said.direct_scores,
            reasoning=said.reasoning,
            supported=supported,
            text=said.text,
            format_ok=said.format_ok,
            media=tuple(media),
            warnings=said.warnings,
            interval=None if interval is None else interval.number or None,
            is_last=window.is_last,
            ablation=said.ablation,
        )
        self._write(record)

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


class _Waiting:
    """What was decoded and is not written yet, in its order."""

    def __init__(self, analyzer: Analyzer, progress: _Progress) -> None:
        self._analyzer = analyzer
        self._progress = progress
        # Of a span without its media, also which of them there were.
        self._items: deque[tuple[Plan, Decoded, tuple[Medium, ...]]] = deque()

    def windows(self, items: Iterable[tuple[Plan, Decoded]]) -> Iterator[Window]:
        """The spans among what is decoded."""
        for plan, item in items:
            if isinstance(item, Window):
                if self._analyzer.watcher is not None:
                    self._analyzer.watcher.begins(item)
                light = item._replace(media=ClipMedia(None, None))
                self._items.append((plan, light, given_media(item.media)))
                yield item
            else:
                self._items.append((plan, item, ()))
                self._tell_ends()

    def answered(self, analysis: Analysis) -> None:
        """Write the answer to the first span, and what follows it that waits for no answer."""
        plan, window, media = self._items.popleft()
        assert isinstance(window, Window)
        self._analyzer.answer(plan, window, media, analysis)
        self._progress.answered(window)
        self._tell_ends()

    def _tell_ends(self) -> None:
        while self._items and not isinstance(self._items[0][1], Window):
            plan, item, _ = self._items.popleft()
            if item is not None:
                self._analyzer.fail(plan.path, str(item))
            self._progress.ended()


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
