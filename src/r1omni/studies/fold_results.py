"""What came of folds: each figure fold by fold, mean and deviation, and of all clips together."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from r1omni.analysis.runs import set_title
from r1omni.analysis.scores import name_vote_temperatures, scored_by
from r1omni.metrics.predictions import RESULTS_FILE, Answers, read_answers, score_answers
from r1omni.metrics.protocol import pooled_protocol, protocol_line
from r1omni.training.evaluation import EW_FIGURES, EXPLANATION_FIGURES, FIGURES
from r1omni.training.run_folder import write_whole

DEVIATION = "sample standard deviation over folds, divided by their number less one"
# Title in tables -> figure.
_SHOWN = {
    "WAR": "war", "UAR": "uar", "format": "format_ok", "supported": "supported",
    "right and supported": "right_and_supported", "EW F1": "ew_f1",
}  # fmt: skip


def finished_folds(out: Path, folds: Iterable[int]) -> dict[int, dict[str, Any]]:
    """What `test` wrote of the folds that are tested, by fold.

    Args:
        out: folder of all folds.
        folds: to look for.
    """
    found = {}
    for fold in folds:
        file = out / f"fold_{fold}" / "test" / RESULTS_FILE
        try:
            found[fold] = json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # cut off while it was written: not tested
            continue
    return found


def write_folds(out: Path, tested: Mapping[int, dict[str, Any]], number: int) -> str:
    """Write `results.json`, `folds.csv` and `folds.md`, and the answers to pooled sets.

    Args:
        out: folder of all folds; `pooled/` has the answers of all folds to each set whose clips
            are tested in one fold alone, and their figures, as `score` writes them.
        tested: from `finished_folds`.
        number: of folds that there are.

    Returns:
        the table, as Markdown.
    """
    pooled, why_not = _pooled(out, tested, number)
    sets: dict[str, dict[str, Any]] = {}
    for name, condition in _tested_sets(tested):
        own = {fold: _figures(content, name, condition) for fold, content in tested.items()}
        sets.setdefault(name, {})[condition] = {
            "n": {fold: n_of(content, name, condition) for fold, content in tested.items()},
            "figures": {
                figure: _over_folds({k: v[figure] for k, v in own.items() if figure in v})
                for figure in dict.fromkeys(figure for v in own.values() for figure in v)
            },
            "pooled": _figures(pooled, name, condition) | _intervals(pooled, name, condition),
            "num_pooled": n_of(pooled, name, condition),
            "not_pooled": why_not.get(name),
        }
    results = {
        "num_folds": number,
        "tested_folds": list(tested),
        "deviation": DEVIATION,
        "fold_sets": sets,
        "protocols": {
            name: {fold: content["protocols"][name] for fold, content in tested.items()}
            for name in sets
        },
        "broken_clips": {fold: content.get("broken_clips", {}) for fold, content in tested.items()},
    }
    text = folds_text(results)
    for file, written in {
        RESULTS_FILE: json.dumps(results, indent=2) + "\n",
        "folds.md": text + "\n",
        "folds.csv": _csv(results),
    }.items():
        write_whole(out / file, written)
    return text


def _tested_sets(tested: Mapping[int, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Sets and conditions, in the order in which they were tested."""
    return list(
        dict.fromkeys(
            (name, condition)
            for content in tested.values()
            for part in ("sets", "open_vocabulary")
            for name, conditions in content.get(part, {}).items()
            for condition in conditions
        )
    )


def _part(content: Mapping[str, Any], part: str, name: str, condition: str) -> dict[str, Any]:
    found: dict[str, Any] = content.get(part, {}).get(name, {}).get(condition, {})
    return found


def n_of(content: Mapping[str, Any], name: str, condition: str) -> int:
    """Clips of a set under a condition; 0 where it was not tested."""
    parts = (_part(content, part, name, condition) for part in ("sets", "open_vocabulary"))
    return next((part["n"] for part in parts if part), 0)


def _figures(content: Mapping[str, Any], name: str, condition: str) -> dict[str, float]:
    """The figures of a set that were measured, each a share."""
    recognition = _part(content, "sets", name, condition)
    explained = _part(content, "explanations", name, condition)
    words = _part(content, "open_vocabulary", name, condition)
    found = {
        **{f: recognition.get(f) for f in (*FIGURES, "weighted_f1", "macro_f1")},
        **{f: explained.get(f) for f in EXPLANATION_FIGURES},
        **{f"ew_{f}": words.get(f) for f in EW_FIGURES},
    }
    return {figure: value for figure, value in found.items() if value is not None}


def _intervals(content: Mapping[str, Any], name: str, condition: str) -> dict[str, Any]:
    recognition = _part(content, "sets", name, condition)
    return {key: recognition[key] for key in ("war_interval", "uar_interval") if key in recognition}


def _over_folds(values: Mapping[int, float]) -> dict[str, Any]:
    numbers = list(values.values())
    return {
        "folds": dict(values),
        "mean": statistics.mean(numbers),
        "deviation": statistics.stdev(numbers) if len(numbers) > 1 else None,
    }


def _pooled(
    out: Path, tested: Mapping[int, dict[str, Any]], number: int
) -> tuple[dict[str, Any], dict[str, str]]:
    """The figures of all folds' answers to each set that they divide, and why others have none.

    `pooled/` gets what `score` would write of these answers, with the protocol of all folds.
    """
    answers: dict[str, list[tuple[int, Answers]]] = {}
    for fold in tested:
        for file in sorted((out / f"fold_{fold}" / "test" / "predictions").glob("*.jsonl")):
            answers.setdefault(file.name, []).append((fold, read_answers(file)))
    why_not, whole = {}, []
    folder = out / "pooled"
    for file_name, parts in answers.items():
        names = [r["sample_id"] for _, one in parts for r in one.records]
        first, twice = parts[0][1], len(names) - len(set(names))
        if len(parts) < 2:
            why_not[first.name] = "one fold alone is tested"
        elif twice:
            clips = f"{twice} clip{'s' * (twice > 1)}"
            why_not[first.name] = f"{clips} answered in more than one fold"
        else:
            records = [{**r, "fold": fold} for fold, one in parts for r in one.records]
            whole.append(replace(first, file=folder / "predictions" / file_name, records=records))
    judged = [one for one in whole if one.labelled or any("open_labels" in r for r in one.records)]
    figures = score_answers(judged) if judged else {}
    if figures:
        figures |= _told_of(whole, tested, number)
        name_vote_temperatures(figures)
    _write_pooled(folder, whole, figures)
    return figures, why_not


def _told_of(
    whole: Sequence[Answers], tested: Mapping[int, dict[str, Any]], number: int
) -> dict[str, Any]:
    """What `results.json` holds beside the figures of pooled sets."""
    names = dict.fromkeys(one.name for one in whole)
    protocols = {
        name: {k: v["protocols"][name] for k, v in tested.items() if name in v["protocols"]}
        for name in names
    }
    broken = {k: v for told in tested.values() for k, v in told.get("broken_clips", {}).items()}
    return {
        "protocols": {name: pooled_protocol(own, number) for name, own in protocols.items()},
        "broken_clips": broken,
        "scored": scored_by(),
    }


def _write_pooled(folder: Path, whole: Sequence[Answers], figures: Mapping[str, Any]) -> None:
    """Write answers and figures; files of sets that are pooled no longer are removed."""
    written = {one.file for one in whole}
    former = {*(folder / "predictions").glob("*.jsonl"), *folder.glob(RESULTS_FILE)}
    for file in former - written:
        file.unlink()
    for one in whole:
        one.file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(one.file, "".join(f"{json.dumps(record)}\n" for record in one.records))
    if figures:
        write_whole(folder / RESULTS_FILE, json.dumps(figures, indent=2) + "\n")


def folds_text(results: Mapping[str, Any]) -> str:
    """A table for each set and condition, in percent, and what was measured.

    Args:
        results: as `results.json` has them.
    """
    folds, number = results["tested_folds"], results["num_folds"]
    lines = [f"Folds {', '.join(map(str, folds))} of {number}; ± is the {DEVIATION}."]
    for name, conditions in results["fold_sets"].items():
        for condition, found in conditions.items():
            title = set_title(name) + ("" if condition == "full" else f", {condition}")
            head = ["", *(f"fold {fold}" for fold in folds), "mean ± deviation", "all clips"]
            lines += ["", f"## {title}", "", _row(head), _row(["---"] * len(head))]
            counts = [found["n"].get(fold, 0) for fold in folds]
            lines.append(_row(["clips", *map(str, counts), "", str(found["num_pooled"] or "")]))
            for shown, figure in _SHOWN.items():
                if figure in found["figures"]:
                    lines.append(_row([shown, *_cells(found, figure, folds)]))
            if found["not_pooled"]:
                lines += ["", f"No figure of all clips together: {found['not_pooled']}."]
    lines += ["", "## Protocol", ""]
    for name, protocols in results["protocols"].items():
        lines += [f"- {set_title(name)}, {protocol_line(p)}" for p in protocols.values()]
    broken = {path for clips in results["broken_clips"].values() for path in clips}
    if broken:
        lines += ["", f"{len(broken)} clips could not be decoded; results.json lists them."]
    return "\n".join(lines)


def _cells(found: Mapping[str, Any], figure: str, folds: Iterable[int]) -> list[str]:
    over = found["figures"][figure]
    own = [_percent(over["folds"].get(fold)) for fold in folds]
    spread = "" if over["deviation"] is None else f" ± {100 * over['deviation']:.1f}"
    pooled = found["pooled"].get(figure)
    ends = found["pooled"].get(f"{figure}_interval")
    between = f" ({_percent(ends[0])} to {_percent(ends[1])})" if ends else ""
    return [*own, _percent(over["mean"]) + spread, _percent(pooled) + between]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _csv(results: Mapping[str, Any]) -> str:
    """One row a set, condition and figure; shares between 0 and 1."""
    folds = results["tested_folds"]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(
        ["set", "condition", "figure", *(f"fold_{fold}" for fold in folds), "mean", "deviation",
         "all_clips"]
    )  # fmt: skip
    for name, conditions in results["fold_sets"].items():
        for condition, found in conditions.items():
            for figure, over in found["figures"].items():
                own = [over["folds"].get(fold) for fold in folds]
                spread = [over["mean"], over["deviation"], found["pooled"].get(figure)]
                table.writerow([name, condition, figure, *own, *spread])
    return text.getvalue()
