"""A dozen clips of the test sets, with what every model says about them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from r1omni.analysis.page import Section, Text
from r1omni.analysis.runs import (
    EvaluatedRun,
    find_baseline,
    find_subject,
    set_names,
    set_title,
)
from r1omni.media.audio import read_waveform
from r1omni.media.container import MediaError
from r1omni.media.previews import jpeg
from r1omni.media.video import read_frames
from r1omni.text.answers import Answer, read_answer

NUM_CLIPS = 12
_NUM_FRAMES = 4
_FRAME_PX = 160
_RATE_HZ = 16_000
_NUM_REACHES = 180
LONGEST_TEXT = 600

Records = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class ChosenClip:
    """A clip to show.

    Attributes:
        test_set: name of its set.
        sample_id: its sample.
        kind: whether the subject and the baseline are right, in this order.
    """

    test_set: str
    sample_id: str
    kind: tuple[bool, bool]


# In the order in which clips are taken: disagreement first.
_KINDS = ((True, False), (False, True), (True, True), (False, False))


def choose_clips(
    subject: dict[str, Records], baseline: dict[str, Records], num_clips: int = NUM_CLIPS
) -> list[ChosenClip]:
    """Clips of every kind from every set, the same for the same predictions.

    Sets take turns, and within a set the kinds do; within a kind, classes that were not shown
    yet go first, then the order is that of a hash of the sample's name.

    Args:
        subject: records by sample id, by test set, of the model that the report is about.
        baseline: the same of the model that it is compared with.
        num_clips: how many to choose at most.
    """
    chosen: list[ChosenClip] = []
    waiting = {
        name: [ChosenClip(name, i, kind) for i, kind in _kinds(records, baseline[name]).items()]
        for name, records in subject.items()
        if name in baseline
    }
    seen: set[tuple[str, str]] = set()
    turn = 0
    while len(chosen) < num_clips and any(waiting.values()):
        for name, candidates in waiting.items():
            if not candidates or len(chosen) == num_clips:
                continue
            # The next kind in turn that is left.
            kinds = [_KINDS[(turn + offset) % len(_KINDS)] for offset in range(len(_KINDS))]
            kind = next(k for k in kinds if any(c.kind == k for c in candidates))
            best = min(
                (c for c in candidates if c.kind == kind),
                key=lambda c: (
                    (c.test_set, subject[c.test_set][c.sample_id]["label"]) in seen,
                    hashlib.sha256(c.sample_id.encode()).digest(),
                ),
            )
            seen.add((name, subject[name][best.sample_id]["label"]))
            candidates.remove(best)
            chosen.append(best)
        turn += 1
    order = list(subject)
    return sorted(chosen, key=lambda c: (order.index(c.test_set), _KINDS.index(c.kind)))


def _kinds(subject: Records, baseline: Records) -> dict[str, tuple[bool, bool]]:
    return {
        i: (_is_right(record), _is_right(baseline[i]))
        for i, record in subject.items()
        if i in baseline
    }


def _is_right(record: dict[str, Any]) -> bool:
    return bool(record["prediction"] == record["label"])


@dataclass(frozen=True)
class Wave:
    """A sound: its length, and how far each of its pieces reaches, from 0 to 1, the loudest."""

    seconds: float
    reaches: Sequence[float]


@dataclass(frozen=True)
class Media:
    """What is shown of a clip: frames as data URLs, its sound, and why something is missing."""

    frames: Sequence[str] = ()
    wave: Wave | None = None
    notes: Sequence[Text] = ()


_NO_PATH = Text("No picture: the prediction does not say where its recording is.", "gap")


@dataclass(frozen=True)
class Line:
    """One line of a card.

    Attributes:
        who: a model, or what the line is about.
        verdict, mark: class and text of a mark; "" for none.
        word: what was answered.
        text: what was written, of class `kind`.
        note: small print below it.
        emphasis: whether it is the model that the report is about.
    """

    who: str
    verdict: str = ""
    mark: str = ""
    word: str = ""
    text: str = ""
    kind: str = ""
    note: str = ""
    emphasis: bool = False


@dataclass(frozen=True)
class Card:
    """A clip and what is said about it."""

    name: str
    test_set: str
    label: str
    media: Media
    lines: Sequence[Line] = field(default_factory=tuple)


@dataclass(frozen=True)
class Clips:
    """Cards of clips."""

    template: ClassVar[str] = "clips"
    clips: Sequence[Card]


def clips_section(runs: list[EvaluatedRun], *, synthetic: bool) -> Section:
    """The chosen clips; `synthetic` says whether they show no real person."""
    subject, baseline = find_subject(runs), find_baseline(runs) or find_subject(runs)
    records = {run.model: _records(run) for run in runs}
    chosen = choose_clips(records[subject.model], records[baseline.model])
    anchor, title = "clips", "Clips and answers"
    if not chosen:
        return Section(anchor, title, [Text("The runs kept no predictions.", "gap")])
    shares = "; ".join(
        _share_of_kinds(name, records[subject.model][name], records[baseline.model].get(name, {}))
        for name in records[subject.model]
    )
    intro = (
        f"{len(chosen)} clips, chosen by rule so that agreement and disagreement of "
        f"{subject.model} and {baseline.model} both show; they are no fair sample. In the whole "
        f"sets, {subject.model} alone / {baseline.model} alone / both / neither are right on: "
        f"{shares}. The wave is the sound, scaled to its own peak."
    )
    licence = "The pictures come from the data sets: their licences govern passing this page on."
    cards = Clips([_card(clip, runs, records, subject) for clip in chosen])
    notes = [Text(intro, "note"), *([] if synthetic else [Text(licence, "note")])]
    return Section(anchor, title, [*notes, cards])


def _records(run: EvaluatedRun) -> dict[str, Records]:
    found = {name: run.predictions(name) for name in set_names([run])}
    return {name: records for name, records in found.items() if records}


def _share_of_kinds(name: str, subject: Records, baseline: Records) -> str:
    kinds = list(_kinds(subject, baseline).values())
    return f"{set_title(name)} {' / '.join(str(kinds.count(kind)) for kind in _KINDS)}"


def _card(
    clip: ChosenClip,
    runs: list[EvaluatedRun],
    records: dict[str, dict[str, Records]],
    subject: EvaluatedRun,
) -> Card:
    record = records[subject.model][clip.test_set][clip.sample_id]
    answers = [
        _answer(run, theirs, run is subject)
        for run in runs
        for theirs in [records[run.model].get(clip.test_set, {}).get(clip.sample_id)]
        if theirs is not None
    ]
    return card(clip.test_set, record, answers)


def card(test_set: str, record: Mapping[str, Any], lines: Sequence[Line]) -> Card:
    """A card of a record's clip."""
    path = record.get("path")  # predictions of other systems need none
    media = Media(notes=[_NO_PATH]) if path is None else media_of(Path(path))
    return Card(record["sample_id"], set_title(test_set), record["label"], media, lines)


def media_of(path: Path) -> Media:
    """Four frames and the sound of a clip, or why they cannot be shown."""
    frames: list[str] = []
    notes: list[Text] = []
    wave = None
    try:
        frames = [jpeg(frame, _FRAME_PX) for frame in read_frames(path, _NUM_FRAMES).frames]
    except MediaError as error:
        notes.append(Text(f"No picture: {error}", "gap"))
    try:
        sound = read_waveform(path, _RATE_HZ)
        wave = wave_of(sound.waveform.numpy(), _RATE_HZ)
        notes += [Text(warning, "note") for warning in sound.warnings]
    except MediaError as error:
        notes.append(Text(f"No sound: {error}", "gap"))
    return Media(frames, wave, notes)


def wave_of(samples: NDArray[np.float32], rate_hz: int) -> Wave:
    """The envelope of a waveform [S], scaled to its own peak."""
    pieces = np.array_split(np.abs(samples), _NUM_REACHES)
    peaks = np.array([piece.max(initial=0.0) for piece in pieces])
    return Wave(len(samples) / rate_hz, (peaks / max(peaks.max(), 1e-6)).tolist())


def _answer(run: EvaluatedRun, record: dict[str, Any], emphasis: bool) -> Line:
    """One model's mark, word and reasoning; what is not in form is shown verbatim."""
    text = record["text"] or ""
    answer = read_answer(text)
    if record["text"] is None:  # a system that gives an answer and writes no completion
        answer = Answer(record["answer"] or "", "", False, record["reasoning"])
    verdict, mark = _verdict(record, answer)
    named = record["prediction"] is not None or answer.emotion is not None
    shows_word = record["format_ok"] or named
    word = record["prediction"] or (answer.word if shows_word else "")
    if record["reasoning"]:
        said, kind = _shortened(record["reasoning"], LONGEST_TEXT), "reasoning"
    elif named and not answer.before:
        said, kind = "no reasoning", "note"
    else:
        said = _shortened(text, LONGEST_TEXT) if text.strip() else "(nothing)"
        kind = "verbatim"
    return Line(run.model, verdict, mark, _shortened(word, 60), said, kind, emphasis=emphasis)


def _verdict(record: dict[str, Any], answer: Answer) -> tuple[str, str]:
    """A class of the style sheet, and the mark in words."""
    if _is_right(record):
        return "right", "✓ right"
    if record["prediction"] is not None:
        return "wrong", "✗ wrong"
    if answer.emotion is not None:
        return "wrong", "✗ no class of the set"
    return "unreadable", "? unreadable"


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest].rstrip() + " …"
