"""Figures of predictions computed again, from files that `test` or `predict` wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from r1omni.analysis.judged import judge_predictions
from r1omni.analysis.unibench import unibench, unibench_text
from r1omni.judging import read_judge_file
from r1omni.metrics.emotion_wheels import published_wheels
from r1omni.metrics.predictions import RESULTS_FILE, find_predictions, score_files
from r1omni.text.wheels import SHIPPED
from r1omni.types import UsageError

_COLUMNS = ("n", "WAR", "UAR", "format", "supported", "right & supported", "contradicted of right")
_OPEN_COLUMNS = ("n", "EW precision", "EW recall", "EW F1", "hit rate", "words", "of reference")
_JUDGE_COLUMNS = ("n", "judged", "malformed", "failed", "not asked", "mean grade")


def write_scores(
    paths: list[Path],
    out: Path | None = None,
    label_set: str | None = None,
    wheels: Path | None = None,
    judge: Path | None = None,
    with_unibench: bool = False,
) -> dict[str, Any]:
    """Score predictions, and write `results.json` and the predictions as they are read today.

    Args:
        paths: files of predictions, or folders that hold some.
        out: folder to write, or None to write nothing; it must be new or empty.
        label_set: in place of the recorded one.
        wheels: folder with the published wheels of emotions; None for those that are shipped.
        judge: file of a judge, which is asked about every reasoning, or None.
        with_unibench: add what MER-UniBench measures.

    Returns:
        what `results.json` holds.

    Raises:
        UsageError: no predictions, ones that cannot be judged, an `out` that holds something, or
            wheels or a judge that cannot be used.
        RunStopped: the judge cannot go on.
    """
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out} exists; choose another folder or remove it")
    config = None if judge is None else read_judge_file(judge)
    table, source = SHIPPED, "shipped"
    if wheels is not None:
        table, source = published_wheels(wheels), str(wheels)
    results, read = score_files(find_predictions(paths), label_set, table, source)
    if with_unibench:
        results |= unibench(read, table, source)
    if config is not None:
        results |= judge_predictions(read, config)
    if out is not None:
        folder = out / "predictions"
        folder.mkdir(parents=True)
        for file, records in read.items():
            lines = "".join(f"{json.dumps(record)}\n" for record in records)
            (folder / file.name).write_text(lines, encoding="utf-8")
        text = json.dumps(results, indent=2)
        (out / RESULTS_FILE).write_text(f"{text}\n", encoding="utf-8")
    return results


def scores_text(results: dict[str, Any]) -> str:
    """Tables with one line a set and condition, shares in percent; those that there are."""
    tables = []
    if results["sets"]:
        tables.append(_table(_COLUMNS, results["sets"], lambda *at: _recognition(results, *at)))
    if "open_vocabulary" in results:
        found = results["open_vocabulary"]
        tables.append(_table(_OPEN_COLUMNS, found, lambda n, c: _open_vocabulary(found[n][c])))
    if "judge" in results:
        graded = results["judge"]
        tables.append(_table(_JUDGE_COLUMNS, graded, lambda n, c: _judged(graded[n][c])))
    if "unibench" in results:
        tables.append(unibench_text(results["unibench"]))
    return "\n\n".join(tables)


def _recognition(results: dict[str, Any], name: str, condition: str) -> list[str]:
    result, told = results["sets"][name][condition], results["explanations"][name][condition]
    of_right = told["among_right"]["contradicted"]
    return [
        str(result["n"]),
        *(f"{result[key]:.1%}" for key in ("war", "uar", "format_ok")),
        *(f"{told[key]:.1%}" for key in ("supported", "right_and_supported")),
        "-" if of_right is None else f"{of_right:.1%}",
    ]


def _open_vocabulary(found: dict[str, Any]) -> list[str]:
    return [
        str(found["n"]),
        *(f"{found[key]:.1%}" for key in ("precision", "recall", "f1", "hit_rate")),
        *(f"{found[key]:.1f}" for key in ("words_answered", "words_reference")),
    ]


def _judged(found: dict[str, Any]) -> list[str]:
    counts = [str(found[k]) for k in ("n", "judged", "malformed", "failed", "not_applicable")]
    return [*counts, "-" if found["mean"] is None else f"{found['mean']:.3f}"]


def _table(columns: tuple[str, ...], sets: dict[str, Any], cells_of: Any) -> str:
    widths = [max(8, len(column) + 2) for column in columns]
    lines = [f"{'':20s}" + _row(columns, widths)]
    for name, conditions in sets.items():
        for condition in conditions:
            title = name if condition == "full" else f"{name}, {condition}"
            lines.append(f"{title:20s}" + _row(cells_of(name, condition), widths))
    return "\n".join(lines)


def _row(cells: Any, widths: list[int]) -> str:
    return "".join(f"{cell:>{width}s}" for cell, width in zip(cells, widths, strict=True))
