"""The page of `compare`: what is said of every pair, and the clips that are answered otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from r1omni.analysis.page import (
    NOT_MEASURED,
    Cell,
    Points,
    Row,
    Section,
    Table,
    Text,
    between,
    cell,
    joined,
    percent,
    signed,
    write_page,
)
from r1omni.analysis.protocols import protocol_table
from r1omni.analysis.runs import set_title
from r1omni.metrics.breakdown import MIN_SPEAKERS
from r1omni.text.answers import read_answer

Records = Mapping[str, Sequence[Mapping[str, Any]]]
_MARKS = {"better": "▲", "worse": "▼", "unclear": "≈", "same answers": "="}


@dataclass(frozen=True)
class Bar:
    """A difference of WAR with its interval, in shares; None for an interval that there is not."""

    name: str
    difference: float
    interval: Sequence[float] | None
    verdict: str


@dataclass(frozen=True)
class Intervals:
    """Differences of pairs on one test set, as a picture.

    Attributes:
        title: of the set.
        bars: a row a pair.
        reach: the share that both ends of the axis stand for.
    """

    template: ClassVar[str] = "intervals"
    title: str
    bars: Sequence[Bar]
    reach: float

    @property
    def spoken(self) -> str:
        """What it shows, for those who cannot see it."""
        told = [
            f"{bar.name} {signed(bar.difference)} points"
            + (f", {between(bar.interval, sign=True)}" if bar.interval else "")
            for bar in self.bars
        ]
        return f"Differences of WAR on {self.title}: {'; '.join(told)}"


@dataclass(frozen=True)
class Differing:
    """Clips that systems answer otherwise, drawn and filtered by `static/compare.js`."""

    template: ClassVar[str] = "differing"
    content: dict[str, Any]


def comparison_page(results: Mapping[str, Any], records: Mapping[str, Records]) -> str:
    """The whole page.

    Args:
        results: what compare.json holds.
        records: by test set, then by system, those of the clips that are compared.
    """
    names = joined([system["name"] for system in results["systems"]])
    sections = [
        _summary(results),
        *(_set_section(name, one) for name, one in results["sets"].items()),
        _clips(results, records),
        _notes(results),
    ]
    lead = (
        "Systems on the same clips: paired differences, and the clips that they answer otherwise."
    )
    return write_page(f"Comparison: {names}", sections, lead, ("dom.js", "compare.js"))


def _summary(results: Mapping[str, Any]) -> Section:
    sentences = [
        f"{set_title(name)}: {_sentence(pair)}"
        for name, one in results["sets"].items()
        for pair in one["comparisons"]
    ]
    left_out = results["left_out_sets"]
    gap = f"Not of all systems, and left out: {', '.join(left_out)}." if left_out else ""
    return Section("summary", "What can be said", [Points(sentences), Text(gap, "gap")])


def _sentence(pair: Mapping[str, Any]) -> str:
    a, b = pair["a"], pair["b"]
    if pair["verdict"] == "same answers":
        return f"{b} and {a} answer alike on every clip; there is nothing to test."
    points = f"{signed(pair['war_difference'])} points of WAR"
    if pair["war_interval"]:
        points += f", interval {between(pair['war_interval'], sign=True)}"
    tested = f"({points}; corrected p {pair['holm_p']:.2g})"
    if pair["verdict"] == "unclear":
        return (
            f"no clear difference between {b} and {a} {tested}: these clips do not tell which is "
            "better, which does not show that they are equal."
        )
    return f"{b} is {pair['verdict']} than {a} {tested}."


def _set_section(name: str, one: Mapping[str, Any]) -> Section:
    speakers = one["num_speakers"]
    unit = f"{speakers} speakers" if speakers else "clips"
    about = f"{one['n']} clips. Intervals are over {unit}."
    few = (
        f"There are {speakers} speakers only: intervals and p-values are surer than they should be."
    )
    left_out = [f"{n} of {who}" for who, o in one["systems"].items() if (n := o["num_left_out"])]
    gap = f"Clips that not all systems answered are left out: {', '.join(left_out)}."
    protocols = {who: own["protocol"] for who, own in one["systems"].items()}
    return Section(
        f"set-{name}",
        set_title(name),
        [
            Text(about, "note"),
            Text(few, "gap") if speakers and speakers < MIN_SPEAKERS else None,
            Text(gap, "gap") if left_out else None,
            _systems_table(name, one),
            _intervals(name, one["comparisons"]),
            _pairs_table(name, one["comparisons"]),
            protocol_table(f"How {set_title(name)} was measured", protocols),
        ],
    )


def _systems_table(name: str, one: Mapping[str, Any]) -> Table:
    rows = [
        Row(
            who if own["condition"] == "full" else f"{who}, {own['condition']}",
            tuple(
                cell(percent(own[key]), between(own[f"{key}_interval"])) for key in ("war", "uar")
            ),
        )
        for who, own in one["systems"].items()
    ]
    caption = f"Recognition of every system on {set_title(name)}"
    return Table(caption, ["WAR", "UAR"], rows, first="System", title="Each system, in percent")


def _intervals(name: str, pairs: Sequence[Mapping[str, Any]]) -> Intervals:
    bars = [
        Bar(f"{p['b']} − {p['a']}", p["war_difference"], p["war_interval"], p["verdict"])
        for p in pairs
    ]
    ends = [abs(end) for bar in bars for end in (*(bar.interval or ()), bar.difference)]
    # Whole steps of five points, so that the axis has round ends.
    reach = max(1, -(-100 * max(ends) // 5)) * 0.05
    return Intervals(set_title(name), bars, reach)


def _pairs_table(name: str, pairs: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        Row(
            f"{p['b']} minus {p['a']}",
            (
                Cell(
                    signed(p["war_difference"]),
                    tuple(filter(None, [between(p["war_interval"], sign=True)])),
                    _MARKS[p["verdict"]],
                ),
                cell(signed(p["uar_difference"]), between(p["uar_interval"], sign=True)),
                Cell(f"{p['num_only_b']} / {p['num_only_a']}"),
                Cell(str(p["num_answers_that_differ"])),
                Cell(f"{p['mcnemar_p']:.2g}") if p["num_answers_that_differ"] else NOT_MEASURED,
                Cell(f"{p['holm_p']:.2g}") if p["num_answers_that_differ"] else NOT_MEASURED,
            ),
        )
        for p in pairs
    ]
    columns = ["WAR", "UAR", "alone right", "other answers", "p", "p, Holm"]
    caption = f"Paired differences on {set_title(name)}"
    return Table(caption, columns, rows, first="In points", title="Pairs, on the same clips")


def _clips(results: Mapping[str, Any], records: Mapping[str, Records]) -> Section:
    sets = []
    for name, by_system in records.items():
        together = list(zip(*by_system.values(), strict=True))
        clips = [
            {
                "id": answers[0]["sample_id"],
                "label": answers[0]["label"],
                "speaker": answers[0]["group"],
                "answers": [_answer(record) for record in answers],
            }
            for answers in together
            if len({record["prediction"] for record in answers}) > 1
        ]
        sets.append({"title": set_title(name), "total": len(together), "clips": clips})
    content = {"systems": [s["name"] for s in results["systems"]], "sets": sets}
    title = "Clips that are answered otherwise"
    if not any(one["clips"] for one in sets):
        return Section("clips", title, [Text("All systems answer every clip alike.", "gap")])
    return Section("clips", title, [Differing(content)])


def _answer(record: Mapping[str, Any]) -> dict[str, Any]:
    """What is shown of an answer: its class, whether it is right, and what was written."""
    reasoning, text = record["reasoning"], record["text"] or ""
    return {
        "answer": record["prediction"],
        # Of an answer that is no class of the set, what stands there.
        "word": record["answer"] or "" if record["text"] is None else read_answer(text).word[:60],
        "is_right": record["prediction"] == record["label"],
        "text": reasoning or text,
        "is_reasoning": bool(reasoning),
        "is_missing": bool(record.get("missing")),
    }


def _notes(results: Mapping[str, Any]) -> Section:
    correction = results["correction"]
    which = "every pair" if results["pairs"] == "all" else "the first system with each other one"
    notes = [
        "WAR is the share of clips that are right, UAR the mean of the recalls of the classes. "
        "Differences are in points; an interval holds the central 95% of a paired bootstrap over "
        "1000 resamples, of speakers where every clip names its own, else of clips.",
        "p is of McNemar's exact test of equal WAR, from the clips that one of two alone got "
        "right. It takes clips as independent; clips of one speaker are alike, so it is too sure "
        "where there are few speakers. UAR has an interval and no test.",
        f"Compared is {which}: {correction['num_tests']} tests, whose p-values are corrected by "
        "Holm together. Figures of another call are not among them.",
        f"▲ and ▼: clear, that is a corrected p below {correction['level']} and an interval that "
        "leaves 0 out. ≈: no clear difference, which is no proof of equality. =: the same answers.",
        "Intervals hold what another draw of clips or speakers would change. They say nothing of "
        "another seed of training, another prompt or another protocol.",
    ]
    care = "Answers name the apparent expression in a recording, not what a person feels."
    return Section("notes", "How to read this page", [Points(notes), Text(care, "care")])
