"""The card of a model folder names what the weights inherit, of every data set there is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from r1omni.data.registry import dataset_names
from r1omni.models import R1Omni
from r1omni.models.card import CARD, DRAWN, TERMS, TRAINED_ON, model_card


def test_every_data_set_has_its_terms() -> None:
    assert TERMS.keys() == {*dataset_names(), DRAWN}


def test_the_card_says_what_is_known_and_what_is_not(tiny: R1Omni, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path / "model")
    card = (tmp_path / "model" / CARD).read_text(encoding="utf-8")
    config = tiny.model.config
    assert f"{sum(p.numel() for p in tiny.model.parameters()):,} parameters" in card
    assert f"{config.media.num_frames} frames" in card
    assert "is not recorded" in card and "unmeasured" in card and "Article 5(1)(f)" in card
    for name, terms in TERMS.items():
        released = {**config.released, TRAINED_ON: [name]}
        one = model_card(replace(config, released=released), 1)
        assert f"| {name} | {terms} |" in one and "is not recorded" not in one
    parts = {"audio_tower": {"from": "openai/whisper-base@abc", "sha256": "0"}}
    released = {**config.released, "parts": parts, "origin": {"main": "a/b@c"}, TRAINED_ON: ["own"]}
    named = model_card(replace(config, released=released), 1)
    assert "- audio_tower: openai/whisper-base@abc" in named and "- main: a/b@c" in named
    assert "licences of their own, which come on top" in named
    # A folder that is saved again keeps what it was trained on.
    again = R1Omni.from_pretrained(tmp_path / "model")
    again.model.config = replace(again.model.config, released=released)
    again.save_pretrained(tmp_path / "model")
    kept = json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))
    assert kept[TRAINED_ON] == ["own"]
    assert "| own |" in (tmp_path / "model" / CARD).read_text(encoding="utf-8")
