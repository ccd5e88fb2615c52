"""Figures of predictions that were kept, computed again: the table and the files of `score`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from r1omni.metrics.predictions import RESULTS_FILE, find_predictions, score_files
from r1omni.types import UsageError

_COLUMNS = ("n", "WAR", "UAR", "format", "supported", "right & supported", "contradicted of right")


def write_scores(
    paths: list[Path], out: Path | None = None, label_set: str | None = None
) -> dict[str, Any]:
    """Score predictions, and write `results.json` and the predictions as they are read today.

    Args:
        paths: files of predictions, or folders that hold some.
        out: folder to write, or None to write nothing; it must be new or empty.
        label_set: in place of the recorded one.

    Returns:
        what `results.json` holds.

    Raises:
        UsageError: no predictions, ones that cannot be judged, or an `out` that holds something.
    """
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out} exists; choose another folder or remove it")
    results, read = score_files(find_predictions(paths), label_set)
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
    """One line a set and condition, in percent."""
    lines = [f"{'':20s}" + "".join(f"{name:>{max(8, len(name) + 2)}s}" for name in _COLUMNS)]
    for name, conditions in results["sets"].items():
        for condition, result in conditions.items():
            told = results["explanations"][name][condition]
            of_right = told["among_right"]["contradicted"]
            cells = [
                str(result["n"]),
                *(f"{result[key]:.1%}" for key in ("war", "uar", "format_ok")),
                *(f"{told[key]:.1%}" for key in ("supported", "right_and_supported")),
                "-" if of_right is None else f"{of_right:.1%}",
            ]
            title = name if condition == "full" else f"{name}, {condition}"
            widths = [max(8, len(column) + 2) for column in _COLUMNS]
            lines.append(
                f"{title:20s}"
                + "".join(f"{cell:>{width}s}" for cell, width in zip(cells, widths, strict=True))
            )
    return "\n".join(lines)
