"""A dozen clips of the test sets, with what every model says about them."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from r1omni.analysis.charts import waveform_chart
from r1omni.analysis.markup import paragraph, section
from r1omni.analysis.runs import (
    EvaluatedRun,
    find_baseline,
    find_subject,
    set_names,
    set_title,
)
from r1omni.media.audio import read_waveform
from r1omni.media.container import MediaError
from r1omni.media.video import read_frames
from r1omni.text.answers import Answer, read_answer

NUM_CLIPS = 12
_NUM_FRAMES = 4
_FRAME_PX = 160
_RATE_HZ = 16_000
_LONGEST_TEXT = 600

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


def clips_section(runs: list[EvaluatedRun], *, synthetic: bool) -> str:
    """The chosen clips; `synthetic` says whether they show no real person."""
    subject, baseline = find_subject(runs), find_baseline(runs) or find_subject(runs)
    records = {run.model: _records(run) for run in runs}
    chosen = choose_clips(records[subject.model], records[baseline.model])
    title = "Clips and answers"
    if not chosen:
        return section("clips", title, paragraph("The runs kept no predictions.", "gap"))
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
    licence = (
        ""
        if synthetic
        else paragraph(
            "The pictures come from the data sets: their licences govern passing this page on.",
            "note",
        )
    )
    cards = [_card(clip, runs, records, subject) for clip in chosen]
    grid = f'<div class="clips">{"".join(cards)}</div>'
    return section("clips", title, paragraph(intro, "note"), licence, grid)


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
) -> str:
    record = records[subject.model][clip.test_set][clip.sample_id]
    answers = "".join(
        _answer(run, theirs, run is subject)
        for run in runs
        for theirs in [records[run.model].get(clip.test_set, {}).get(clip.sample_id)]
        if theirs is not None
    )
    return (
        f'<article class="clip"><header><h3>{escape(clip.sample_id)}</h3>'
        f"<p>{escape(set_title(clip.test_set))}, true label <strong>{escape(record['label'])}"
        f"</strong></p>{media_html(Path(record['path']), clip.sample_id)}</header>"
        f'<dl class="answers">{answers}</dl></article>'
    )


def media_html(path: Path, name: str) -> str:
    """Four frames and the sound of a clip, or why they cannot be shown."""
    try:
        decoded = read_frames(path, _NUM_FRAMES)
        frames = "".join(
            f'<img alt="{escape(name)}, frame {i + 1} of {_NUM_FRAMES}" '
            f'src="{_jpeg(Image.fromarray(frame))}">'
            for i, frame in enumerate(decoded.frames)
        )
        picture = f'<div class="frames">{frames}</div>'
    except MediaError as error:
        picture = paragraph(f"No picture: {error}", "gap")
    try:
        sound = read_waveform(path, _RATE_HZ)
        samples = sound.waveform.numpy()
        wave = waveform_chart(samples, len(samples) / _RATE_HZ, f"waveform of {name}")
        wave += "".join(paragraph(warning, "note") for warning in sound.warnings)
    except MediaError as error:
        wave = paragraph(f"No sound: {error}", "gap")
    return picture + wave


def _jpeg(picture: Image.Image) -> str:
    picture.thumbnail((_FRAME_PX, _FRAME_PX))
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


def _answer(run: EvaluatedRun, record: dict[str, Any], emphasis: bool) -> str:
    """One model's mark, word and reasoning; what is not in form is shown verbatim."""
    text = record["text"]
    answer = read_answer(text)
    kind, mark = _verdict(record, answer)
    bare = answer.emotion is not None and not answer.before
    shows_word = record["format_ok"] or answer.emotion is not None
    word = record["prediction"] or (answer.word if shows_word else "")
    said = f" <strong>{escape(_shortened(word, 60))}</strong>" if word else ""
    if record["format_ok"]:
        body = f'<p class="reasoning">{escape(_shortened(record["reasoning"], _LONGEST_TEXT))}</p>'
    elif bare:
        body = '<p class="note">no reasoning</p>'
    else:
        shown = _shortened(text, _LONGEST_TEXT) if text.strip() else "(nothing)"
        body = f'<p class="verbatim">{escape(shown)}</p>'
    return (
        f"<div{' class=subject' if emphasis else ''}><dt>{escape(run.model)}</dt>"
        f'<dd><span class="verdict {kind}">{mark}</span>{said}{body}</dd></div>'
    )


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
