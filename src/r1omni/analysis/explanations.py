"""Whether explanations support the answers and are true, and where they are worst."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from r1omni.analysis.clips import LONGEST_TEXT, Card, Clips, Line, card
from r1omni.analysis.page import (
    NOT_MEASURED,
    Cell,
    Row,
    Section,
    Table,
    Text,
    Title,
    cell,
    percent,
)
from r1omni.analysis.runs import EvaluatedRun, TestSet, find_subject, set_names, set_title
from r1omni.metrics.explanation import cues_from_json
from r1omni.text.cues import agree, is_resting
from r1omni.text.emotions import ANSWER_WORDS, CLASSES, LABEL_SETS
from r1omni.text.reasoning import named_emotions

NUM_CONTRADICTIONS = 6
_MEDIUM_NAMES = {"video": "Face", "audio": "Voice"}
_MADE_UP = {"muted": "voice, muted", "blanked": "face, blanked"}
Write = Callable[[Mapping[str, Any]], Cell]


def explanations_section(runs: list[EvaluatedRun]) -> Section:
    """Tables of verdicts, cue truth and invented cues, and the subject's worst contradictions."""
    anchor, title = "explanations", "Whether explanations are evidence"
    if not any(test_set.explanations for run in runs for test_set in run.sets.values()):
        gap = "Explanations were not measured; `python -m r1omni score` does so from predictions."
        return Section(anchor, title, [Text(gap, "gap")])
    note = (
        "In percent. Supported: of all answers, those whose reasoning concludes with the "
        "answered emotion; an answer without a reasoning is not supported. Contradicted: of "
        "the right answers, those whose reasoning concludes with another emotion. Right "
        "reason: of all answers, those that are right and supported. Small print: 95% "
        "bootstrap interval. The conclusion is read by rules, which misread some texts."
    )
    return Section(
        anchor,
        title,
        [
            _table(runs, "Verdicts", _VERDICTS),
            Text(note, "note"),
            *_cue_tables(runs),
            *_contradictions(find_subject(runs)),
        ],
    )


def _table(runs: list[EvaluatedRun], title: str, columns: Mapping[str, Write]) -> Table:
    """Models by test sets, with some columns of each."""
    names = set_names(runs)
    subject = find_subject(runs)
    rows = [
        Row(
            run.model,
            tuple(_cell(run.sets.get(n), write) for n in names for write in columns.values()),
            "subject" if run is subject else "",
        )
        for run in runs
    ]
    groups = [(set_title(name), "") for name in names]
    return Table(title, list(columns), rows, groups=groups, title=title)


def _cell(test_set: TestSet | None, write: Write) -> Cell:
    if test_set is None or not test_set.explanations:
        return NOT_MEASURED
    return write(test_set.explanations)


def _figure(value: float | None, interval: list[float] | None) -> Cell:
    """A share in percent; its interval without digits, since three columns a set are many."""
    if value is None:
        return NOT_MEASURED
    return cell(percent(value), " to ".join(percent(end, 0) for end in interval or ()))


def _verdict(name: str) -> Write:
    return lambda told: _figure(told["full"][name], told["full"]["intervals"][name])


def _contradicted(told: Mapping[str, Any]) -> Cell:
    full = told["full"]
    interval = full["intervals"]["contradicted_among_right"]
    return _figure(full["among_right"]["contradicted"], interval)


_VERDICTS: dict[str, Write] = {
    "supported": _verdict("supported"),
    "contradicted": _contradicted,
    "right reason": _verdict("right_and_supported"),
}


def _cue_truth(medium: str) -> Write:
    def write(told: Mapping[str, Any]) -> Cell:
        score = told["full"]["cues"].get(medium)
        if score is None:
            return NOT_MEASURED
        found = {n: score[n] for n in ("precision", "recall", "f1")}
        texts = {n: "–" if share is None else percent(share) for n, share in found.items()}
        return cell(f"{texts['precision']} / {texts['recall']}", f"F1 {texts['f1']}")

    return write


def _made_up(condition: str) -> Write:
    def write(told: Mapping[str, Any]) -> Cell:
        found = (told.get(condition) or {}).get("invented")
        if found is None:
            return NOT_MEASURED
        return cell(percent(found["share"]), f"{found['num_cues']:.2f} cues an answer")

    return write


def _cue_tables(runs: list[EvaluatedRun]) -> list[Table | Text]:
    parts: list[Table | Text] = []
    told = [s.explanations for run in runs for s in run.sets.values() if s.explanations]
    if any(one["full"]["cues"] for one in told):
        columns = {name.lower(): _cue_truth(medium) for medium, name in _MEDIUM_NAMES.items()}
        parts.append(_table(runs, "Truth of the cues", columns))
        parts.append(
            Text(
                "Precision / recall in percent, over all answers to clips whose cues are known. "
                "Precision: of the cues that reasonings name, those that the clip shows. Recall: "
                "of the cues that clips show, those that are named. A part at rest need not be "
                "named. Intervals are in the results.json of each run.",
                "note",
            )
        )
    if any(condition in one for one in told for condition in _MADE_UP):
        columns = {title: _made_up(condition) for condition, title in _MADE_UP.items()}
        parts.append(_table(runs, "Invented", columns))
        parts.append(
            Text(
                "Answers, in percent, that describe the voice although the sound was replaced by "
                "silence (muted), or the face although the picture was black (blanked), and how "
                "many of its cues an answer names on average.",
                "note",
            )
        )
    return parts


def worst_contradictions(run: EvaluatedRun, num_clips: int) -> list[tuple[str, dict[str, Any]]]:
    """Answers that their own reasoning contradicts, the worst first, set by set in turn.

    Worst is a right answer, which hides it, and then a reasoning few of whose cues are there; the
    rest of the order is that of a hash of the sample's name.

    Returns:
        the set and the record of each.
    """
    waiting: dict[str, list[dict[str, Any]]] = {}
    for name in run.sets:
        records = (run.predictions(name) or {}).values()
        found = [record for record in records if record.get("verdict") == "contradicted"]
        waiting[name] = sorted(found, key=_badness)
    chosen: list[tuple[str, dict[str, Any]]] = []
    while len(chosen) < num_clips and any(waiting.values()):
        for name, left in waiting.items():
            if left and len(chosen) < num_clips:
                chosen.append((name, left.pop(0)))
    return sorted(chosen, key=lambda entry: list(waiting).index(entry[0]))


def _badness(record: Mapping[str, Any]) -> tuple[bool, float, bytes]:
    counts = (record["cue_truth"] or {}).values()
    named = sum(count["named"] for count in counts)
    true = sum(count["hits"] for count in counts) / named if named else 1.0
    name = hashlib.sha256(record["sample_id"].encode()).digest()
    return record["prediction"] != record["label"], true, name


def _contradictions(run: EvaluatedRun) -> list[Title | Text | Clips]:
    worst = worst_contradictions(run, NUM_CONTRADICTIONS)
    head = Title(f"{run.model}: the worst contradictions")
    if not worst:
        none = "No answer is contradicted by its own reasoning, or no predictions were kept."
        return [head, Text(none, "gap")]
    return [head, Clips([_contradiction(name, record) for name, record in worst])]


def _contradiction(name: str, record: Mapping[str, Any]) -> Card:
    aliases = LABEL_SETS[record.get("label_set", "all")].aliases
    concluded = named_emotions(record["reasoning"], aliases).concluded
    comes_to = " or ".join(ANSWER_WORDS[e] for e in CLASSES if e in concluded)
    is_right = record["prediction"] == record["label"]
    verdict, mark = ("right", "✓ right") if is_right else ("wrong", "✗ wrong")
    lines = [
        Line("Answer", verdict, mark, str(record["prediction"] or "none of the classes")),
        Line("Concludes", word=comes_to),
        Line("Reasoning", text=record["reasoning"][:LONGEST_TEXT], kind="reasoning"),
        *_shown(record),
    ]
    return card(name, record, lines)


def _shown(record: Mapping[str, Any]) -> list[Line]:
    """What the clip shows, medium by medium, and which named cues it does not show."""
    if record["known_cues"] is None:
        return []
    known, named = cues_from_json(record["known_cues"]), cues_from_json(record["named_cues"])
    parts = []
    for medium, title in _MEDIUM_NAMES.items():
        there = sorted(known.of(medium))
        if not there:
            continue
        telling = [f"{c.attribute} {c.value}" for c in there if not is_resting(c)]
        false = [
            f"{c.attribute} {c.value}"
            for c in sorted(named.of(medium))
            if not any(agree(c, other) for other in there)
        ]
        text = ", ".join(telling) or "at rest"
        note = f"not there: {', '.join(false)}" if false else ""
        parts.append(Line(f"{title} shown", text=text, kind="cues", note=note))
    return parts
