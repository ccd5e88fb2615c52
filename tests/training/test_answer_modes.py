"""Answer modes and conditions through the real evaluation of a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest

from r1omni.analysis.runs import read_run
from r1omni.data import DatasetSpec, EmotionDataModule
from r1omni.data.loader_config import LoaderConfig
from r1omni.metrics.paired import MODE_FIGURES, paired_answers
from r1omni.metrics.predictions import find_predictions, read_answers, score_answers
from r1omni.training import GRPOModule, SFTModule
from r1omni.training.evaluation import FIGURES
from r1omni.training.module import EmotionModule

CONDITIONS = ["full", "muted", "blanked", "swapped", "shuffled"]
SPEC = DatasetSpec("mafw", "MAFW", sampling="first:6", options={"fold": 1})


def evaluated(
    mini_world: Path, run_dir: Path, mode: Any, kind: type[EmotionModule] = SFTModule,
    stage: str = "test", batch_size: int = 4,
) -> L.Trainer:  # fmt: skip
    data = EmotionDataModule(
        root=str(mini_world / "world"),
        val=[SPEC],
        test=[SPEC],
        conditions=CONDITIONS,  # type: ignore[arg-type]
        loader=LoaderConfig(
            decode_workers=0, eval_batch_size=batch_size, cache_dir=str(mini_world / "cache")
        ),
        answer_mode=mode,
    )
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=run_dir,
    )  # fmt: skip
    module = kind(str(mini_world / "init"), max_new_tokens=6)  # type: ignore[call-arg]
    getattr(trainer, stage)(module, data, verbose=False)
    return trainer


def written(run_dir: Path) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """results.json, and the records by condition."""
    results = json.loads((run_dir / "test" / "results.json").read_text("utf-8"))
    records = {
        condition: [
            json.loads(line)
            for line in (run_dir / "test" / "predictions" / f"mafw.{condition}.jsonl")
            .read_text("utf-8")
            .splitlines()
        ]
        for condition in CONDITIONS
    }
    return results, records


@pytest.fixture(scope="module")
def runs(mini_world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("modes")
    for mode in ("think", "direct", "both"):
        evaluated(mini_world, root / mode, mode)
    return {mode: root / mode for mode in ("think", "direct", "both")}


def test_both_adds_to_what_think_writes_and_changes_nothing(runs: dict[str, Path]) -> None:
    (plain, think), (results, both) = written(runs["think"]), written(runs["both"])
    new = {"answer_mode", "confidence", "scores", "direct_prediction", "direct_confidence",
           "direct_scores"}  # fmt: skip
    for condition in CONDITIONS:
        for one, other in zip(think[condition], both[condition], strict=True):
            assert other.keys() - one.keys() == new and other.items() >= one.items()
            for scores in (other["scores"], other["direct_scores"]):
                assert sum(scores.values()) == pytest.approx(1, abs=1e-5)
    assert results["sets"] == plain["sets"]
    assert "answer_modes" not in plain and "mode" not in plain["provenance"]["answers"]
    assert results["provenance"]["answers"]["mode"] == "both"
    assert not (runs["think"] / "test" / "reliability").exists()
    drawn = {f.name for f in (runs["both"] / "test" / "reliability").iterdir()}
    assert drawn == {"mafw.svg"}


def test_direct_writes_nothing_and_answers_as_in_both(runs: dict[str, Path]) -> None:
    (results, direct), (beside, both) = written(runs["direct"]), written(runs["both"])
    for condition in CONDITIONS:
        for one, other in zip(direct[condition], both[condition], strict=True):
            assert one["prediction"] == one["direct_prediction"] == other["direct_prediction"]
            assert one["direct_scores"] == pytest.approx(other["direct_scores"], abs=1e-5)
            assert "scores" not in one and one["text"].startswith("<think></think>\n<answer>")
            assert one["reasoning"] == "" and not one["format_ok"]
    full = results["answer_modes"]["mafw"]["full"]
    assert full["think"] is None and full["think_minus_direct"] is None
    assert full["direct"]["war"] == results["sets"]["mafw"]["full"]["war"]
    assert full["direct"]["ece"] == pytest.approx(
        beside["answer_modes"]["mafw"]["full"]["direct"]["ece"], abs=1e-5
    )


def test_everything_can_be_computed_again_from_predictions(runs: dict[str, Path]) -> None:
    for run_dir in runs.values():
        results, _ = written(run_dir)
        run = read_run("SFT", run_dir)
        records = {c: [*(run.predictions("mafw", c) or {}).values()] for c in CONDITIONS}
        again = paired_answers({"mafw": records}, {"mafw": run.sets["mafw"].label_set}).to_dict()
        kept = {key: results[key] for key in ("answer_modes", "dependence") if key in results}
        assert json.loads(json.dumps(again)) == kept
        assert set(kept["dependence"]["mafw"]) == set(CONDITIONS) - {"full"}
        scored = score_answers(list(map(read_answers, find_predictions([run_dir / "test"]))))
        scored = json.loads(json.dumps(scored))
        assert scored == {key: results[key] for key in scored} and kept.items() <= scored.items()


def test_media_matter_and_batches_do_not(runs: dict[str, Path], mini_world: Path,
                                         tmp_path: Path) -> None:  # fmt: skip
    results, both = written(runs["both"])
    for condition in CONDITIONS[1:]:
        change = results["dependence"]["mafw"][condition]["direct"]["score_change"]
        assert change is not None and change != 0.0
    evaluated(mini_world, tmp_path, "direct", batch_size=1)
    for condition, rows in written(tmp_path)[1].items():
        for one, other in zip(rows, both[condition], strict=True):
            assert one["direct_scores"] == pytest.approx(other["direct_scores"], abs=1e-5)


def test_grpo_and_validation_have_modes_too(mini_world: Path, tmp_path: Path) -> None:
    trainer = evaluated(mini_world, tmp_path, "both", GRPOModule, stage="validate")
    figures = trainer.callback_metrics
    named = {name for names in (FIGURES, MODE_FIGURES["both"]) for name in names}
    assert named < {name.removeprefix("val/mafw/") for name in figures}
    assert not any("changed" in name for name in figures)
