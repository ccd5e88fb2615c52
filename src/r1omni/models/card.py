"""The card of a model folder: what it is for, what it must not be used for, what it inherits."""

from __future__ import annotations

from collections.abc import Sequence

from r1omni.models.config import OmniConfig
from r1omni.models.parts import PARTS
from r1omni.text.prompt import R1OMNI_INSTRUCTION

CARD = "MODEL_CARD.md"
# The key of config.json under which a folder keeps the data sets of all its stages.
TRAINED_ON = "trained_on"
# What was drawn and voiced by this software itself stands for the data sets whose names it bears.
DRAWN = "drawn world"

# Data set -> the terms under which its publisher gives it, which weights inherit.
TERMS = {
    "dfew": "given on request, for research",
    "mafw": "agreement signed at a university, not commercial",
    "ravdess": "CC BY-NC-SA 4.0; a commercial licence can be bought",
    "emer": "annotations are open; the clips are MER2023's: agreement, academic research only",
    "humanomni": "texts in HumanOmni's layout; their clips have terms of their own",
    "emodb": "open to download; published under CC0 1.0",
    "cremad": "open; ODbL 1.0, its contents under DbCL 1.0",
    "savee": "given after registration, for research",
    "tess": "CC BY-NC-ND 4.0",
    "enterface": "open to download; MIT, says its page",
    "meld": "annotations under GPL-3.0; the clips are of a television series, for research",
    "iemocap": "given on request, after a signed agreement, for research",
    "mer2023": "agreement, academic research only",
    "mer2024": "agreement, academic research only",
    "mer2025": "agreement, academic research only",
    "merr": "annotations under CC BY-NC 4.0; clips of MER2023: agreement, academic research only",
    "own": "a table of the user's own: whoever made the model knows its terms",
    DRAWN: "drawn and voiced by r1omni itself; no person is in it, and no terms come from it",
}

_USE = """\
## What it is for

It names the emotion that a person in a recording *appears* to show, with a reasoning in `<think>`
and the answer in `<answer>`: for research on emotion recognition and its explanations, and for
sorting recordings that a person then looks at. Load it with `R1Omni.from_pretrained(FOLDER)`, or
`python -m r1omni analyze RECORDING --model FOLDER`.

## What it must not be used for

- In the European Union: inferring emotions of people at the workplace or in education institutions,
  except for medical or safety reasons (AI Act, Article 5(1)(f)). Consent does not lift that. Where
  it is allowed, exposed people must be told (Article 50(3)).
- Diagnosis, and any decision about a person that no professional reviews.
- As evidence of what somebody feels, or of why the answer was given: the reasoning is text that was
  generated.
"""
_UNMEASURED = """\
## What was not measured

This card is written with the folder, by software that knows nothing of its tests. Unless figures
stand beside it, all of this is unmeasured: recognition on real people; recall by emotion; results
by sex, age, skin colour, culture and language; several people in the picture; whether explanations
support their answers and describe what is there. `python -m r1omni test` measures what your labels
allow.
"""


def model_card(config: OmniConfig, num_parameters: int) -> str:
    """The card as Markdown.

    Args:
        config: of the model; `released` has where its parts came from, and what trained it.
        num_parameters: of the whole model, towers included.
    """
    released = config.released
    lines = [
        "# Model card",
        "",
        f"An audio-visual language model of the HumanOmni / R1-Omni family, {num_parameters:,} "
        "parameters, written by [r1omni](https://arxiv.org/abs/2503.05379).",
        "",
        f"- It is asked: {' '.join(R1OMNI_INSTRUCTION.split())}",
        f"- It sees {config.media.num_frames} frames of {config.media.image_size} x "
        f"{config.media.image_size} pixels, and hears the first {config.media.audio_length_s:g} s.",
        *(f"- {part}: {origin}" for part, origin in sorted(_origins(released).items())),
        "",
        _USE,
        "## What the weights inherit",
        "",
        *_inherited(released.get(TRAINED_ON), bool(_origins(released))),
        "",
        _UNMEASURED,
    ]
    return "\n".join(lines)


def _origins(released: dict[str, object]) -> dict[str, str]:
    """Part -> where its weights came from, as config.json keeps it."""
    found: dict[str, str] = {}
    for key in ("origin", PARTS):
        kept = released.get(key)
        for part, origin in (kept if isinstance(kept, dict) else {}).items():
            found[part] = str(origin.get("from") if isinstance(origin, dict) else origin)
    return found


def _inherited(trained_on: object, has_origins: bool) -> list[str]:
    names: Sequence[object] = trained_on if isinstance(trained_on, list) else []
    rows = [f"| {name} | {TERMS.get(str(name), 'ask its publisher')} |" for name in names]
    table = ["| trained on | terms |", "|---|---|", *rows] if rows else []
    if not rows:
        table = ["What it was trained on is not recorded. If by nothing, its weights are random."]
    if has_origins:
        table += ["", "The parts named above have licences of their own, which come on top."]
    return table
