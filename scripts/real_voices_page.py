"""docs/real_voices.md, its plots and results.json, from all that is complete below a folder.

    python scripts/real_voices_page.py outputs/real_voices
    python scripts/real_voices_page.py outputs/real_voices --docs /tmp/page/real_voices.md

    python scripts/real_voices_page.py --answers docs/benchmarks/real_voices/answers

It computes every figure from the predictions of scripts/run_real_voices.py, without a model; with
--answers also from those that are kept there (labels, answers, scores and what was read in the
reasonings, without texts), so that folds can be run one after the other, on several machines. What
is not complete is "-". Plots and results.json go to benchmarks/real_voices/ beside the page.
Figures of others, each with its source, are in docs/benchmarks/real_voices/published.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from real_voices_abroad import why  # noqa: E402
from real_voices_markdown import NONE, table  # noqa: E402
from real_voices_plots import draw  # noqa: E402
from real_voices_results import read_study  # noqa: E402
from real_voices_runs import find_runs, keep_runs  # noqa: E402
from real_voices_sections import (  # noqa: E402
    FOLDER,
    Study,
    costs,
    emodb,
    explanations,
    goals,
    parts,
    ravdess,
    ways,
)
from script_options import ScriptParser  # noqa: E402

from r1omni.types import R1OmniError, UsageError  # noqa: E402

PUBLISHED = ROOT / "docs" / FOLDER / "published.json"


def write_page(study: Study, page: Path) -> None:
    """Write the page, its plots and its figures."""
    folder = page.parent / FOLDER
    draw(study, folder)
    (folder / "results.json").write_text(json.dumps(study, indent=1) + "\n", encoding="utf-8")
    page.write_text(text(study, json.loads(PUBLISHED.read_text(encoding="utf-8"))), "utf-8")


def text(study: Study, published: Mapping[str, Any]) -> str:
    """The page."""
    sections = [
        introduction(study),
        goals(study),
        ravdess(study),
        others(published),
        *(section(study) for section in (parts, explanations, ways, emodb, why, costs, videos)),
        limits(),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def introduction(study: Study) -> list[str]:
    counts = study["chance"]
    clips = {name: counts[name]["n"] for name in counts}
    speakers = {
        name: max(
            figures["sets"][name]["speakers"]
            for figures in study["models"].values()
            if name in figures["sets"]
        )
        for name in counts
    }
    tested = " and ".join(
        f"{clips[name]} clips of {speakers[name]} speakers ({title})"
        for name, title in (("ravdess", "RAVDESS"), ("emodb", "Emo-DB"))
        if name in clips
    )
    return [
        "# Real voices",
        "",
        "What the recipe of `configs/ravdess_speech/` reaches on real speech: a pretrained Whisper "
        "encoder, a projector and a small language model from scratch, trained on recordings of "
        "actors and tested on other actors, and on German speech that nothing was trained on. "
        "Sound alone: no picture is given, in training or test.",
        "",
        "It does not say how people feel. Actors were told what to show, in a studio, in one or "
        "two sentences. RAVDESS is licensed CC BY-NC-SA 4.0: no recording and no model that was "
        "trained on it is part of this project.",
        "",
        "Written by `python scripts/real_voices_page.py OUT`, from the predictions of "
        "`scripts/run_real_voices.py`; the answers behind it, without texts, are in "
        f"`docs/{FOLDER}/answers`. Tested: {tested}, folds "
        f"{', '.join(map(str, study['folds']))}. Every figure is in "
        f"[results.json]({FOLDER}/results.json).",
        "",
        "Speakers are divided into folds ([data.md](data.md#folds-of-speakers)). One fold is "
        "tested, the next one is for validation, the others are trained on; checkpoints are "
        "chosen on the validation speakers, and nothing on a test speaker. An average ± is over "
        "folds, with the standard deviation. Everything else takes the answers of all folds "
        "together, so that every speaker counts once a seed; brackets are 95% bootstrap "
        "intervals over speakers. Shares are in percent. \"-\" was not measured.",
    ]  # fmt: skip


def others(published: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            row["who"],
            *(NONE if row[key] is None else f"{row[key]:g}" for key in ("war", "uar", "classes")),
            row["actors"], row["input"], row["trained"], f"{row['source']}; {row['read']}",
        ]
        for row in published["rows"]
    ]  # fmt: skip
    return [
        "### What others published",
        "",
        "For speakers that were not trained on. **Protocols differ, so do not rank across rows**: "
        "the actors of a fold, song beside speech, calm counted as neutral, sound of the films or "
        "the audio files, test speakers that chose the checkpoint, and how large the encoder is. "
        "Ours, above: folds that are balanced by sex, validation speakers apart, an encoder that "
        "stays frozen.",
        "",
        *table(
            ["who", "WAR", "UAR", "classes", "actors", "input", "what is trained", "source"], rows
        ),
        "",
        f'Looked up on {published["looked_up"]}; "quoted only" means that the paper itself was '
        f"not read. In [published.json]({FOLDER}/published.json).",
    ]


def videos(study: Study) -> list[str]:
    folds = study["video_folds"]
    seed = study["seeds"][0] if study["seeds"] else 0
    fold = folds[0] if folds else "K"
    model = f"OUT/fold_{fold}/seed_{seed}/r1omni/model"
    where = (
        f"Actor 5 is tested in fold {fold} and trained on, or used for validation, in the others: "
        "take that fold's model."
        if folds
        else "Take the model of the fold that tests the actor: in the others the actor was "
        "trained on, or used for validation."
    )
    return [
        "## Answers beside the films",
        "",
        "An anecdote, not a figure. RAVDESS also has its takes with picture and sound "
        f"(`01-01-*.mp4`). {where} With a folder FILMS that holds some of them, say of actor 5 in "
        "`Actor_05/`:",
        "",
        f"    python -m r1omni analyze FILMS --model {model} \\",
        "        --modality audio --label-set ravdess --answer-mode both \\",
        "        --media-ablation direct --format html --out OUT/films",
        "",
        "`OUT/films/index.html` is a page ([page.md](page.md)) that plays the films where they "
        "lie, and has beside each the answer with its reasoning, the scores with and without it, "
        "and what the model would say at once without the sound. What the actor was told to show "
        "is in the name of a film, in its third number, and nowhere in the page.",
        "",
        "The models listen only: with a picture in the prompt they would answer to something that "
        'they were never shown. The page says so of each answer ("sound alone"), and its '
        "pictures are for whoever looks at it.",
    ]


def limits() -> list[str]:
    return [
        "## What this does not say",
        "",
        "- Acted speech in a studio: two sentences in RAVDESS, ten in Emo-DB, each spoken in every "
        "emotion. Speech of everyday life is harder, and nothing here was tested on it.",
        "- RAVDESS is North American English of 24 actors. Intervals are over the speakers that "
        "there are; of Emo-DB's few they are no more than a hint.",
        "- Explanations are measured against what an algorithm measured in the voice, not against "
        "what a listener hears.",
        "- Recipe, sizes and learning rates were tried on the validation speakers of one fold; "
        "these speakers are test speakers of another fold.",
        "- One seed. Fold 1 was trained once before, by an earlier version of this project with "
        "the same seed: label SFT 78.8% WAR, EMER-SFT 32.9, R1-Omni 60.4, faithful 62.1; on Emo-DB "
        "34.7, 34.7, 40.7 and 41.3. Differences of a few points on one fold say little.",
    ]


def main(words: Sequence[str] | None = None) -> int:
    """Write the page; 2 for wrong use, 1 where something cannot be read."""
    parser = ScriptParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", help="folder of the study")
    parser.add_argument(
        "--answers", type=Path,
        help="folder of answers that are kept: those of models that OUT lacks are read, and all "
        "are written there",
    )  # fmt: skip
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "real_voices.md")
    options = parser.parse_args(words)
    if options.out is None and options.answers is None:
        parser.error("give the folder of a study, --answers, or both")
    try:
        study = read_study(options.out, options.answers)
        if options.out is not None and options.answers is not None:
            keep_runs(find_runs(options.out), options.answers)
    except R1OmniError as error:
        print(f"real_voices_page: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    write_page(study, options.docs)
    print(f"{options.docs} has the tables, {options.docs.parent / FOLDER} plots and results.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
