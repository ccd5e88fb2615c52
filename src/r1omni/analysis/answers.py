"""Reasoned answers beside direct ones, and how much answers depend on each medium."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from r1omni.analysis.page import (
    NOT_MEASURED,
    Cell,
    Row,
    Section,
    Table,
    Text,
    Title,
    between,
    cell,
    percent,
    signed,
)
from r1omni.analysis.runs import EvaluatedRun, find_subject, set_names, set_title
from r1omni.extras import EXTRAS, how_to_install, missing
from r1omni.metrics.answer_modes import AnswerModes
from r1omni.metrics.dependence import Dependence
from r1omni.metrics.paired import PairedAnswers, paired_answers
from r1omni.metrics.reliability import reliability_svg

# By run, in the order of the page.
Paired = Mapping[str, PairedAnswers]
CHANGES = {
    "muted": "sound muted",
    "blanked": "picture blanked",
    "swapped": "sound swapped",
    "shuffled": "frames shuffled",
}


def paired_of(run: EvaluatedRun) -> PairedAnswers:
    """Modes and conditions of a tested run, from the predictions that it kept."""
    records = {
        name: {
            condition: list(rows.values())
            for condition in test_set.conditions
            if (rows := run.predictions(name, condition)) is not None
        }
        for name, test_set in run.sets.items()
    }
    return paired_answers(records, {name: s.label_set for name, s in run.sets.items()})


def paired_results(paired: Paired) -> dict[str, Any]:
    """What results.json says of them, by kind and run; a kind that no run has is left out."""
    found: dict[str, Any] = {}
    for model, answers in paired.items():
        for kind, sets in answers.to_dict().items():
            found.setdefault(kind, {})[model] = sets
    return found


# Modes ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Diagrams:
    """Pictures side by side: what each is of, and its data URL."""

    template: ClassVar[str] = "diagrams"
    images: Sequence[tuple[str, str]]


def answers_section(runs: list[EvaluatedRun], paired: Paired) -> Section | None:
    """WAR of both modes, confidence and calibration; None where no run answered directly."""
    names = [n for n in set_names(runs) if any(n in p.modes for p in paired.values())]
    if not names:
        return None
    subject = find_subject(runs).model
    rows = []
    for name in names:
        rows.append(Row(set_title(name), kind="group"))
        for run in runs:
            modes = paired[run.model].modes.get(name, {}).get("full")
            if modes is not None:
                emphasis = "subject" if run.model == subject else ""
                rows.append(Row(run.model, _mode_cells(modes), emphasis))
    columns = ("think", "direct", "think − direct", "ECE", "top 2")
    note = (
        "In percent and points of WAR. Think: the model writes its reasoning and answers. "
        "Direct: the emotions are scored after an empty reasoning, and the most probable one "
        "is the answer; nothing is written. Small print: 95% interval (of the difference a "
        "paired one), and the mean confidence. Confidence is the answered emotion's share of "
        "probability among the emotions of the set. ECE, think / direct: how far confidence "
        "and share right are apart, on average over ten bins. Top 2, think / direct: the label "
        "is among the two most probable emotions. A model that was trained to answer without "
        "tags is asked for a form here that it does not know."
    )
    table = Table("Answers after reasoning and direct ones", columns, rows)
    diagrams = _diagrams(subject, paired[subject])
    return Section("answers", "With reasoning, and without", [table, Text(note, "note"), *diagrams])


def _mode_cells(modes: AnswerModes) -> tuple[Cell, ...]:
    direct, think, difference = modes.direct, modes.think, modes.difference
    own = modes.recognition
    at_once = cell(percent(own.war), between(own.war_interval), _sure(direct.confidence))
    if think is None or difference is None:
        alone = cell(percent(direct.ece), between(direct.ece_interval))
        return NOT_MEASURED, at_once, NOT_MEASURED, alone, Cell(percent(direct.top2))
    apart = difference.war_difference
    intervals = filter(None, map(between, (think.ece_interval, direct.ece_interval)))
    return (
        cell(percent(own.war + apart), _sure(think.confidence)),
        at_once,
        cell(signed(apart), between(difference.war_interval, sign=True)),
        cell(f"{percent(think.ece)} / {percent(direct.ece)}", " / ".join(intervals)),
        Cell(f"{percent(think.top2)} / {percent(direct.top2)}"),
    )


def _sure(confidence: float) -> str:
    return f"confidence {percent(confidence)}"


def _diagrams(model: str, paired: PairedAnswers) -> list[Title | Diagrams | Text]:
    images = []
    drawn = {name: c["full"] for name, c in paired.modes.items() if "full" in c}
    if not drawn:
        return []
    heading = Title(f"When {model} is sure, is it right?")
    if missing(*EXTRAS["reports"]):
        return [heading, Text(f"For diagrams, {how_to_install('reports')}.", "note")]
    for name, answers in drawn.items():
        title = f"{model} on {set_title(name)}"
        data = b64encode(reliability_svg(title, answers.curves()).encode()).decode()
        images.append((title, f"data:image/svg+xml;base64,{data}"))
    note = (
        "Each dot is the answers of one tenth of confidence. On the dashed line confidence is the "
        "share that is right; below it the model is too sure of itself. The bars count the answers."
    )
    return [heading, Diagrams(images), Text(note, "note")]


# Dependence -------------------------------------------------------------------------------------


def dependence_section(runs: list[EvaluatedRun], paired: Paired) -> Section | None:
    """How many answers change under each condition; None where none was tested."""
    names = set_names(runs)
    tested = [c for c in CHANGES if any(_has(paired, name, c) for name in names)]
    if not tested:
        return None
    subject = find_subject(runs).model
    rows = []
    for name in names:
        rows.append(Row(set_title(name), kind="group"))
        for run in runs:
            conditions = paired[run.model].dependence.get(name, {})
            for kind, title in (("answer", run.model), ("direct", f"{run.model}, direct")):
                found = [conditions.get(c, {}).get(kind) for c in tested]
                if any(found):
                    emphasis = run.model == subject and kind == "answer"
                    rows.append(Row(title, tuple(map(_change_cell, found)), "subject" * emphasis))
    table = Table(
        "Answers that change when a medium is taken away or exchanged",
        [CHANGES[c] for c in tested],
        rows,
    )
    note = (
        "Share of clips, in percent, whose answer is another than with picture and sound as "
        "they are. Small print: 95% interval; then, where emotions were scored, by how many "
        "points the probability of the first answer changes. Swapped: the sound of a clip of "
        "another label. A change says that the medium matters to the model, not that it reads "
        "it rightly; nor does an answer stay only because the medium was ignored."
    )
    return Section("dependence", "What answers depend on", [table, Text(note, "note")])


def _has(paired: Paired, name: str, condition: str) -> bool:
    return any(condition in p.dependence.get(name, {}) for p in paired.values())


def _change_cell(found: Dependence | None) -> Cell:
    if found is None:
        return NOT_MEASURED
    points = "" if found.score_change is None else f"{signed(found.score_change)} points"
    return cell(percent(found.changed), between(found.changed_interval), points)


# For a terminal ---------------------------------------------------------------------------------


def answers_text(results: Mapping[str, Any]) -> str:
    """Lines below the table of results: modes and dependence, where they were measured."""
    lines = []
    for model, sets in results.get("answer_modes", {}).items():
        for name, conditions in sets.items():
            modes = conditions.get("full")
            if modes is None:
                continue
            direct, think = modes["direct"], modes["think"]
            text = f"direct {direct['war']:.1%}"
            if think is None:
                text += f", ECE {direct['ece']:.1%}, top 2 {direct['top2']:.1%}"
            else:
                apart = modes["think_minus_direct"]["war_difference"]
                ece, top2 = (f"{think[k]:.1%} / {direct[k]:.1%}" for k in ("ece", "top2"))
                text += f", think minus direct {100 * apart:+.1f} points; think / direct: "
                text += f"ECE {ece}, top 2 {top2}"
            lines.append(f"{model:16s}{name.upper():>10s}  {text}")
    for model, sets in results.get("dependence", {}).items():
        for name, conditions in sets.items():
            for kind, title in (("answer", "answers"), ("direct", "direct answers")):
                parts = [
                    f"{CHANGES[condition]} {kinds[kind]['changed']:.1%}"
                    for condition, kinds in conditions.items()
                    if kind in kinds
                ]
                if parts:
                    what = f"{title} change: {', '.join(parts)}"
                    lines.append(f"{model:16s}{name.upper():>10s}  {what}")
    return "\n".join(lines)
