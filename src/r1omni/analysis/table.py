"""The table of results, its charts, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from r1omni.analysis.charts import Dot, dot_chart
from r1omni.analysis.differences import CONDITION_NAMES, SIGNIFICANCE, Difference
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
from r1omni.analysis.runs import (
    PAPER,
    PAPER_RESULTS,
    EvaluatedRun,
    TestSet,
    chance,
    find_subject,
    set_names,
    set_title,
)

Ceiling = Mapping[str, Mapping[str, float]]
NOT_MEASURED = '<span class="none" title="not measured">–</span>'
_KEY = (
    '<p class="key" aria-hidden="true"><span><i class="k-dot"></i>this run, 95% interval</span>'
    '<span><i class="k-paper">◇</i>the paper, on the real sets</span>'
    '<span><i class="k-chance"></i>chance: always the most frequent class</span>'
    '<span><i class="k-ceiling"></i>ceiling of the mini-world</span></p>'
)


def results_section(runs: list[EvaluatedRun], found: list[Difference], ceiling: Ceiling) -> str:
    """The dot charts, the table, and the paired differences."""
    names = set_names(runs)
    charts = "".join(_chart(name, runs, ceiling) for name in names)
    return section(
        "results",
        "How well emotions are recognised",
        f'<div class="grid3">{charts}</div>',
        _KEY,
        scrollable(_table(runs, names, ceiling), "WAR and UAR of every model"),
        paragraph(
            "In percent. WAR: share of clips that are right. UAR: mean of the recalls of the "
            "classes, so that rare classes count as much. Small print: 95% bootstrap interval. In "
            "form: share of completions, over all sets, that are exactly "
            "<think>…</think><answer>…</answer>.",
            "note",
        ),
        _broken(runs),
        _difference_table(runs, found, names),
    )


def _first(name: str, runs: list[EvaluatedRun]) -> TestSet:
    return next(run.sets[name] for run in runs if name in run.sets)


def _chart(name: str, runs: list[EvaluatedRun], ceiling: Ceiling) -> str:
    dots = []
    for run in runs:
        full = run.sets[name].full if name in run.sets else {}
        paper = PAPER_RESULTS.get(run.model, {}).get(name)
        dots.append(
            Dot(
                name=run.model,
                share=full.get("war"),
                interval=full.get("war_interval"),
                paper=None if paper is None else paper[0] / 100,
                emphasis=run is find_subject(runs),
            )
        )
    first = _first(name, runs).full
    title = set_title(name)
    chart = dot_chart(
        f"WAR on {title}",
        dots,
        chance(first).majority[0],
        ceiling.get(name, {}).get("video_audio"),
    )
    return (
        f"<figure><figcaption><strong>{escape(title)}</strong> {first['n']} clips, "
        f"{len(first['labels'])} classes</figcaption>{chart}</figure>"
    )


def _table(runs: list[EvaluatedRun], names: list[str], ceiling: Ceiling) -> str:
    span = len(names) * 2 + 2
    heads = "".join(
        f'<th scope="colgroup" colspan="2">{escape(set_title(name))}'
        f"{small(str(_first(name, runs).full['n']) + ' clips')}</th>"
        for name in names
    )
    columns = '<th scope="col">WAR</th><th scope="col">UAR</th>' * len(names)
    rows = [group_row("This run", span)]
    rows += [_model_row(run, names, run is find_subject(runs)) for run in runs]
    rows += [group_row(f"The paper, {PAPER}: real clips, 0.5 billion parameters", span)]
    rows += [_paper_row(model, names) for model in PAPER_RESULTS]
    rows += [group_row("What no model needs to learn, and what none can pass", span)]
    chances = [chance(_first(name, runs).full) for name in names]
    for title, pairs in (
        ("Chance: most frequent class", [c.majority for c in chances]),
        ("Chance: any class alike", [c.uniform for c in chances]),
    ):
        rows.append(
            row(title, [*(percent(v) for pair in pairs for v in pair), NOT_MEASURED], "quiet")
        )
    if ceiling:
        cells = []
        for name in names:
            best = ceiling.get(name, {}).get("video_audio")
            cells += [NOT_MEASURED if best is None else percent(best), NOT_MEASURED]
        rows.append(row("Ceiling of the mini-world", [*cells, NOT_MEASURED], "quiet"))
    return (
        '<table class="figures"><caption class="hidden">WAR and UAR of every model, with the '
        "paper's figures and chance</caption>"
        f'<thead><tr><th scope="col" rowspan="2">Model</th>{heads}'
        f'<th scope="col" rowspan="2">In form</th></tr><tr>{columns}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _model_row(run: EvaluatedRun, names: list[str], is_subject: bool) -> str:
    cells = []
    for name in names:
        full = run.sets[name].full if name in run.sets else None
        for metric in ("war", "uar"):
            cells.append(NOT_MEASURED if full is None else _figure(full, metric))
    share = run.format_ok(run.sets)
    cells.append(NOT_MEASURED if share is None else percent(share))
    return row(run.model, cells, "subject" if is_subject else "")


def _figure(result: Mapping[str, Any], metric: str) -> str:
    return percent(result[metric]) + small(between(result[f"{metric}_interval"]))


def _paper_row(model: str, names: list[str]) -> str:
    cells = []
    for name in names:
        figures = PAPER_RESULTS[model].get(name)
        cells += [NOT_MEASURED] * 2 if figures is None else [f"{v:.2f}" for v in figures]
    return row(model, [*cells, NOT_MEASURED], "quiet")


def _broken(runs: list[EvaluatedRun]) -> str:
    clips = {path: reason for run in runs for path, reason in run.broken_clips.items()}
    if not clips:
        return ""
    some = "; ".join(f"{path} ({reason})" for path, reason in list(clips.items())[:5])
    return paragraph(f"{len(clips)} clips could not be decoded and are left out: {some}.", "gap")


def _difference_table(runs: list[EvaluatedRun], found: list[Difference], names: list[str]) -> str:
    if not found:
        return paragraph(
            "No predictions were kept, so models are not compared clip by clip.", "gap"
        )
    subject = find_subject(runs).model
    by_place = {(d.other, d.test_set): d for d in found}
    others = dict.fromkeys((d.other, d.is_condition) for d in found)
    heads = "".join(f'<th scope="col">{escape(set_title(name))}</th>' for name in names)
    rows = []
    for other, is_condition in others:
        title = f"itself, {CONDITION_NAMES[other]}" if is_condition else other
        cells = [_difference_cell(by_place.get((other, name))) for name in names]
        rows.append(row(f"minus {title}", cells))
    return (
        f"<h3>{escape(subject)} minus the others, on the same clips</h3>"
        + scrollable(
            '<table class="figures"><caption class="hidden">Paired differences of WAR</caption>'
            f'<thead><tr><th scope="col">Points of WAR</th>{heads}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table>",
            "Paired differences of WAR",
        )
        + paragraph(
            "Small print: 95% interval of the paired bootstrap, then how many clips "
            f"{subject} alone got right, against how many the other alone did. ▲ and ▼: "
            "a clear difference (the interval leaves 0 out, and McNemar's exact test gives "
            f"p < {SIGNIFICANCE}); ≈: no clear one.",
            "note",
        )
    )


def _difference_cell(difference: Difference | None) -> str:
    if difference is None:
        return NOT_MEASURED
    result = difference.result
    mark = {1: "▲", -1: "▼", 0: "≈"}[difference.verdict]
    return (
        f'{signed(result.war_difference)} <span class="mark">{mark}</span>'
        + small(between(result.war_interval, sign=True))
        + small(f"alone right: {result.num_only_b} against {result.num_only_a}")
    )
