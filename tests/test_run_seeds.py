"""scripts/run_seeds.py: the page of several seeds, from their results.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from run_seeds import EXPLANATIONS, SETS, main, write_page
from written_pages import MARK

from processes import REPOSITORY


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


def test_what_was_written_by_hand_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, war in ((3, 0.7), (4, 0.8)):
        (tmp_path / f"seed_{seed}").mkdir()
        (tmp_path / f"seed_{seed}/results.json").write_text(json.dumps(table(war, 0.1)))
    page = tmp_path / "results.md"
    words = ["--out", str(tmp_path), "--page", str(page), "--seeds"]
    monkeypatch.setattr(sys, "argv", ["run_seeds.py", *words, "3", "--note", "One."])
    main()
    first = page.read_text()
    assert first.endswith(f"\nOne.\n\n{MARK}\n\n") and "seeds 3," in first
    page.write_text(f"{first}## By hand\n\nKept: {MARK}, too.\n")
    monkeypatch.setattr(sys, "argv", ["run_seeds.py", *words, "3", "4", "--note", "Two."])
    main()
    second = page.read_text()
    assert "seeds 3, 4," in second and "One." not in second
    assert second.endswith(f"\nTwo.\n\n{MARK}\n\n## By hand\n\nKept: {MARK}, too.\n")
    # The page of the repository has its mark.
    assert f"{MARK}\n\n## " in (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8")
