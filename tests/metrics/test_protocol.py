"""The protocol beside a figure names all that a reviewer asks for."""

from __future__ import annotations

from typing import Any

import pytest

from r1omni.metrics.protocol import protocol_items, protocol_line, protocol_of

PROVENANCE: dict[str, Any] = {
    "start": {"init_from": "a/b", "hub": {"model": "0123456789abcdef"}, "sha256": "ab" * 32},
    "checkpoint": {"path": "/c", "sha256": "cd" * 32, "step": 311, "is_newest": True},
    "sets": {"ravdess": {
        "dataset": "ravdess", "split": "test", "sampling": "first:9", "seed": 0,
        "options": {"fold": 2, "folds": 5, "protocol": "8way", "actors": None},
        "num_samples": 9, "modalities": ["video_audio"], "instructions": ["Which emotion?"],
        "num_instructions": 1, "groups": ["actor_1", "actor_2"],
    }},
    "answers": {"temperature": 0.0, "max_new_tokens": 77, "frame_fit": "pad",
                "precision": "32-true", "num_ranks": 1, "mode": "both"},
    "versions": {"r1omni": "9.8.7", "torch": "6.5.4"},
    "source_sha256": "ef" * 32,
    "date": "2031-12-30T01:02:03+00:00",
}  # fmt: skip
# What has to be named, and how it is worded.
NAMED = {
    "data set": "ravdess, test, first:9, 9 clips",
    "fold": "2 of 5",
    "options": "protocol 8way",
    "classes": "8 (ravdess): neutral, calm, happy, sad, angry, fear, disgust, surprise",
    "speakers": "2: actor_1, actor_2",
    "prompt": "Which emotion?",
    "media": "video_audio",
    "answer mode": "both",
    "decoding": "the most probable token, at most 77 tokens, 32-true",
    "frame fit": "pad",
    "weights": "checkpoint cdcdcdcdcdcd, step 311",
    "hub revision": "model 0123456789abcdef",
    "code version": "r1omni 9.8.7, source efefefefefef",
    "date": "2031-12-30",
}


def test_everything_is_named() -> None:
    assert protocol_items(protocol_of(PROVENANCE, "ravdess", "ravdess")) == NAMED


def test_one_line_has_every_item() -> None:
    line = protocol_line(protocol_of(PROVENANCE, "ravdess", "ravdess"))
    assert "\n" not in line and all(f"{name} " in line for name in NAMED)


@pytest.mark.parametrize("key", PROVENANCE)
def test_what_is_not_recorded_is_not_named(key: str) -> None:
    known = {name: value for name, value in PROVENANCE.items() if name != key}
    found = protocol_items(protocol_of(known, "ravdess", "ravdess"))
    assert found.items() != NAMED.items()
    # Nothing takes its place; the weights of the start stand where no checkpoint was loaded.
    changed = {name for name in found if found[name] != NAMED.get(name)}
    assert changed <= ({"weights"} if key == "checkpoint" else {"code version"})


def test_nothing_is_known_of_other_systems() -> None:
    assert protocol_items(protocol_of({}, "own", "emodb_4way")) == {
        "classes": "4 (emodb_4way): neutral, happy, sad, angry"
    }
