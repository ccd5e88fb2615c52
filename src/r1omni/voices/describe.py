"""A data set of speech in, explained clips out: what `python -m r1omni describe-voices` does."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from r1omni.data.registry import DatasetSpec, load_dataset
from r1omni.streams import stream_seed
from r1omni.text.cues import CUES_FILE
from r1omni.types import Clip, Sample, UsageError
from r1omni.voices.choosing import choose, count_of
from r1omni.voices.levels import NEUTRAL, SCALES, Compared, compare, heard_cues
from r1omni.voices.measures import praat
from r1omni.voices.measuring import Measured, measure_clips
from r1omni.voices.vocabulary import MEASURES, Comparison, VoiceMeasures
from r1omni.voices.wording import describe_voice

WRITTEN_BY = (
    "machine: r1omni describe-voices, from acoustic measures; nobody listened to or checked it"
)
LEFT_OUT_FILE = "left_out.jsonl"


@dataclass(frozen=True)
class Request:
    """What is to be described.

    Attributes:
        spec: samples of a data set; the group of a sample is its speaker.
        out: new folder.
        count, share: so many clips, or this share of them; None for all.
        with_labels: whether labels are read: for conclusions, the neutral reference and the choice.
        reference: what a voice is compared with: "neutral", the speaker's neutral clips where there
            are any and labels are read; or "all", all of the speaker's clips.
        leave_out: measures that are not used, as if they could not be had.
        seed: of the wording and of the choice.
        num_workers: processes.
    """

    spec: DatasetSpec
    out: Path
    count: int | None = None
    share: float | None = None
    with_labels: bool = True
    reference: Comparison = "neutral"
    leave_out: tuple[str, ...] = ()
    seed: int = 0
    num_workers: int = 2


def describe_voices(request: Request) -> dict[str, Any]:
    """Measure, compare, and write the texts, the known cues and what was left out.

    A clip that cannot be read is told on standard error, and the others go on. Clips of a speaker
    that are not asked for are measured too: the usual voice must not depend on the choice.

    Returns:
        what was done: the folder, counts, seconds a clip, and the data set that trains from it.

    Raises:
        UsageError: the data set cannot be read, the options contradict each other, or the extra
            `voices` is not installed.
    """
    praat()
    file = request.out / f"{request.spec.split}.jsonl"
    if file.parent != request.out or file.name in (CUES_FILE, LEFT_OUT_FILE):
        raise UsageError(f"--split {request.spec.split}: the result is named by it; rename it")
    unknown = sorted(set(request.leave_out) - set(MEASURES))
    if unknown or len(set(request.leave_out)) == len(MEASURES):
        raise UsageError(
            f"--leave-out {' '.join(request.leave_out)}: leave out some of {', '.join(MEASURES)}"
        )
    samples = _once_a_clip(load_dataset(request.spec))
    if not request.with_labels:
        samples = [replace(sample, label=None, label_set=None) for sample in samples]
    count = count_of(len(samples), request.count, request.share)
    chosen = choose(samples, count, request.seed)
    speakers = {sample.group for sample in chosen} - {None}
    needed = {s.clip: None for s in (*chosen, *(s for s in samples if s.group in speakers))}
    begin = time.monotonic()
    measured, failed = measure_clips(list(needed), request.num_workers)
    measured = {clip: found.without(request.leave_out) for clip, found in measured.items()}
    seconds = time.monotonic() - begin
    for reason in failed.values():
        tqdm.write(reason, file=sys.stderr)
    usual = _UsualVoices(samples, measured, request.reference)
    base = _base(request.spec, chosen)
    records, left_out = [], []
    for sample in chosen:
        record = _place(sample, base) | {
            "sample_id": sample.sample_id,
            "label": sample.label,
            "group": sample.group,
            "sex": sample.sex,
            "intensity": sample.intensity,
            "written_by": WRITTEN_BY,
        }
        if sample.clip in failed:
            left_out.append(record | {"reason": failed[sample.clip]})
        elif not measured[sample.clip].has_voice:
            reason = "no voice: too short, silent or hardly voiced"
            warned = list(measured[sample.clip].warnings)
            told = {"reason": reason, "absent": list(MEASURES), "warnings": warned}
            left_out.append(record | told)
        else:
            records.append(
                record | _description(sample, measured[sample.clip], usual, request.seed)
            )
    request.out.mkdir(parents=True)
    _write(file, records)
    _write(request.out / LEFT_OUT_FILE, left_out)
    cues, unclear = _known_cues(records, base, request.out)
    _write(request.out / CUES_FILE, cues)
    return {
        "out": str(request.out),
        "described": len(records),
        "without_voice": sum("absent" in record for record in left_out),
        "unreadable": len(failed),
        "without_cues": unclear,
        "seconds_per_clip": round(seconds / len(needed), 3),
        "data_set": {"name": "own", "root": str(request.out), "split": request.spec.split,
                     "options": {"video_root": str(base), **_label_set(chosen)}},
    }  # fmt: skip


def _label_set(chosen: Sequence[Sample]) -> dict[str, str]:
    """The option by which `own` judges answers among the same classes as the data set's loader."""
    names = {sample.label_set for sample in chosen if sample.label_set is not None}
    return {"label_set": names.pop()} if len(names) == 1 else {}


def _once_a_clip(samples: Iterable[Sample]) -> list[Sample]:
    """One sample of each clip, with a label if any has: some sets ask about a clip many times."""
    found: dict[Clip, Sample] = {}
    for sample in samples:
        if found.setdefault(sample.clip, sample).label is None:
            found[sample.clip] = sample
    return list(found.values())


class _UsualVoices:
    """Speaker -> the measures of all clips, and of the neutral ones where these are asked for."""

    def __init__(
        self,
        samples: Iterable[Sample],
        measured: Mapping[Clip, Measured],
        reference: Comparison,
    ) -> None:
        self._all: dict[str, list[VoiceMeasures]] = {}
        self._neutral: dict[str, list[VoiceMeasures]] = {}
        for sample in samples:
            found = measured.get(sample.clip)
            if sample.group is None or found is None:
                continue
            self._all.setdefault(sample.group, []).append(found.measures)
            if sample.label == NEUTRAL and reference == "neutral":
                self._neutral.setdefault(sample.group, []).append(found.measures)

    def compare(self, sample: Sample, measures: VoiceMeasures) -> dict[str, Compared]:
        """The measures of a clip beside its speaker's."""
        group = sample.group or ""
        return compare(measures, self._all.get(group, ()), self._neutral.get(group, ()))


def _description(sample: Sample, found: Measured, usual: _UsualVoices, seed: int) -> dict[str, Any]:
    compared = usual.compare(sample, found.measures)
    heard = heard_cues(compared)
    rng = random.Random(stream_seed("voices", "wording", seed, sample.sample_id))
    references = [value.reference for value in compared.values()]
    text = describe_voice(heard, references, sample.label, rng)
    return {
        "reasoning": text.text,
        "named": sorted([cue.attribute, cue.value] for cue in text.cues),
        "cues": {h.cue.attribute: h.cue.value for h in heard},
        "voice": {
            name: asdict(value)
            | {"unit": SCALES[name].unit, "difference_unit": SCALES[name].difference}
            for name, value in compared.items()
        },
        "absent": [name for name in MEASURES if name not in compared],
        "warnings": list(found.warnings),
    }


def _base(spec: DatasetSpec, chosen: Sequence[Sample]) -> Path:
    """The folder that paths are written from: the data set's, or one above all clips."""
    files = [os.path.abspath(path) for s in chosen for path in _files(s.clip)]
    root = os.path.abspath(Path(spec.root).expanduser())
    if not os.path.isdir(root):
        root = os.path.dirname(root)
    return Path(os.path.commonpath([root, *(os.path.dirname(file) for file in files)]))


def _files(clip: Clip) -> list[Path]:
    return [path for path in (clip.path, clip.audio_path) if path is not None]


def _place(sample: Sample, base: Path) -> dict[str, Any]:
    """The columns by which `own` finds a clip again."""
    clip = sample.clip
    row: dict[str, Any] = {"path": _relative(clip.path, base)}
    if clip.audio_path is not None:
        row["audio"] = _relative(clip.audio_path, base)
    span = {"start": clip.start_s, "end": clip.end_s}
    return row | {name: value for name, value in span.items() if value is not None}


def _relative(path: Path, base: Path) -> str:
    return Path(os.path.relpath(os.path.abspath(path), os.path.abspath(base))).as_posix()


def _known_cues(
    records: Sequence[Mapping[str, Any]], base: Path, out: Path
) -> tuple[list[dict[str, Any]], int]:
    """Rows of `cues.jsonl`, and for how many clips there are none.

    It tells of whole recordings, so one that several clips were cut from has no row.
    """
    times = Counter(record["path"] for record in records)
    rows = [
        {
            "path": _relative(base / record["path"], out),
            "voice": record["cues"],
            "written_by": WRITTEN_BY,
        }
        for record in records
        if times[record["path"]] == 1
    ]
    return rows, len(records) - len(rows)


def _write(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
