"""The same training on one process and on two that talk over gloo, by DDP and by FSDP2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ranks_job import (
    CASES,
    DRAWN_BY_RANK,
    STEPS,
    TRAININGS,
    train_one_rank,
    train_two_ranks,
)
from torch import Tensor

from processes import ranks
from r1omni.models import R1Omni

TESTS = Path(__file__).parents[1]
Results = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def results(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Results]:
    """What one process found in each training, and what two found in each case."""
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TESTS))
        one = train_one_rank(small_world, folder / "one")
    ranks(2, train_two_ranks, small_world, folder / "two.pt")
    return one, torch.load(folder / "two.pt", weights_only=True)


def _flat(weights: dict[str, Tensor]) -> Tensor:
    return torch.cat([weights[name].flatten() for name in sorted(weights)])


def _start(small_world: Path, weights: dict[str, Tensor]) -> Tensor:
    model = R1Omni.from_pretrained(str(small_world / "init")).model
    return _flat({name: p.detach() for name, p in model.named_parameters() if name in weights})


NOT_THE_SAME = {DRAWN_BY_RANK, *(name for name in CASES if "bfloat16" in name)}


@pytest.mark.parametrize("case", sorted(CASES.keys() - NOT_THE_SAME))
def test_two_ranks_train_like_one(results: tuple[Results, Results], case: str) -> None:
    one, two = results[0][CASES[case].training], results[1][case]
    assert (one["losses"] - two["losses"]).abs().max() < 1e-5
    assert one["weights"].keys() == two["weights"].keys()
    wanted, found = _flat(one["weights"]), _flat(two["weights"])
    assert (wanted - found).norm() < 1e-5 * wanted.norm()


@pytest.mark.parametrize("case", [name for name, case in CASES.items() if case.sharding])
def test_each_rank_has_its_share_alone(results: tuple[Results, Results], case: str) -> None:
    sharding = CASES[case].sharding
    assert sharding is not None
    for name, (own, everything) in results[1][case]["shares"].items():
        of, part = name.split(".")[:2]
        towers = part.endswith("_tower") and not sharding.shard_frozen_towers
        if towers or (of == "reference" and not sharding.shard_reference):
            assert own == everything, name
        elif everything > 1000:
            assert own < 0.55 * everything, name


@pytest.mark.parametrize(
    "case", [name for name, case in CASES.items() if case.training in ("grpo", "adapters")]
)
def test_the_policy_starts_at_its_reference(results: tuple[Results, Results], case: str) -> None:
    """In half precision too: both are rounded alike, however the reference is stored."""
    first, *later = results[1][case]["kls"]
    assert first < 1e-9 and all(kl > 1e-7 for kl in later)


def test_layers_in_bfloat16(results: tuple[Results, Results]) -> None:
    one, two = results[0]["sft"], results[1]["sft, fsdp in bfloat16"]
    assert 0 < (one["losses"] - two["losses"]).abs().max() < 2e-2
    weights = _flat(results[1]["grpo, fsdp in bfloat16"]["weights"])
    assert weights.dtype == torch.float32 and weights.isfinite().all()


def test_ranks_that_draw_for_themselves_take_as_many_steps(
    results: tuple[Results, Results],
) -> None:
    two = results[1][DRAWN_BY_RANK]
    assert len(two["losses"]) == STEPS and two["losses"].isfinite().all()
    assert _flat(two["weights"]).isfinite().all()


@pytest.mark.parametrize("training", sorted(TRAININGS.keys() - {"adapters"}))
def test_weights_move_further_than_the_comparison_allows(
    results: tuple[Results, Results], small_world: Path, training: str
) -> None:
    weights = results[0][training]["weights"]
    now = _flat(weights)
    assert (now - _start(small_world, weights)).norm() > 1e-2 * now.norm()


def test_what_the_cases_are_for_happens(results: tuple[Results, Results]) -> None:
    one, two = results
    metrics = one["different lengths"]["metrics"]
    assert metrics["completions/min_length"] < metrics["completions/max_length"]
    # Ranks log the same figures as one process, means over tokens included, where a rank may have
    # fewer than another; but not those of time, nor the drift, which is roundoff.
    found = two["different lengths, fsdp"]["metrics"]
    assert found.keys() == metrics.keys()
    for name in metrics.keys() - {"tokens_per_second", "sampling_logp_difference"}:
        if not name.startswith("time/"):
            assert found[name] == pytest.approx(metrics[name], abs=1e-5, rel=1e-5), name
    assert two["sft, fsdp"]["compiled_graphs"] == 0
    assert two["grpo, fsdp with everything"]["compiled_graphs"] > 0


def test_the_comparison_sees_a_difference(results: tuple[Results, Results]) -> None:
    one, _ = results
    for first, second in (
        ("grpo", "dapo"), ("grpo", "scaled by the batch"), ("dapo", "dr_grpo"),
        ("a heavy reference", "a moved reference"), ("grpo", "two updates in parts"),
        ("sft", "sft on one medium"), ("grpo", "grpo on one medium"),
    ):  # fmt: skip
        here, there = (_flat(one[name]["weights"]) for name in (first, second))
        assert (here - there).norm() > 3e-5 * here.norm(), (first, second)
