"""docs/versions.md from docs/benchmarks/versions.json: what was installed, and what came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from performance_tables import table
from written_pages import write_above

_WHOLE = ["tests"]
_ORDER = ("lowest", "newest", "wheel")


def write_versions(results: Path, page: Path, entry: dict[str, Any]) -> None:
    """Enter what was found into the results, and write the page of them.

    A part of the suite never takes the place of the whole.

    Args:
        results: JSON; may be missing.
        page: Markdown, of which what stands below the mark is kept.
        entry: of one environment.
    """
    entries: dict[str, Any] = {}
    if results.is_file():
        entries = json.loads(results.read_text(encoding="utf-8"))
    key = f"{entry['kind']}-{entry['python'].rpartition('.')[0]}"
    if entry.get("tests", _WHOLE) == _WHOLE or entries.get(key, {}).get("tests") != _WHOLE:
        entries[key] = entry
    entries = dict(sorted(entries.items(), key=_place))
    results.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    write_above(page, written(list(entries.values())))


def _place(item: tuple[str, dict[str, Any]]) -> tuple[int, list[int]]:
    entry = item[1]
    return _ORDER.index(entry["kind"]), [int(part) for part in entry["python"].split(".")]


def written(entries: list[dict[str, Any]]) -> str:
    """The part of the page that is written."""
    suites = [entry for entry in entries if entry["kind"] != "wheel"]
    wheels = [entry for entry in entries if entry["kind"] == "wheel"]
    lines = [
        "# Versions",
        "",
        "What the project was installed with, and what the tests said. Written by "
        "`python scripts/version_ranges.py`; figures: "
        "[versions.json](benchmarks/versions.json). The ranges are in "
        "[pyproject.toml](../pyproject.toml). *lowest* has every lower bound, *newest* what "
        "pip takes; tools of development are the newest in both.",
        "",
        table(
            ["", "Python", "date", "tests", "passed", "failed", "skipped", "minutes"],
            [_suite_row(entry) for entry in suites],
        ),
    ]
    for entry in suites:
        name = f"{entry['kind']}, Python {entry['python']}"
        if entry["not_installed"] is not None:
            lines += [f"**{name}** cannot be installed: {entry['not_installed']}", ""]
        elif entry["failed"]:
            lines += [f"Failed with **{name}**:", "", *(f"- `{t}`" for t in entry["failed"]), ""]
    lines += ["## Versions of the direct dependencies", "", _versions(suites), *_wheels(wheels)]
    return "\n".join(lines)


def _suite_row(entry: dict[str, Any]) -> list[str]:
    cells = [entry["kind"], entry["python"], entry["date"]]
    if entry["not_installed"] is not None:
        return [*cells, "not installed", *[""] * 4]
    whole = entry["tests"] == _WHOLE
    counts = [str(entry[f"num_{what}"]) for what in ("passed", "failed", "skipped")]
    part = "the whole suite" if whole else "a part: " + ", ".join(f"`{p}`" for p in entry["tests"])
    return [*cells, part, *counts, str(entry["minutes"])]


def _versions(suites: list[dict[str, Any]]) -> str:
    names = sorted({name for entry in suites for name in entry["versions"]})
    head = ["", *(f"{entry['kind']}, {entry['python']}" for entry in suites)]
    return table(head, [[n, *(e["versions"].get(n, "") for e in suites)] for n in names])


def _wheels(wheels: list[dict[str, Any]]) -> list[str]:
    """What `--wheel` found."""
    if not wheels:
        return []
    rows = []
    for entry in wheels:
        if entry["not_installed"] is not None or entry["failed"]:
            came = entry["not_installed"] or entry["failed"][0]
        else:
            came = f"`analyze` labelled {len(entry['labels'])} clips in {entry['analyze_s']} s"
        help_s = f"{entry['help_s']} s" if "help_s" in entry else ""
        rows.append([entry["python"], entry["date"], f"`{entry['file']}`, {entry['kib']} KiB",
                     help_s, came])  # fmt: skip
    return [
        "## The wheel in a fresh environment",
        "",
        "`python -m build`, `pip install` of the wheel without extras, `r1omni --help`, and "
        "`r1omni analyze examples/clips --model examples/mini-model --format csv`, each from a "
        "folder without the checkout.",
        "",
        table(["Python", "date", "wheel", "`--help`", "what came of it"], rows),
    ]
