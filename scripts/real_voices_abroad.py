"""Why answers about Emo-DB are worse: what is answered there, the same classes at home, the level.

Corpora differ in language, speakers, sentences and recording at once, so one of them cannot be
named the cause. What can be told: which classes are answered in place of the right one, how well
the same four classes are told apart in RAVDESS, and what becomes of both sets at the level of the
other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from real_voices_markdown import NONE, percent, points, table
from real_voices_runs import SETS, Run, answered_word, best, pooled, recognition

from r1omni.metrics.comparison import compare
from r1omni.metrics.resampling import Record, groups_of
from r1omni.text.emotions import LABEL_SETS

HOME, ABROAD = "ravdess", "emodb"
NOTHING = "no emotion"
_FOUR = LABEL_SETS[SETS[ABROAD]]
_EIGHT = LABEL_SETS[SETS[HOME]]


def abroad(runs: Sequence[Run]) -> dict[str, Any]:
    """What is known of one model: `said`, `same_classes` and `levels`, by test set.

    `said` has shares by true class, then by what was answered, whatever class it is; of Emo-DB.
    `same_classes` has WAR of the four classes of Emo-DB, of answers and of the best-scored one.
    `levels` is of the set at the level of the other one, and minus the same clips as they are.
    """
    four = [r for r in pooled(runs, HOME, "full") if r["label"] in _FOUR.labels]
    same = {HOME: four, ABROAD: pooled(runs, ABROAD, "full")}
    levels = {name: level for name in SETS if (level := _level(runs, name)) is not None}
    return {
        "said": _said(same[ABROAD]),
        "same_classes": {name: _two_ways(known) for name, known in same.items() if known},
        "levels": levels,
    }


def _said(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    found = {}
    for label in _FOUR.labels:
        answers = Counter(_answer(r) for r in records if r["label"] == label)
        if answers:
            found[label] = {a: n / answers.total() for a, n in answers.most_common()}
    return found


def _answer(record: Record) -> str:
    """The class that was answered, of all that the model was trained on."""
    return _EIGHT.parse(answered_word(record)) or NOTHING


def _two_ways(records: Sequence[Record]) -> dict[str, Any]:
    ways = {"answers": [_of_four(r, _answer(r)) for r in records]}
    if all("scores" in r for r in records):
        ways["restricted"] = [_of_four(r, best(r["scores"], _FOUR)) for r in records]
    found: dict[str, Any] = {"n": len(records)}
    for way, own in ways.items():
        result = recognition(own, _FOUR.labels)
        found[way] = {"war": result.war, "interval": result.war_interval}
    return found


def _of_four(record: Record, answer: str) -> Record:
    return {**record, "prediction": answer if answer in _FOUR.labels else None}


def _level(runs: Sequence[Run], name: str) -> dict[str, Any] | None:
    """A set at the level of the other one, against the same clips of the same runs."""
    pairs = []
    for run in runs:
        as_is = {r["sample_id"]: r for r in run.records.get(name, {}).get("full", [])}
        pairs += [(as_is[r["sample_id"]], r) for r in run.at_other_level.get(name, [])]
    if not pairs:
        return None
    before, after = ([pair[i] for pair in pairs] for i in (0, 1))
    result = recognition(after, LABEL_SETS[SETS[name]].labels)
    difference = compare(
        [r["prediction"] for r in before], [r["prediction"] for r in after],
        [r["label"] for r in after], groups_of(after),
    )  # fmt: skip
    return {
        "n": len(after), "war": result.war, "interval": result.war_interval,
        "minus_as_is": asdict(difference),
    }  # fmt: skip


def why(study: Mapping[str, Any]) -> list[str]:
    """The section of the page."""
    known: Mapping[str, Mapping[str, Any]] = {
        model: found for model, found in study["abroad"].items() if found["said"]
    }
    if not known:
        return ["### Why it is harder", "", "Not measured."]

    def two(found: Mapping[str, Any], name: str) -> list[str]:
        ways = found["same_classes"].get(name, {})
        return [
            percent(w["war"], w["interval"]) if (w := ways.get(way)) else NONE
            for way in ("answers", "restricted")
        ]

    def level(found: Mapping[str, Any], name: str) -> list[str]:
        own = found["levels"].get(name)
        if own is None:
            return [NONE, NONE]
        difference = own["minus_as_is"]
        return [
            percent(own["war"], own["interval"]),
            points(difference["war_difference"], difference["war_interval"]),
        ]

    said = [
        [model, label, ", ".join(f"{a} {100 * share:.0f}" for a, share in answers.items())]
        for model, found in known.items()
        for label, answers in found["said"].items()
        if any([*own] != [NOTHING] for own in found["said"].values())  # the base only describes
    ]
    heads = ["model", "RAVDESS, answers", "RAVDESS, of the four", "Emo-DB, answers",
             "Emo-DB, of the four"]  # fmt: skip
    return [
        "### Why it is harder",
        "",
        "The same four classes in both sets, WAR; RAVDESS's are those clips of the test speakers:",
        "",
        *table(heads, [[m, *two(f, HOME), *two(f, ABROAD)] for m, f in known.items()]),
        "",
        "**What is answered.** Percent of the clips of each class of Emo-DB, whatever class the "
        "answer is:",
        "",
        *table(["model", "class", "answered"], said),
        "",
        "**How loud.** Copies of Emo-DB have every clip's peak at full scale, RAVDESS keeps how "
        "loud its actors were. Each set was tested once more at the level of the other "
        "(`scripts/real_voices_level.py`): every clip of RAVDESS with its peak at full scale, all "
        "of Emo-DB softer by the same gain. WAR of answers, and minus the set as it is:",
        "",
        *table(
            ["model", "RAVDESS, peaks alike", "minus as it is", "Emo-DB, softer", "minus as it is"],
            [[m, *level(f, HOME), *level(f, ABROAD)] for m, f in known.items() if f["levels"]],
        ),
        "",
        "**Language.** Emo-DB is German, and differs in speakers, sentences, room and microphone "
        "as well. No test here tells the language from these.",
    ]  # fmt: skip
