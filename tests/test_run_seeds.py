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
