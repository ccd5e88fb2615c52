"""The work of a job: `analyze`, with its records and the text of its answers told as they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from r1omni.media.windows import Window
from r1omni.models.pipeline import R1Omni
from r1omni.recordings.analyzing import Analyzer
from r1omni.recordings.decoding import DECODE_LIMIT_S
from r1omni.recordings.records import Record
from r1omni.serving.job import Job, Refusal
from r1omni.serving.uploads import named
from r1omni.text.prompt import decode_completion

# As `analyze` has by default: figures of other batches differ in their last digits.
BATCH_SIZE = 8


@dataclass(frozen=True)
class Answerer:
    """Answers jobs with a model.

    Attributes:
        omni: the model.
        digest: of its folder, for the records.
        limit_s: seconds that decoding a window may take, at most those of `analyze`.
    """

    omni: R1Omni
    digest: str
    limit_s: float = DECODE_LIMIT_S

    def __call__(self, job: Job) -> None:
        """Answer a job; its records are those that `analyze` would write.

        Raises:
            Refusal: the job is to stop, or its recording cannot be analyzed (422).
        """
        teller = _Teller(self.omni, job)
        analyzer = Analyzer(
            self.omni,
            job.asked,
            teller,
            self.digest,
            {str(job.path): job.asked.hash(job.path)},
            BATCH_SIZE,
            limit_s=min(self.limit_s, DECODE_LIMIT_S),
            watcher=teller,
        )
        analyzer.run([job.asked.plan(job.path, 0, None)])
        for reason in analyzer.failures.values():
            raise Refusal(422, named(reason, job.path, job.name))


@dataclass
class _Teller:
    """Takes the records and the tokens of a job, and stops it where it is to stop."""

    omni: R1Omni
    job: Job
    # By the place of a span, the tokens of its answer, and how much text of it was told.
    _ids: dict[int, list[int]] = field(default_factory=dict)
    _told: dict[int, int] = field(default_factory=dict)
    _total: int = 1
    _num_written: int = 0

    def write(self, record: Record) -> None:
        self.job.check()
        path, name = self.job.path, self.job.name
        error = None if record.error is None else named(record.error, path, name)
        warnings = tuple(named(warning, path, name) for warning in record.warnings)
        self.job.write(replace(record, path=name, error=error, warnings=warnings))
        for told in (self._ids, self._told):
            told.pop(self._num_written, None)
        self._num_written += 1
        self.job.progress = min(self._num_written / self._total, 1.0)

    def begins(self, window: Window) -> None:
        self.job.check()
        self._total = window.total

    def hears(self, windows: Sequence[Window], parts: Sequence[Sequence[int]]) -> None:
        self.job.check()
        tokenizer, ends = self.omni.tokenizer, self.omni.end_ids
        for window, new in zip(windows, parts, strict=True):
            ids = self._ids.setdefault(window.place, [])
            ids += new
            text, _ = decode_completion(tokenizer, ids, ends)
            # A character of several tokens is told when it is whole.
            told = self._told.get(window.place, 0)
            piece = text.rstrip("\ufffd")[told:]
            if piece:
                self._told[window.place] = told + len(piece)
                self.job.write_text(window.start_s, window.end_s, piece)
