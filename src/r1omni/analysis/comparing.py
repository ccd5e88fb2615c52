"""Two or more systems on the same clips: `compare.json` and `compare.html`.

python -m r1omni compare EMER-SFT=outputs/emer_sft R1-Omni=outputs/r1omni --out compared
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import r1omni
from r1omni.analysis.compare_page import comparison_page
from r1omni.analysis.differences import SIGNIFICANCE
from r1omni.analysis.runs import set_title
from r1omni.analysis.scores import protocol_of_answers
from r1omni.metrics.breakdown import MIN_SPEAKERS
from r1omni.metrics.comparison import Comparison, compare, holm
from r1omni.metrics.predictions import (
    Answers,
    find_predictions,
    read_answers,
    score_records,
    set_and_condition,
)
from r1omni.metrics.resampling import groups_of
from r1omni.types import NUM_EXAMPLES, ComparedClips, Pairs, UsageError

COMPARISON_FILE = "compare.json"
# Folders of a run, which name no system.
_PARTS_OF_RUNS = ("predictions", "test", "predict")


@dataclass(frozen=True)
class System:
    """Answers of one system.

    Attributes:
        name: in tables.
        path: what the command line named.
        sets: its answers by test set.
    """

    name: str
    path: Path
    sets: dict[str, Answers]


@dataclass(frozen=True)
class SameClips:
    """What all systems answer of one test set, in one order.

    Attributes:
        name: of the set.
        answers: of each system, as it was read.
        records: by system, those of the clips that are compared.
        groups: units of resampling, or None for the clip.
    """

    name: str
    answers: dict[str, Answers]
    records: dict[str, list[dict[str, Any]]]
    groups: list[str] | None

    @property
    def labels(self) -> list[str]:
        """The class of each clip."""
        return [record["label"] for record in next(iter(self.records.values()))]


def write_comparison(
    entries: Sequence[str],
    out: Path,
    label_set: str | None = None,
    condition: str = "full",
    pairs: Pairs = "all",
    clips: ComparedClips = "same",
) -> dict[str, Any]:
    """Compare systems, and write OUT/compare.json and OUT/compare.html.

    Args:
        entries: `PATH` or `NAME=PATH` of each system: a file of predictions, or a folder that
            `test` or `score` wrote.
        out: new folder.
        label_set: in place of the recorded one.
        condition: of the predictions that are taken from folders; a file is taken as it is.
        pairs: "all" compares every pair, "first" the first system with each other one.
        clips: "same" refuses systems that answered other clips, "shared" compares those that all
            of them answered.

    Returns:
        what compare.json holds.

    Raises:
        UsageError: fewer than two systems, no set that all have, predictions that cannot be judged,
            other labels or classes, or other clips.
    """
    systems = read_systems(entries, label_set, condition)
    sets = [_same_clips(systems, name, clips) for name in _shared_sets(systems)]
    results = {
        "systems": [{"name": s.name, "path": str(s.path)} for s in systems],
        "pairs": pairs,
        "clips": clips,
        "sets": {one.name: _results(one, pairs) for one in sets},
        "left_out_sets": sorted(
            {name for s in systems for name in s.sets} - {one.name for one in sets}
        ),
        "r1omni": r1omni.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    _correct(results)
    page = comparison_page(results, {one.name: one.records for one in sets})
    out.mkdir(parents=True)
    text = json.dumps(results, indent=2)
    (out / COMPARISON_FILE).write_text(f"{text}\n", encoding="utf-8")
    (out / "compare.html").write_text(page, encoding="utf-8")
    return results


def read_systems(entries: Sequence[str], label_set: str | None, condition: str) -> list[System]:
    """The systems of a command line, with what they answered.

    Raises:
        UsageError: fewer than two, two of one name or with one file, or predictions that cannot be
            read or judged.
    """
    if len(entries) < 2:
        raise UsageError(
            f"{' '.join(entries)}: one system has nothing to be compared with; name two or more, "
            "or judge one by `score`"
        )
    systems: dict[str, System] = {}
    seen: dict[Path, str] = {}
    for entry in entries:
        name, path = _named(entry)
        if name in systems:
            raise UsageError(f"{entry}: there is a system {name} already; write NAME={path}")
        files = find_predictions([path])
        if not path.is_file():
            files = [file for file in files if set_and_condition(file)[1] == condition]
        if not files:
            raise UsageError(f"{path}: holds no answers to the {condition} input; see --condition")
        for file in files:
            other = seen.setdefault(file.resolve(), name)
            if other != name:
                raise UsageError(f"{entry}: {file} is that of {other}; name another system's")
        read = [read_answers(file, label_set) for file in files]
        systems[name] = System(name, path, {one.name: one for one in read if one.labelled})
        if not systems[name].sets:
            raise UsageError(f"{path}: no answer has a label; there is nothing to compare")
    return list(systems.values())


def _named(entry: str) -> tuple[str, Path]:
    """Name and path of `NAME=PATH`, or of a path alone."""
    name, separator, rest = entry.partition("=")
    if separator and name and rest and not Path(entry).exists():
        return name, Path(rest)
    path = Path(entry)
    place = path.absolute()
    if path.is_file():
        if place.parent.name not in _PARTS_OF_RUNS:
            return path.name.removesuffix(".jsonl"), path
        place = place.parent
    while place.name in _PARTS_OF_RUNS:
        place = place.parent
    return place.name, path


def _shared_sets(systems: Sequence[System]) -> list[str]:
    """The sets that all systems have; files, one a system, are of one set whatever their names."""
    if all(system.path.is_file() for system in systems):
        name = next(iter(systems[0].sets))
        for system in systems[1:]:
            [answers] = system.sets.values()
            system.sets.clear()
            system.sets[name] = answers
        return [name]
    shared = [name for name in systems[0].sets if all(name in s.sets for s in systems)]
    if not shared:
        told = "; ".join(f"{s.name} has {', '.join(s.sets)}" for s in systems)
        raise UsageError(f"there is no test set that all systems have: {told}")
    return shared


def _same_clips(systems: Sequence[System], name: str, clips: ComparedClips) -> SameClips:
    """The clips of a set that all systems answer.

    Raises:
        UsageError: other classes, labels or clips.
    """
    answers = {system.name: system.sets[name] for system in systems}
    first_name, first = next(iter(answers.items()))
    rows = {who: {r["sample_id"]: r for r in one.labelled} for who, one in answers.items()}
    for who, one in answers.items():
        if one.labels != first.labels:
            raise UsageError(
                f"{name}: {first_name} is of the classes {first.labels.name} and {who} of "
                f"{one.labels.name}; test both by one, or give --label-set"
            )
    shared = [i for i in rows[first_name] if all(i in own for own in rows.values())]
    for who, own in rows.items():
        if len(own) > len(shared) and clips == "same":
            alone = [i for i in own if i not in shared][:NUM_EXAMPLES]
            raise UsageError(
                f"{name}: systems answered other clips: {len(own) - len(shared)} of {who} are not "
                f"of all ({', '.join(alone)}); compare the {len(shared)} that all answered by "
                "--clips shared"
            )
        for i in shared:
            if own[i]["label"] != rows[first_name][i]["label"]:
                raise UsageError(
                    f"{name}: {i} is {rows[first_name][i]['label']} by {first.file} and "
                    f"{own[i]['label']} by {answers[who].file}; one of them is wrong"
                )
    if not shared:
        raise UsageError(f"{name}: there is no clip that all systems answered")
    records = {who: [own[i] for i in shared] for who, own in rows.items()}
    groups = next((found for found in map(groups_of, records.values()) if found), None)
    return SameClips(name, answers, records, groups)


def _results(same: SameClips, pairs: Pairs) -> dict[str, Any]:
    """Figures of each system on the clips, and of each pair."""
    labels = same.labels
    figures = {}
    for who, records in same.records.items():
        grouped = [
            {**record, "group": None if same.groups is None else same.groups[k]}
            for k, record in enumerate(records)
        ]
        own = same.answers[who]
        recognition, _ = score_records(grouped, own.labels, own.condition)
        keys = ("war", "uar", "war_interval", "uar_interval")
        figures[who] = {
            **{key: recognition[key] for key in keys},
            "num_left_out": len(own.labelled) - len(records),
            "condition": own.condition,
            "protocol": protocol_of_answers(own),
        }
    names = list(same.records)
    chosen = combinations(names, 2) if pairs == "all" else ((names[0], n) for n in names[1:])
    return {
        "n": len(labels),
        "label_set": next(iter(same.answers.values())).labels.name,
        "num_speakers": None if same.groups is None else len(set(same.groups)),
        "num_clips_that_differ": sum(
            len({r["prediction"] for r in answers}) > 1
            for answers in zip(*same.records.values(), strict=True)
        ),
        "systems": figures,
        "comparisons": [
            {
                "a": a,
                "b": b,
                "num_answers_that_differ": sum(
                    x["prediction"] != y["prediction"]
                    for x, y in zip(same.records[a], same.records[b], strict=True)
                ),
                **asdict(_compared(same, a, b)),
            }
            for a, b in chosen
        ],
    }


def _compared(same: SameClips, a: str, b: str) -> Comparison:
    ours, theirs = ([r["prediction"] for r in same.records[who]] for who in (a, b))
    return compare(ours, theirs, same.labels, same.groups)


def _correct(results: dict[str, Any]) -> None:
    """Add to every comparison of the call its p-value by Holm, and what can be said."""
    tests = [pair for one in results["sets"].values() for pair in one["comparisons"]]
    corrected = holm([pair["mcnemar_p"] for pair in tests])
    for pair, p in zip(tests, corrected, strict=True):
        pair["holm_p"] = p
        pair["verdict"] = _verdict(pair)
    results["correction"] = {"method": "Holm", "num_tests": len(tests), "level": SIGNIFICANCE}


def _verdict(pair: Mapping[str, Any]) -> str:
    """How b is against a by WAR, where interval and corrected test agree; else "unclear"."""
    if pair["num_answers_that_differ"] == 0:
        return "same answers"
    ends = pair["war_interval"]
    if ends is None or pair["holm_p"] >= SIGNIFICANCE or ends[0] <= 0 <= ends[1]:
        return "unclear"
    return "better" if ends[0] > 0 else "worse"


def comparison_text(results: Mapping[str, Any]) -> str:
    """Figures and pairs of every set for a terminal, in percent and points."""
    lines = []
    for name, one in results["sets"].items():
        speakers = one["num_speakers"]
        of = f", {speakers} speakers" if speakers else ""
        of += " (too few for their intervals)" if speakers and speakers < MIN_SPEAKERS else ""
        lines += [f"{set_title(name)}: {one['n']} clips{of}, classes {one['label_set']}"]
        for who, own in one["systems"].items():
            out = f", {own['num_left_out']} clips left out" if own["num_left_out"] else ""
            shown = "" if own["condition"] == "full" else f" ({own['condition']})"
            war, uar = (_figure(own, key) for key in ("war", "uar"))
            lines.append(f"  {who + shown:24s} WAR {war}   UAR {uar}{out}")
        lines += [f"  {line}" for pair in one["comparisons"] for line in _pair_lines(pair)]
        lines.append("")
    if results["left_out_sets"]:
        lines.append(f"not of all systems, left out: {', '.join(results['left_out_sets'])}")
    num_tests = results["correction"]["num_tests"]
    lines.append(f"p: McNemar's exact test, corrected by Holm for {num_tests} tests of this call")
    return "\n".join(lines)


def _figure(own: Mapping[str, Any], key: str) -> str:
    ends = own[f"{key}_interval"]
    return f"{own[key]:.1%}" + ("" if ends is None else f" ({ends[0]:.1%} to {ends[1]:.1%})")


def _pair_lines(pair: Mapping[str, Any]) -> Iterator[str]:
    if pair["verdict"] == "same answers":
        yield f"{pair['b']} and {pair['a']} answer alike on every clip"
        return
    words = {"unclear": "no clear difference"}.get(pair["verdict"], pair["verdict"])
    yield (
        f"{pair['b']} minus {pair['a']}: WAR {_points(pair, 'war')}, UAR {_points(pair, 'uar')} "
        f"points; p {pair['holm_p']:.2g}: {words}"
    )
    yield (
        f"  alone right: {pair['b']} {pair['num_only_b']} clips, {pair['a']} {pair['num_only_a']}; "
        f"other answers on {pair['num_answers_that_differ']}"
    )


def _points(pair: Mapping[str, Any], key: str) -> str:
    ends = pair[f"{key}_interval"]
    between = "" if ends is None else f" ({100 * ends[0]:+.1f} to {100 * ends[1]:+.1f})"
    return f"{100 * pair[f'{key}_difference']:+.1f}{between}"
