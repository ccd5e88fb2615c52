"""The training tables of one fold, from the described voices of its training speakers alone.

    python scripts/real_voices_tables.py --out outputs/real_voices --fold 1 --folds 5

OUT/data and OUT/voices are there already: scripts/run_real_voices.py makes them, and calls this.
Into OUT/fold_K/tables go `plain.jsonl` (descriptions in which no label had a part, as conversations
of HumanOmni's form), `explained.jsonl` (some clips with reasoning and label, as the loader `own`
reads them) and `texts.json` (what the tokenizers are trained on: these texts and no others). Who is
trained on is what the loader of RAVDESS says of the fold's split train.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from script_options import ScriptParser

from r1omni.data import DatasetSpec, load_dataset
from r1omni.text.emotions import ANSWER_WORDS, LABEL_SETS
from r1omni.text.tags import render_completion
from r1omni.voices.choosing import choose

# The mini-world's captions are asked for by the same words.
QUESTION = "Describe the voice."
# What `own` reads of a record; the measures behind it stay where they were written.
COLUMNS = ("path", "label", "reasoning", "group", "sex", "written_by")


def write_tables(out: Path, folds: int, fold: int, explained: int, seed: int) -> dict[str, int]:
    """Write the tables of a fold, all or none.

    Args:
        out: folder of the study.
        folds: how many there are.
        fold: whose training speakers are taken, from 1.
        explained: so many explained clips, evenly over classes and speakers.
        seed: of the choice of these.

    Returns:
        rows of each table.
    """
    samples = load_dataset(training_set(out, folds, fold))
    plain = _by_sample(out / "voices" / "ravdess_plain" / "all.jsonl")
    told = _by_sample(out / "voices" / "ravdess" / "all.jsonl")
    known = [sample for sample in samples if sample.sample_id in told]
    chosen = choose(known, min(explained, len(known)), seed)
    rows = [{name: told[s.sample_id][name] for name in COLUMNS} for s in chosen]
    described = [plain[s.sample_id] for s in samples if s.sample_id in plain]
    conversations = [_conversation(record) for record in described]
    words = [ANSWER_WORDS[label] for label in LABEL_SETS["ravdess"].labels]
    texts = [QUESTION] * len(described) + [record["reasoning"] for record in described]
    texts += [render_completion(row["reasoning"], ANSWER_WORDS[row["label"]]) for row in rows]

    folder = out / f"fold_{fold}" / "tables"
    partial = folder.with_name("tables.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _write(partial / "plain.jsonl", conversations)
    _write(partial / "explained.jsonl", rows)
    (partial / "texts.json").write_text(json.dumps(texts + words, indent=1), encoding="utf-8")
    os.replace(partial, folder)
    return {"plain": len(conversations), "explained": len(rows)}


def training_set(out: Path, folds: int, fold: int) -> DatasetSpec:
    """The clips of a fold's training speakers, as the configurations of the recipe name them."""
    options = {"folds": folds, "fold": fold, "hold_out_val": True}
    root = str(out / "data" / "RAVDESS")
    return DatasetSpec("ravdess", root, "train", modality="audio", options=options)


def _by_sample(file: Path) -> dict[str, dict[str, Any]]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return {record["sample_id"]: record for record in map(json.loads, lines)}


def _conversation(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "audio": record["path"],
        "written_by": record["written_by"],
        "conversations": [
            {"from": "human", "value": f"<audio>\n{QUESTION}"},
            {"from": "gpt", "value": record["reasoning"]},
        ],
    }


def _write(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def main() -> None:
    parser = ScriptParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the study")
    parser.add_argument("--fold", type=int, required=True, help="whose speakers are tested")
    parser.add_argument("--folds", type=int, default=5, help="how many there are (5)")
    parser.add_argument("--explained", type=int, default=150, help="explained clips (150)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of these (0)")
    options = parser.parse_args()
    done = write_tables(options.out, options.folds, options.fold, options.explained, options.seed)
    print(json.dumps(done))


if __name__ == "__main__":
    main()
