"""Reasoned answers beside direct ones, and how much answers depend on each medium."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from html import escape
from typing import Any

from r1omni.analysis.markup import (
    between,
    group_row,
    paragraph,
    percent,
    row,
    scrollable,
    section,
    signed,
    small,
)
from r1omni.analysis.runs import EvaluatedRun, find_subject, set_names, set_title
from r1omni.analysis.table import NOT_MEASURED
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


def answers_section(runs: list[EvaluatedRun], paired: Paired) -> str:
    """WAR of both modes, confidence and calibration; nothing where no run answered directly."""
    names = [n for n in set_names(runs) if any(n in p.modes for p in paired.values())]
    if not names:
        return ""
    subject = find_subject(runs).model
    titles = ("think", "direct", "think − direct", "ECE", "top 2")
    rows = []
    for name in names:
        rows.append(group_row(set_title(name), len(titles) + 1))
        for run in runs:
            modes = paired[run.model].modes.get(name, {}).get("full")
            if modes is not None:
                emphasis = "subject" if run.model == subject else ""
                rows.append(row(run.model, _mode_cells(modes), emphasis))
    heads = "".join(f'<th scope="col">{title}</th>' for title in titles)
    return section(
        "answers",
        "With reasoning, and without",
        scrollable(
            '<table class="figures"><caption class="hidden">Answers after reasoning and direct '
            f'ones</caption><thead><tr><th scope="col">Model</th>{heads}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table>",
            "Answers after reasoning and direct ones",
        ),
        paragraph(
            "In percent and points of WAR. Think: the model writes its reasoning and answers. "
            "Direct: the emotions are scored after an empty reasoning, and the most probable one "
            "is the answer; nothing is written. Small print: 95% interval (of the difference a "
            "paired one), and the mean confidence. Confidence is the answered emotion's share of "
            "probability among the emotions of the set. ECE, think / direct: how far confidence "
            "and share right are apart, on average over ten bins. Top 2, think / direct: the label "
            "is among the two most probable emotions. A model that was trained to answer without "
            "tags is asked for a form here that it does not know.",
            "note",
        ),
        _diagrams(subject, paired[subject]),
    )


def _mode_cells(modes: AnswerModes) -> list[str]:
    direct, think, difference = modes.direct, modes.think, modes.difference
    own = modes.recognition
    at_once = percent(own.war) + small(between(own.war_interval)) + _sure(direct.confidence)
    if think is None or difference is None:
        alone = percent(direct.ece) + small(between(direct.ece_interval))
        return [NOT_MEASURED, at_once, NOT_MEASURED, alone, percent(direct.top2)]
    war = own.war + difference.war_difference
    return [
        percent(war) + _sure(think.confidence),
        at_once,
        signed(difference.war_difference) + small(between(difference.war_interval, sign=True)),
        f"{percent(think.ece)} / {percent(direct.ece)}"
        + small(" / ".join(filter(None, map(between, (think.ece_interval, direct.ece_interval))))),
        f"{percent(think.top2)} / {percent(direct.top2)}",
    ]


def _sure(confidence: float) -> str:
    return small(f"confidence {percent(confidence)}")


def _diagrams(model: str, paired: PairedAnswers) -> str:
    figures = []
    for name, conditions in paired.modes.items():
        if "full" in conditions:
            title = f"{model} on {set_title(name)}"
            svg = reliability_svg(title, conditions["full"].curves())
            image = b64encode(svg.encode()).decode()
            figures.append(
                f'<figure class="diagram"><img alt="Reliability diagram of {escape(title)}" '
                f'src="data:image/svg+xml;base64,{image}"></figure>'
            )
    if not figures:
        return ""
    return (
        f"<h3>When {escape(model)} is sure, is it right?</h3>"
        f'<div class="grid3">{"".join(figures)}</div>'
        + paragraph(
            "Each dot is the answers of one tenth of confidence. On the dashed line confidence is "
            "the share that is right; below it the model is too sure of itself. The bars count the "
            "answers.",
            "note",
        )
    )


# Dependence -------------------------------------------------------------------------------------


def dependence_section(runs: list[EvaluatedRun], paired: Paired) -> str:
    """How many answers change under each condition; nothing where none was tested."""
    names = set_names(runs)
    tested = [c for c in CHANGES if any(_has(paired, name, c) for name in names)]
    if not tested:
        return ""
    subject = find_subject(runs).model
    rows = []
    for name in names:
        rows.append(group_row(set_title(name), len(tested) + 1))
        for run in runs:
            conditions = paired[run.model].dependence.get(name, {})
            for kind, title in (("answer", run.model), ("direct", f"{run.model}, direct")):
                found = [conditions.get(c, {}).get(kind) for c in tested]
                if any(found):
                    emphasis = run.model == subject and kind == "answer"
                    rows.append(row(title, map(_change_cell, found), "subject" * emphasis))
    heads = "".join(f'<th scope="col">{CHANGES[c]}</th>' for c in tested)
    return section(
        "dependence",
        "What answers depend on",
        scrollable(
            '<table class="figures"><caption class="hidden">Answers that change</caption><thead>'
            f'<tr><th scope="col">Model</th>{heads}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table>",
            "Answers that change when a medium is taken away or exchanged",
        ),
        paragraph(
            "Share of clips, in percent, whose answer is another than with picture and sound as "
            "they are. Small print: 95% interval; then, where emotions were scored, by how many "
            "points the probability of the first answer changes. Swapped: the sound of a clip of "
            "another label. A change says that the medium matters to the model, not that it reads "
            "it rightly; nor does an answer stay only because the medium was ignored.",
            "note",
        ),
    )


def _has(paired: Paired, name: str, condition: str) -> bool:
    return any(condition in p.dependence.get(name, {}) for p in paired.values())


def _change_cell(found: Dependence | None) -> str:
    if found is None:
        return NOT_MEASURED
    points = "" if found.score_change is None else f"{signed(found.score_change)} points"
    return percent(found.changed) + small(between(found.changed_interval)) + small(points)


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
