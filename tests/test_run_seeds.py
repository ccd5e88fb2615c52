"""scripts/run_seeds.py: the page of several seeds, from their results.json."""

from __future__ import annotations

from typing import Any

from run_seeds import EXPLANATIONS, SETS, write_page


def row(model: str, war: float, silent: float, **more: Any) -> dict[str, Any]:
    figures = {"war": war, "uar": war, "format_ok": 1.0 - silent, "silent": silent, **more}
    single = {"war": war / 2, "uar": war / 2}
    return {"model": model} | {name: {**figures, "muted": single, "blanked": single}
                               for name in SETS}  # fmt: skip


def table(war: float, contradicted: float) -> dict[str, Any]:
    told = {
        "contradicted_among_right": contradicted, "right_and_supported": war - contradicted,
        "cues": {"video": {"precision": 0.75}, "audio": {"precision": None}},
        "invented": {"muted": {"share": 1.0}},
    }  # fmt: skip
    modes = {"full": {"think_minus_direct": {"war_difference": 0.125}}}
    return {
        "rows": [
            row("HumanOmni", 0.2, 1.0),
            row("EMER-SFT", 0.5, 0.0, **told),
            row("R1-Omni", war, 0.0, **told),
        ],
        "answer_modes": {"R1-Omni": dict.fromkeys(SETS, modes)},
        "ceiling": {name: dict.fromkeys(("video", "audio", "video_audio"), 0.9) for name in SETS},
        "elapsed_seconds": 60.0,
        "peak_memory_gib": 1.0,
    }


def test_explanations_of_the_models_that_reason() -> None:
    page = write_page({3: table(0.7, 0.1), 4: table(0.8, 0.2)}, "")
    told = page[page.index("## Explanations") : page.index("## The goals")]
    parts = told.split(":\n\n")[1:]
    assert len(parts) == len(EXPLANATIONS)
    lines = [[line for line in part.splitlines() if line.startswith("| R1")] for part in parts]
    contradicted, supported, cues, invented, think = (line for (line,) in lines)
    assert contradicted == "| R1-Omni" + " | 15.0 ± 7.1" * 3 + " |"
    assert supported == "| R1-Omni" + " | 60.0 ± 0.0" * 3 + " |"
    assert cues == "| R1-Omni" + " | 75.0 ± 0.0 / -" * 3 + " |"
    assert invented == "| R1-Omni" + " | 100.0 ± 0.0 / -" * 3 + " |"
    assert think == "| R1-Omni" + " | 12.5 ± 0.0" * 3 + " |"
    assert "| EMER-SFT | - | - | - |" in parts[-1]
    assert "HumanOmni" not in told


def test_the_faithful_recipe_stands_beside_its_goals() -> None:
    tables = {seed: table(war, 0.2) for seed, war in ((3, 0.7), (4, 0.8))}
    assert "## What the faithful recipe" not in write_page(tables, "")
    for seed, own in tables.items():
        told = {k: v for k, v in own["rows"][-1]["dfew"].items() if k not in ("war", "uar")}
        told["contradicted_among_right"] = 0.0
        more = {
            k: v for k, v in told.items() if k not in ("format_ok", "silent", "muted", "blanked")
        }
        own["rows"].append(row("R1-Omni, faithful", 0.9 if seed == 3 else 0.8, 0.0, **more))
    page = write_page(tables, "")
    told_of = page[page.index("## What the faithful recipe") : page.index("## The goals")]
    lines = {line.split("|")[1].strip(): line for line in told_of.splitlines() if "|" in line}
    assert lines["contradicted among right; goal: at most 7 / 10 / 10"].count("0.0 ± 0.0") == 3
    (war,) = (line for name, line in lines.items() if name.startswith("WAR less the paper's"))
    assert war.endswith("|" + " +10.0 ± 14.1 |" * 3)
    assert sum("cue precision, voice" in name and "- | - | -" in lines[name] for name in lines) == 1
