"""Explanations tell the cues of the clip, but some conclude something else."""

from __future__ import annotations

import re

from r1omni.world.describe import observation
from r1omni.world.layouts import plan_world
from r1omni.world.plans import clip_rng
from r1omni.world.story import EMOTIONS, class_sets
from r1omni.world.writers import EXPLANATION_NOISE, _mistaken, _reasonings


def test_explanations_hold_true_cues_and_some_wrong_conclusions() -> None:
    plans = [p for p in plan_world(2000, 3) if p.dataset == "humanomni/reasoning"]
    wrong = 0
    for plan, entry in zip(plans, _reasonings(plans, 3), strict=True):
        text = entry["conversations"][1]["value"]
        found = re.fullmatch(
            r"<think>(.*) Together they suggest (.*)\.</think>\n<answer>(.*)</answer>", text
        )
        assert found is not None
        assert found[1] == observation(plan.face, plan.voice)
        # Reasoning and answer agree, right or wrong.
        assert found[2] == EMOTIONS[found[3]].noun
        assert found[3] in class_sets()["mafw"].labels
        wrong += found[3] != plan.word
    assert 0 < wrong < len(plans) / 2
    assert _reasonings(plans, 3) == _reasonings(plans, 3)


def test_the_share_of_mistakes_is_as_asked() -> None:
    plans = [p for p in plan_world(2000, 0) if p.word]
    words = _mistaken(plans, EMOTIONS, EXPLANATION_NOISE, clip_rng(0, "test", 0))
    share = sum(w != p.word for w, p in zip(words, plans, strict=True)) / len(plans)
    assert abs(share - EXPLANATION_NOISE) < 0.05
    assert _mistaken(plans, EMOTIONS, 0.0, clip_rng(0, "test", 0)) == [p.word for p in plans]
