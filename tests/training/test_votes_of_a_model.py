"""Sampled completions that vote, through the real evaluation of the shipped model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest

from r1omni.analysis.scores import write_scores
from r1omni.analysis.scores_text import scores_text
from r1omni.data import DatasetSpec, EmotionDataModule
from r1omni.data.loader_config import LoaderConfig
from r1omni.data.voting import Voting
from r1omni.metrics.voting import tally
from r1omni.text.emotions import LABEL_SETS
from r1omni.training import SFTModule
from r1omni.types import UsageError

MODEL = Path(__file__).parents[2] / "examples" / "mini-model"
SPEC = DatasetSpec("mafw", "MAFW", sampling="first:5", options={"fold": 1})


def evaluated(
    mini_world: Path, run_dir: Path, samples: int, batch_size: int = 5, stage: str = "test",
    **options: Any,
) -> SFTModule:  # fmt: skip
    data = EmotionDataModule(
        root=str(mini_world / "world"),
        val=[SPEC],
        test=[SPEC],
        loader=LoaderConfig(
            decode_workers=0, eval_batch_size=batch_size, cache_dir=str(mini_world / "cache")
        ),
        voting=Voting(samples, **options),
    )
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=run_dir,
    )  # fmt: skip
    module = SFTModule(str(MODEL), max_new_tokens=48)
    getattr(trainer, stage)(module, data, verbose=False)
    return module


def written(run_dir: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    folder = run_dir / "test"
    lines = (folder / "predictions/mafw.full.jsonl").read_text("utf-8").splitlines()
    return json.loads((folder / "results.json").read_text("utf-8")), [*map(json.loads, lines)]


NEW = {"votes", "voted", "num_tokens", "votes_num_tokens"}


def test_votes_beside_answers(mini_world: Path, tmp_path: Path) -> None:
    evaluated(mini_world, tmp_path / "none", 0)
    module = evaluated(mini_world, tmp_path / "four", 4)
    evaluated(mini_world, tmp_path / "two", 2, batch_size=2)
    (plain, bare), (results, rows), (_, fewer) = (
        written(tmp_path / name) for name in ("none", "four", "two")
    )
    assert "voting" not in plain and "voting" not in plain["provenance"]["answers"]
    for one, other, less in zip(bare, rows, fewer, strict=True):
        # The answer is what it is without votes, and fewer votes are the first of more.
        assert other.keys() - one.keys() == NEW and other.items() >= one.items()
        assert len(other["votes"]) == 4 and less["votes"] == other["votes"][:2]
        assert other["voted"] == tally(other["votes"], LABEL_SETS["mafw"].labels)
        assert less["num_tokens"] == other["num_tokens"] > 0
    assert any(vote is not None for row in rows for vote in row["votes"])
    assert len({tuple(row["votes"]) for row in rows}) > 1
    assert results["sets"] == plain["sets"]

    found = results["voting"]["mafw"]["full"]
    assert (found["samples"], found["temperature"]) == (4, 1.0)
    right = [row["voted"] == row["label"] for row in rows]
    assert found["war"] == sum(right) / 5
    greedy = sum(row["prediction"] == row["label"] for row in rows) / 5
    assert found["votes_minus_greedy"]["war_difference"] == pytest.approx(found["war"] - greedy)
    assert found["tokens"]["votes"] == sum(row["votes_num_tokens"] for row in rows)
    seconds = found.pop("seconds")
    assert seconds["votes"] > 0 and seconds["ratio"] == seconds["votes"] / seconds["greedy"]
    assert results["provenance"]["answers"]["voting"] == {"samples": 4, "temperature": 1.0}
    assert module.evaluation is not None
    assert module.evaluation.metrics("test")["test/mafw/voted_war"] == found["war"]

    # All but the seconds can be computed again from the predictions.
    again = write_scores([tmp_path / "four" / "test"])
    assert json.loads(json.dumps(again["voting"]["mafw"]["full"])) == found
    assert "voted WAR" in scores_text(again)
    # Under another label set, votes are read as its classes.
    fewer = write_scores([tmp_path / "four" / "test"], tmp_path / "again", "all")
    assert fewer["voting"]["mafw"]["full"]["samples"] == 4
    told = (tmp_path / "again/predictions/mafw.full.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["votes"] for line in told] == [row["votes"] for row in rows]


def test_validation_does_not_vote(mini_world: Path, tmp_path: Path) -> None:
    module = evaluated(mini_world, tmp_path, 4, stage="validate")
    assert module.evaluation is not None
    assert all("votes" not in row for row in module.evaluation.records(0))


def test_what_cannot_vote_is_refused() -> None:
    with pytest.raises(UsageError, match=r"data.answer_mode is direct; votes are compared with"):
        EmotionDataModule(test=[SPEC], answer_mode="direct", voting=Voting(3))
    with pytest.raises(UsageError, match=r"data.voting.temperature .* data.voting.samples above 0"):
        Voting(0, temperature=0.5)
    with pytest.raises(UsageError, match=r"data.voting.samples is -1"):
        Voting(-1)
