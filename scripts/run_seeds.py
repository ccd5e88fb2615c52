"""The whole table for several seeds, and docs/results.md with mean and standard deviation.

    python scripts/run_seeds.py --out outputs/seeds --seeds 5 6 7

A seed is a new world, new towers and new trainings. A table that is finished is not made again.
Settings were tuned on other seeds than the default ones. What stands in the page below the mark of
`written_pages.py` is kept.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from run_table import ACCELERATORS
from script_options import ScriptParser
from written_pages import write_above

ROOT = Path(__file__).resolve().parent.parent
SETS = ("dfew", "mafw", "ravdess")
PAPER, FAITHFUL, COLD_START = "R1-Omni", "R1-Omni, faithful", "EMER-SFT"
# What is said of explanations -> where a table has it.
EXPLANATIONS = {
    "Reasoning that concludes with another emotion than the answer, among right answers": (
        "contradicted_among_right",
    ),
    "Right for the right reason: right, and concluded with, among all answers": (
        "right_and_supported",
    ),
    "Described cues that are there, of the face / of the voice": (
        "cues.video.precision", "cues.audio.precision",
    ),
    "Answers that describe a voice without sound / a face without picture": (
        "invented.muted.share", "invented.blanked.share",
    ),
    "WAR of reasoned answers less that of answers given at once, in points": (
        "modes.think_minus_direct.war_difference",
    ),
}  # fmt: skip


def main() -> None:
    parser = ScriptParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("outputs/seeds"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 6, 7])
    parser.add_argument("--accelerator", choices=ACCELERATORS, default="cpu")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "results.md")
    parser.add_argument(
        "--note",
        default="Measured on x86_64, 2 CPU cores, no GPU.",
        help="on which machine, and how",
    )
    options = parser.parse_args()
    tables = {}
    for seed in options.seeds:
        folder = options.out / f"seed_{seed}"
        if not (folder / "results.json").exists():
            command = [sys.executable, "scripts/run_table.py", "--out", folder, "--seed", seed,
                       "--accelerator", options.accelerator]  # fmt: skip
            subprocess.run([str(word) for word in command], cwd=ROOT, check=True)
        tables[seed] = json.loads((folder / "results.json").read_text())
    write_above(options.page, write_page(tables, options.note))
    print(f"wrote {options.page}")


def write_page(tables: dict[int, dict[str, Any]], note: str) -> str:
    """The page as Markdown."""
    seeds = ", ".join(map(str, tables))
    models = [row["model"] for row in next(iter(tables.values()))["rows"]]
    sections = [
        "# Results on the mini-world",
        "",
        f"Mean and standard deviation over seeds {seeds}, in percent. Written by "
        "`python scripts/run_seeds.py`; a seed is a new world, new towers and new trainings, and "
        "every model is its last checkpoint. The clips are drawn, so these figures say that the "
        "software works, not how well it reads people. RAVDESS is out of distribution, 8 classes "
        "with calm, which no training set has.",
        "",
        "## The table: WAR / UAR",
        "",
        *_table(models, tables, lambda entry: f"{entry[0]} / {entry[1]}", ("war", "uar")),
        "",
        "Reachable WAR, exact, from the world's own tables "
        "(picture only / sound only / both): "
        + "; ".join(
            f"{name} {c['video']:.1%} / {c['audio']:.1%} / {c['video_audio']:.1%}"
            for name, c in next(iter(tables.values()))["ceiling"].items()
        )
        + ".",
        "",
        "## Format accuracy (format_ok)",
        "",
        *_table(models, tables, lambda entry: entry[0], ("format_ok",)),
        "",
        "## One medium taken away: WAR with sound muted / picture blanked",
        "",
        *_table(models, tables, lambda e: f"{e[0]} / {e[1]}", ("muted.war", "blanked.war")),
        "",
        "## Explanations",
        "",
        "What is measured, and how: [explanations.md](explanations.md). A model that does not "
        "reason is left out.",
        "",
        *_explanations(tables),
        *_faithful(tables, models),
        "## The goals, seed by seed",
        "",
        *_goals(tables),
        "",
        "## Cost",
        "",
        *_costs(tables),
        note,
        "",
    ]
    return "\n".join(sections)


def _explanations(tables: dict[int, dict[str, Any]]) -> list[str]:
    """A table for each of EXPLANATIONS, of the models that reason."""
    rows = next(iter(tables.values()))["rows"]
    models = [row["model"] for row in rows if row["dfew"].get("silent", 1) < 1]
    lines = []
    for heading, paths in EXPLANATIONS.items():
        table = _table(models, tables, " / ".join, paths)
        lines += [f"{heading}:", "", *table, ""]
    return lines


def _entry(table: dict[str, Any], model: str, name: str) -> dict[str, Any]:
    """What a table says of a model on a set, with its reasoned and direct answers compared."""
    entry = next(row for row in table["rows"] if row["model"] == model)[name]
    modes = table.get("answer_modes", {}).get(model, {}).get(name, {})
    return {**entry, "modes": modes.get("full")}


def _value(tables: dict[int, dict[str, Any]], model: str, name: str, path: str) -> list[float]:
    """A figure of every seed; of those that have it."""
    values = []
    for table in tables.values():
        entry: Any = _entry(table, model, name)
        for key in path.split("."):
            entry = (entry or {}).get(key)
        if entry is not None:
            values.append(float(entry))
    return values


def _mean(values: list[float]) -> str:
    if not values:
        return "-"
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * statistics.mean(values):.1f} ± {100 * deviation:.1f}"


def _table(models: list[str], tables: Any, join: Any, paths: tuple[str, ...]) -> list[str]:
    lines = ["| | DFEW | MAFW | RAVDESS |", "|---|---|---|---|"]
    for model in models:
        cells = [join([_mean(_value(tables, model, name, p)) for p in paths]) for name in SETS]
        lines.append(f"| {model} | {' | '.join(cells)} |")
    return lines


def _faithful(tables: dict[int, dict[str, Any]], models: list[str]) -> list[str]:
    """What the faithful recipe was meant to reach, beside what it did; differences are by seed."""
    if FAITHFUL not in models:
        return []

    def less(path: str, other: str) -> list[str]:
        pairs = ((_value(tables, m, name, path) for m in (FAITHFUL, other)) for name in SETS)
        return [
            "-" if len(a) != len(b) else _signed([x - y for x, y in zip(a, b, strict=True)])
            for a, b in pairs
        ]

    def own(path: str, model: str = FAITHFUL) -> list[str]:
        return [_mean(_value(tables, model, name, path)) for name in SETS]

    contradicted, supported = "contradicted_among_right", "right_and_supported"
    rows = {
        "contradicted among right; goal: at most 7 / 10 / 10": own(contradicted),
        "WAR less the paper's recipe; goal: at most one standard error of that below": less(
            "war", PAPER
        ),
        "right for the right reason less the paper's recipe; goal: 10 on DFEW and MAFW": less(
            supported, PAPER
        ),
        "right for the right reason less the cold start; goal: above 0": less(
            supported, COLD_START
        ),
        "cue precision, face, less the cold start; goal: above 2 standard errors, DFEW and MAFW": (
            less("cues.video.precision", COLD_START)
        ),
        "cue precision, voice, less the cold start; the same goal": less(
            "cues.audio.precision", COLD_START
        ),
        "invented when muted; goal: below half of the paper's recipe": own("invented.muted.share"),
        "the paper's recipe, muted": own("invented.muted.share", PAPER),
        "invented when blanked; the same goal": own("invented.blanked.share"),
        "the paper's recipe, blanked": own("invented.blanked.share", PAPER),
        "reasoned less direct, WAR; goal: not below 0": own(
            "modes.think_minus_direct.war_difference"
        ),
    }
    lines = ["## What the faithful recipe was meant to reach", "",
             f"{FAITHFUL} beside the goals that were set for it, in percent and points:", "",
             "| | DFEW | MAFW | RAVDESS |", "|---|---|---|---|"]  # fmt: skip
    return [*lines, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()), ""]


def _signed(values: list[float]) -> str:
    text = _mean(values)
    return text if text.startswith("-") else f"+{text}"


def _goals(tables: dict[int, dict[str, Any]]) -> list[str]:
    lines = [
        "| seed | R1-Omni format_ok, lowest of the sets (goal 0.95) | DFEW WAR over EMER-SFT "
        "(goal 0.10) | DFEW WAR over its better single medium (goal 0.10) |",
        "|---|---|---|---|",
    ]
    for seed, table in tables.items():
        rows = {row["model"]: row for row in table["rows"]}
        ours = rows["R1-Omni"]
        single = max(ours["dfew"]["muted"]["war"], ours["dfew"]["blanked"]["war"])
        lines.append(
            f"| {seed} | {min(ours[name]['format_ok'] for name in SETS):.3f} "
            f"| {ours['dfew']['war'] - rows['EMER-SFT']['dfew']['war']:+.3f} "
            f"| {ours['dfew']['war'] - single:+.3f} |"
        )
    return lines


def _costs(tables: dict[int, dict[str, Any]]) -> list[str]:
    lines = ["| seed | minutes | peak memory of one process, GiB |", "|---|---|---|"]
    for seed, table in tables.items():
        minutes = table["elapsed_seconds"] / 60
        lines.append(f"| {seed} | {minutes:.1f} | {table['peak_memory_gib']} |")
    return [*lines, ""]


if __name__ == "__main__":
    main()
