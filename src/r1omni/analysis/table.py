"""The table of results, its charts, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from r1omni.analysis.differences import CONDITION_NAMES, SIGNIFICANCE, Difference
from r1omni.analysis.page import (
    NOT_MEASURED,
    Cell,
    Ends,
    Row,
    Section,
    Table,
    Text,
    between,
    cell,
    percent,
    share_cell,
    signed,
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


@dataclass(frozen=True)
class Dot:
    """One row of a dot chart; shares between 0 and 1.

    Attributes:
        name: of the row.
        share: the figure, or None where it is missing.
        interval: its 95% interval, or None.
        paper: the paper's figure, or None.
        emphasis: whether the row is the one that the report is about.
    """

    name: str
    share: float | None
    interval: Ends
    paper: float | None
    emphasis: bool


@dataclass(frozen=True)
class DotChart:
    """A row a model on one test set.

    Attributes:
        title: of the set.
        about: behind the title.
        dots: the rows.
        bounds: "chance" and "ceiling" with their shares, None where unknown.
    """

    title: str
    about: str
    dots: Sequence[Dot]
    bounds: Sequence[tuple[str, float | None]]

    @property
    def spoken(self) -> str:
        """What it shows, for those who cannot see it."""
        known = [f"{d.name} {percent(d.share)}%" for d in self.dots if d.share is not None]
        return f"WAR on {self.title}: {'; '.join(known)}"


@dataclass(frozen=True)
class DotCharts:
    """Charts side by side, with a key."""

    template: ClassVar[str] = "dot_charts"
    charts: Sequence[DotChart]


def results_section(runs: list[EvaluatedRun], found: list[Difference], ceiling: Ceiling) -> Section:
    """The dot charts, the table, and the paired differences."""
    names = set_names(runs)
    note = (
        "In percent. WAR: share of clips that are right. UAR: mean of the recalls of the classes, "
        "so that rare classes count as much. Small print: 95% bootstrap interval. In form: share "
        "of completions, over all sets, that are exactly <think>…</think><answer>…</answer>."
    )
    return Section(
        "results",
        "How well emotions are recognised",
        [
            DotCharts([_chart(name, runs, ceiling) for name in names]),
            _table(runs, names, ceiling),
            Text(note, "note"),
            _broken(runs),
            *_difference_table(runs, found, names),
        ],
    )


def _first(name: str, runs: list[EvaluatedRun]) -> TestSet:
    return next(run.sets[name] for run in runs if name in run.sets)


def _chart(name: str, runs: list[EvaluatedRun], ceiling: Ceiling) -> DotChart:
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
    bounds = [
        ("chance", chance(first).majority[0]),
        ("ceiling", ceiling.get(name, {}).get("video_audio")),
    ]
    about = f"{first['n']} clips, {len(first['labels'])} classes"
    return DotChart(set_title(name), about, dots, bounds)


def _table(runs: list[EvaluatedRun], names: list[str], ceiling: Ceiling) -> Table:
    rows = [Row("This run", kind="group")]
    rows += [_model_row(run, names, run is find_subject(runs)) for run in runs]
    rows += [Row(f"The paper, {PAPER}: real clips, 0.5 billion parameters", kind="group")]
    rows += [_paper_row(model, names) for model in PAPER_RESULTS]
    rows += [Row("What no model needs to learn, and what none can pass", kind="group")]
    chances = [chance(_first(name, runs).full) for name in names]
    for title, pairs in (
        ("Chance: most frequent class", [c.majority for c in chances]),
        ("Chance: any class alike", [c.uniform for c in chances]),
    ):
        figures = (Cell(percent(value)) for pair in pairs for value in pair)
        rows.append(Row(title, (*figures, NOT_MEASURED), "quiet"))
    if ceiling:
        best = [share_cell(ceiling.get(name, {}).get("video_audio")) for name in names]
        cells = (cell for war in best for cell in (war, NOT_MEASURED))
        rows.append(Row("Ceiling of the mini-world", (*cells, NOT_MEASURED), "quiet"))
    return Table(
        "WAR and UAR of every model, with the paper's figures and chance",
        ["WAR", "UAR"],
        rows,
        groups=[(set_title(name), f"{_first(name, runs).full['n']} clips") for name in names],
        last=["In form"],
    )


def _model_row(run: EvaluatedRun, names: list[str], is_subject: bool) -> Row:
    cells = []
    for name in names:
        full = run.sets[name].full if name in run.sets else None
        for metric in ("war", "uar"):
            cells.append(NOT_MEASURED if full is None else _figure(full, metric))
    form = share_cell(run.format_ok(run.sets))
    return Row(run.model, (*cells, form), "subject" if is_subject else "")


def _figure(result: Mapping[str, Any], metric: str) -> Cell:
    return cell(percent(result[metric]), between(result[f"{metric}_interval"]))


def _paper_row(model: str, names: list[str]) -> Row:
    cells = []
    for name in names:
        figures = PAPER_RESULTS[model].get(name)
        cells += [NOT_MEASURED] * 2 if figures is None else [Cell(f"{v:.2f}") for v in figures]
    return Row(model, (*cells, NOT_MEASURED), "quiet")


def _broken(runs: list[EvaluatedRun]) -> Text | None:
    clips = {path: reason for run in runs for path, reason in run.broken_clips.items()}
    if not clips:
        return None
    some = "; ".join(f"{path} ({reason})" for path, reason in list(clips.items())[:5])
    return Text(f"{len(clips)} clips could not be decoded and are left out: {some}.", "gap")


def _difference_table(
    runs: list[EvaluatedRun], found: list[Difference], names: list[str]
) -> list[Table | Text]:
    if not found:
        gap = "No predictions were kept, so models are not compared clip by clip."
        return [Text(gap, "gap")]
    subject = find_subject(runs).model
    by_place = {(d.other, d.test_set): d for d in found}
    rows = []
    for other, is_condition in dict.fromkeys((d.other, d.is_condition) for d in found):
        title = f"itself, {CONDITION_NAMES[other]}" if is_condition else other
        cells = tuple(_difference_cell(by_place.get((other, name))) for name in names)
        rows.append(Row(f"minus {title}", cells))
    table = Table(
        "Paired differences of WAR",
        list(map(set_title, names)),
        rows,
        first="Points of WAR",
        title=f"{subject} minus the others, on the same clips",
    )
    note = (
        "Small print: 95% interval of the paired bootstrap, then how many clips "
        f"{subject} alone got right, against how many the other alone did. ▲ and ▼: "
        "a clear difference (the interval leaves 0 out, and McNemar's exact test gives "
        f"p < {SIGNIFICANCE}); ≈: no clear one."
    )
    return [table, Text(note, "note")]


def _difference_cell(difference: Difference | None) -> Cell:
    if difference is None:
        return NOT_MEASURED
    result = difference.result
    return cell(
        signed(result.war_difference),
        between(result.war_interval, sign=True),
        f"alone right: {result.num_only_b} against {result.num_only_a}",
        mark={1: "▲", -1: "▼", 0: "≈"}[difference.verdict],
    )
