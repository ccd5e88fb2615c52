"""The reader of reasonings against texts that were read by hand (docs/explanations.md).

`reasonings.jsonl` holds texts, the emotions that each concludes with, and the cues that it names.
The part "development" was there while the rules were written. The part "held out" was written after
them, and no rule was changed for it. What is asserted is what was measured: a rule that reads more
of them right raises the figure, and one that reads fewer fails.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from r1omni.text.cue_words import VALUES
from r1omni.text.cues import read_cues
from r1omni.text.emotions import EMOTIONS
from r1omni.text.reasoning import named_emotions, verdict

TEXTS = [json.loads(line) for line in Path(__file__).with_name("reasonings.jsonl").open()]
# part -> texts, conclusions read right, cues read right, named falsely, and missed
MEASURED = {
    "development": (207, 197, 155, 0, 1),
    "held out": (103, 93, 55, 0, 5),
}


def of_part(part: str) -> list[dict[str, Any]]:
    return [text for text in TEXTS if text["part"] == part]


def concluded(text: dict[str, Any]) -> frozenset[str]:
    return named_emotions(text["text"]).concluded


def test_the_texts_are_well_made() -> None:
    cues = {f"{name} {v}" for values in VALUES.values() for name in values for v in values[name]}
    for text in TEXTS:
        assert set(text["concluded"]) <= set(EMOTIONS)
        assert set(text["cues"]) <= cues
    assert len({text["text"] for text in TEXTS}) == len(TEXTS) >= 300
    kinds = [Counter(text["kind"] for text in of_part(part)) for part in MEASURED]
    assert kinds[0].keys() == kinds[1].keys()
    assert min(min(counts.values()) for counts in kinds) >= 5


@pytest.mark.parametrize("part", MEASURED)
def test_as_many_are_read_right_as_were_measured(part: str) -> None:
    texts = of_part(part)
    right = sum(concluded(text) == set(text["concluded"]) for text in texts)
    hits = false = missed = 0
    for text in texts:
        found = read_cues(text["text"])
        named = {f"{cue.attribute} {cue.value}" for cue in found.video | found.audio}
        hits += len(named & set(text["cues"]))
        false += len(named - set(text["cues"]))
        missed += len(set(text["cues"]) - named)
    assert (len(texts), right, hits, false, missed) == MEASURED[part]


def test_what_is_concluded_supports_its_answer() -> None:
    for text in TEXTS:
        found = concluded(text)
        for emotion in found if len(found) <= 3 else ():
            assert verdict(text["text"], emotion) == "supported"
