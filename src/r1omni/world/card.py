"""The data card of a mini-world: what it is, what is in it, what it must not be used for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1omni.text.cues import CUES_FILE
from r1omni.world.writers import EXPLANATION_NOISE, LABEL_NOISE

CARD = "DATA_CARD.md"

# Splits whose written labels are sometimes wrong, and how often.
_NOISE: Mapping[str, float] = {
    "emer": EXPLANATION_NOISE,
    "humanomni/reasoning": EXPLANATION_NOISE,
    "humanomni/emotions": LABEL_NOISE,
}
_HOW = """\
## How it was drawn

A face is drawn from facial action units (FACS) and a voice is made by a source-filter
synthesiser, by r1omni alone. Each clip shows one face and one voice that its emotion may have. In
most clips another emotion may have one of the two as well, so that neither picture nor sound is
enough. Pitch, skin, hair, head and glasses are drawn at random, independently of the emotion.
RAVDESS has a drawing style, voices and a class (`calm`) that no labelled training split has.
`cues.jsonl` has what each clip shows, for analysis only.
"""
_USE = """\
## What it is for

Trying and testing software: loaders, training, rewards, evaluation. On it one knows what is true
of a clip, and the best accuracy that is possible.

## What it must not be used for

- To say how well a model recognises real people, or to compare models for that: figures on
  drawings say nothing of faces and voices.
- To train a model that is used on people.
- As knowledge of how emotions look or sound, or of groups of people: tables of ours are drawn
  here, and skin, hair and pitch are picked from short lists, not from any population.
- In place of DFEW, MAFW, RAVDESS, MER2023 or HumanOmni, whose names its folders bear: it has
  their layouts and nothing of their contents. Name it "mini-world" beside every figure.

## Licence

Nobody is recorded or portrayed in it, and nothing of the data sets whose layouts it has is in it.
It is the output of r1omni (Apache-2.0), which claims no rights in what it draws: no terms come
with it.
"""


def write_card(out: Path, world: Mapping[str, Any]) -> None:
    """Write the card of a world into its folder.

    Args:
        out: the folder; clips, labels and `cues.jsonl` are there.
        world: what `world.json` holds.
    """
    (out / CARD).write_text(world_card(out, world), encoding="utf-8")


def world_card(out: Path, world: Mapping[str, Any]) -> str:
    """The card as Markdown; counts and sizes are those of the folder."""
    rows = [json.loads(line) for line in (out / CUES_FILE).read_text(encoding="utf-8").splitlines()]
    num_bytes = sum((out / row["path"]).stat().st_size for row in rows)
    lines = [
        "# Data card: a mini-world",
        "",
        f"{len(rows):,} clips of drawn faces with made voices, {num_bytes / 1e6:.1f} MB of mp4 "
        "(H.264 and AAC), in the layouts of DFEW, MAFW, RAVDESS, MER2023 with EMER, and HumanOmni.",
        "",
        f"Made by `python -m r1omni synthesize --clips {world['clips']} --seed {world['seed']}`, "
        f"version {world['version']} of the world; the same command makes the same bytes.",
        "",
        _HOW,
        "## What is in it",
        "",
        *_distribution(rows),
        "",
        "Counts are of the emotion that a clip shows. Labels of DFEW, MAFW and RAVDESS are that "
        "emotion. Elsewhere some are wrong on purpose, as where nobody checks; \"wrong\" is the "
        "share that each clip's label or conclusion has a chance to be. Clips of random cues "
        "show no emotion.",
        "",
        *_ceilings(world["ceiling"]),
        "",
        _USE,
    ]  # fmt: skip
    return "\n".join(lines)


def _distribution(rows: list[dict[str, Any]]) -> list[str]:
    """Clips of each split by the emotion they show, as a table."""
    shown = Counter((row["dataset"], row["emotion"] or "random cues") for row in rows)
    splits = list(dict.fromkeys(row["dataset"] for row in rows))
    words = sorted({word for _, word in shown}, key=lambda word: (word == "random cues", word))
    table = [
        f"| split | clips | {' | '.join(words)} | wrong |",
        "|---" * (len(words) + 3) + "|",
    ]
    for split in splits:
        counts = [shown[split, word] for word in words]
        cells = " | ".join(str(count) if count else "" for count in counts)
        wrong = f"{_NOISE[split]:.0%}" if split in _NOISE else ""
        table.append(f"| {split} | {sum(counts)} | {cells} | {wrong} |")
    return table


def _ceilings(ceiling: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The best accuracy that is possible, as a table."""
    table = ["| best accuracy possible | picture | sound | both |", "|---|---|---|---|"]
    for name, best in ceiling.items():
        cells = (f"{best[modality]:.1%}" for modality in ("video", "audio", "video_audio"))
        table.append(f"| {name} | {' | '.join(cells)} |")
    return table
