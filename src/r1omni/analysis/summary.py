"""What the figures say in plain words, computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from r1omni.analysis.differences import CONDITION_NAMES, Difference
from r1omni.analysis.notes import recorded_stages
from r1omni.analysis.page import Points, Section, Text, between, joined, percent, signed
from r1omni.analysis.runs import (
    PAPER_RESULTS,
    EvaluatedRun,
    chance,
    find_baseline,
    find_subject,
    set_names,
    set_title,
)


@dataclass(frozen=True)
class Tile:
    """One figure in large digits: what it is of, and small print below it."""

    title: str
    figure: str
    small: str


@dataclass(frozen=True)
class Tiles:
    """Large figures side by side."""

    template: ClassVar[str] = "tiles"
    tiles: Sequence[Tile]


def summary_section(
    runs: list[EvaluatedRun], found: list[Difference], world: dict[str, Any] | None
) -> Section:
    """The first section: what came out, and what was trained."""
    points = [
        _against_baseline(runs, found),
        _against_others(runs, found),
        _against_itself(found),
        _format(runs),
        _order(runs),
        _bounds(runs, world),
    ]
    care = (
        "What is recognised is the apparent expression in a recording, not a person's inner "
        "state. It is no basis for decisions about people."
    )
    return Section(
        "summary",
        "In short",
        [
            Text(_lead(runs, found), "lead"),
            _tiles(runs),
            Points([point for point in points if point]),
            Text(_what_was_trained(runs, world)),
            Text(care, "care"),
        ],
    )


def _lead(runs: list[EvaluatedRun], found: list[Difference]) -> str:
    """What the figures say at a glance; neutral where they do not tell."""
    subject, baseline = find_subject(runs), find_baseline(runs)
    sentences = []
    if baseline is not None:
        mine = [d for d in found if d.other == baseline.model and not d.is_condition]
        sentences.append(_glance(subject.model, baseline.model, mine))
    for condition, name in CONDITION_NAMES.items():
        own = [d for d in found if d.is_condition and d.other == condition]
        opening = "With picture and sound it" if sentences else f"{subject.model} with both media"
        sentences.append(_glance(opening, f"with {name}", own))
    text = " ".join(sentence for sentence in sentences if sentence)
    return text or f"{subject.model} was tested; there is nothing to compare it with."


def _glance(opening: str, other: str, found: list[Difference]) -> str:
    """On which sets the subject is better, worse, or not clearly different."""
    words = {1: "clearly better than", -1: "clearly worse than", 0: "not clearly different from"}
    parts = []
    for verdict, word in words.items():
        hits = [set_title(d.test_set) for d in found if d.verdict == verdict]
        if hits:
            everywhere = len(hits) == len(found) > 1
            parts.append(
                f"{word} {other} on {f'all {len(hits)} sets' if everywhere else joined(hits)}"
            )
    return f"{opening} is {', '.join(parts)}." if parts else ""


def _tiles(runs: list[EvaluatedRun]) -> Tiles:
    """The subject's WAR on every set, in large figures."""
    subject = find_subject(runs)
    tiles = []
    for name, test_set in subject.sets.items():
        interval = between(test_set.full["war_interval"])
        guess = f"chance {percent(chance(test_set.full).majority[0])}"
        small = f"95% interval {interval}; {guess}" if interval else guess
        title = f"{subject.model} on {set_title(name)}"
        tiles.append(Tile(title, percent(test_set.full["war"]), small))
    return Tiles(tiles)


def _what_was_trained(runs: list[EvaluatedRun], world: dict[str, Any] | None) -> str:
    trained = [(run.model, recorded_stages(run)) for run in runs]
    models = [f"{model} ({stages[0]})" if stages else model for model, stages in trained]
    text = f"{'Models' if len(models) > 1 else 'Model'}: {'; '.join(models)}."
    sets = joined([set_title(name) for name in set_names(runs)])
    text += f" Tested on {sets}, with picture and sound unless it says otherwise."
    if world is not None:
        total = world.get("counts", {}).get("total", world.get("clips"))
        text += (
            f" All clips come from a synthetic mini-world: {total} clips of drawn faces with made "
            f"voices (seed {world.get('seed')}). It shows whether the method works; it says "
            "nothing about accuracy on real recordings."
        )
    return text


def _against_baseline(runs: list[EvaluatedRun], found: list[Difference]) -> str:
    subject, baseline = find_subject(runs), find_baseline(runs)
    if baseline is None:
        return ""
    mine = [d for d in found if d.other == baseline.model and not d.is_condition]
    return _sentence(f"{subject.model} compared with {baseline.model}", mine, with_interval=True)


def _against_others(runs: list[EvaluatedRun], found: list[Difference]) -> str:
    known = (find_subject(runs), find_baseline(runs))
    return " ".join(
        _sentence(f"Compared with {run.model}", theirs)
        for run in runs
        if not any(run is other for other in known)
        for theirs in [[d for d in found if d.other == run.model and not d.is_condition]]
        if theirs
    )


def _against_itself(found: list[Difference]) -> str:
    sentences = [
        _sentence(
            f"Both media compared with {CONDITION_NAMES[condition]}",
            [d for d in found if d.is_condition and d.other == condition],
        )
        for condition in CONDITION_NAMES
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _sentence(opening: str, found: list[Difference], with_interval: bool = False) -> str:
    """Where the subject is better, worse, or where the figures do not tell; points of WAR."""
    if not found:
        return ""
    words = {1: "better on", -1: "worse on", 0: "no clear difference on"}
    parts = []
    for verdict, word in words.items():
        hits = [_points(d, with_interval) for d in found if d.verdict == verdict]
        if hits:
            parts.append(f"{word} {joined(hits)}")
    return f"{opening}: {'; '.join(parts)}."


def _points(difference: Difference, with_interval: bool) -> str:
    result = difference.result
    text = f"{set_title(difference.test_set)} ({signed(result.war_difference)} points"
    if with_interval and result.war_interval is not None:
        text += f", interval {between(result.war_interval, sign=True)}"
    return text + ")"


def _format(runs: list[EvaluatedRun]) -> str:
    """On the sets that all runs were tested on, so that the same clips are compared."""
    names = [name for name in set_names(runs) if all(name in run.sets for run in runs)]
    shares = []
    for run in runs:
        share = run.format_ok(names)
        if share is not None:
            shares.append(f"{run.model} {percent(share)}%")
    if not shares:
        return "Format accuracy is not compared: no set is shared by all models."
    where = "" if names == set_names(runs) else f" on {joined(list(map(set_title, names)))}"
    return f"Format accuracy, answers exactly in the answer format{where}: {joined(shares)}."


def _order(runs: list[EvaluatedRun]) -> str:
    """Whether the models rank as they do in the paper."""
    known = [run for run in runs if run.model in PAPER_RESULTS]
    if len(known) < 2:
        return ""
    same: list[tuple[str, list[str]]] = []
    other: list[tuple[str, list[str]]] = []
    for name in set_names(known):
        tested = [run for run in known if name in run.sets and name in PAPER_RESULTS[run.model]]
        if len(tested) < 2:
            continue
        ours = sorted(tested, key=lambda run: run.sets[name].full["war"])
        papers = sorted(tested, key=lambda run: PAPER_RESULTS[run.model][name][0])
        (same if ours == papers else other).append((name, [run.model for run in ours]))
    parts = []
    if same:
        names = joined([set_title(name) for name, _ in same])
        parts.append(f"By WAR, the models rank as in the paper on {names}.")
    for name, order in other:
        parts.append(
            f"On {set_title(name)} they rank otherwise than in the paper, from low to high "
            f"{', '.join(order)}."
        )
    return " ".join(parts)


def _bounds(runs: list[EvaluatedRun], world: dict[str, Any] | None) -> str:
    subject = find_subject(runs)
    guesses = [
        f"{percent(chance(s.full).majority[0])}% of {set_title(name)}"
        for name, s in subject.sets.items()
    ]
    text = f"Always answering the most frequent class would be right on {joined(guesses)}."
    ceiling = (world or {}).get("ceiling") or {}
    best = [
        f"{percent(ceiling[name]['video_audio'])}%"
        for name in subject.sets
        if "video_audio" in ceiling.get(name, {})
    ]
    if best:
        text += f" The most that the clips' cues allow is {joined(best)}."
    return text
