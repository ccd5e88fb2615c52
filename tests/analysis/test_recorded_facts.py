"""The page states of runs what is recorded of them, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import PLAYERS, invented_samples, write_run

from r1omni.analysis.report import write_report

STAGE = {
    "run": "/runs/r1omni", "name": "R1-Omni", "method": "GRPO", "init_from": "/runs/emer/model",
    "seed": 0, "max_steps": 417, "rewards": [{"name": "politeness", "weight": 1.0}],
    "data": [{"name": "mafw", "split": "train", "sampling": "all", "options": {"fold": 3}}],
}  # fmt: skip
SET = {
    "dataset": "dfew", "root": "DFEW", "split": "test", "sampling": "first:9", "seed": 0,
    "options": {"fold": 2}, "num_samples": 9, "modalities": ["video"], "instructions": ["?"],
    "num_instructions": 1, "groups": None,
}  # fmt: skip
BY_SPEAKERS = {**SET, "options": {"fold": 4, "folds": 5}, "groups": ["actor_1", "actor_2"]}
PROVENANCE: dict[str, Any] = {
    "run": "a run",
    "model": {"class": "GRPOModule", "num_parameters": 12_340_000, "architecture": {}},
    "start": {"init_from": "/runs/emer/model", "sha256": "0a1b"},
    "checkpoint": {"path": "/c/step_000311.ckpt", "sha256": "2c", "step": 311, "is_newest": False},
    "training": [STAGE],
    "sets": {"dfew": SET, "ravdess": BY_SPEAKERS},
    "answers": {
        "temperature": 0.0, "max_new_tokens": 77, "frame_fit": "pad", "precision": "32-true",
        "num_ranks": 1,
    },
    "versions": {"r1omni": "9.8.7", "torch": "6.5.4"},
    "date": "2031-12-30T01:02:03+00:00",
}  # fmt: skip
# What the page says for each fact, and must not say without it.
SAID = {
    "model": ["12.3 million"],
    "checkpoint": ["step 311 of 417, not the newest"],
    "training": ["Recorded training", "politeness", "fold 3", "of 417"],
    "sets": ["fold 2", "first:9", "fold 4 of 5, by speakers", "2 actors"],
    "answers": ["77 tokens", "most probable token"],
    "versions": ["9.8.7", "6.5.4"],
    "date": ["2031-12-30"],
}
# Where results.json alone has the fact.
SILENT = {"run", "start"}
# What no record says: which settings were tried, what somebody meant by a name.
NEVER = (
    "selected", "last checkpoint", "larger models", "by the recipe", "out of distribution",
    "on captions", "cold start", "are trained on", "was trained", "on labels alone", "the base",
)  # fmt: skip


def page_of(root: Path, provenance: dict[str, Any] | None) -> str:
    """The text of a page of all four models under the paper's names, without tags."""
    samples = invented_samples([root / "gone.mp4"], num_per_class=2)
    runs = {}
    for model, player in PLAYERS.items():
        runs[model] = write_run(root / model, player, samples)
        file = runs[model] / "test" / "results.json"
        content = json.loads(file.read_text())
        assert content["provenance"] is None
        file.write_text(json.dumps({**content, "provenance": provenance}))
    results = write_report(runs, root / "out")
    assert results["runs"] == dict.fromkeys(runs, provenance)
    assert json.loads((root / "out" / "results.json").read_text())["runs"] == results["runs"]
    page = (root / "out" / "report.html").read_text()
    return " ".join(re.sub("<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL).split())


def test_nothing_is_said_of_runs_without_a_record(tmp_path: Path) -> None:
    text = page_of(tmp_path, None)
    assert not [said for facts in SAID.values() for said in facts if said in text]
    assert not [words for words in NEVER if words.lower() in text.lower()]


def test_every_recorded_fact_is_said(tmp_path: Path) -> None:
    assert SAID.keys() | SILENT == PROVENANCE.keys()
    text = page_of(tmp_path, PROVENANCE)
    assert not [said for facts in SAID.values() for said in facts if said not in text]
    assert not [words for words in NEVER if words.lower() in text.lower()]


@pytest.mark.parametrize("fact", PROVENANCE)
def test_a_fact_that_is_not_recorded_is_not_said(fact: str, tmp_path: Path) -> None:
    text = page_of(tmp_path, {key: value for key, value in PROVENANCE.items() if key != fact})
    assert not [said for said in SAID.get(fact, []) if said in text]
