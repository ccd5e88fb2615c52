"""An optimizer step is the same however it is divided: for every option that changes the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import Field, fields, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, get_args

import lightning as L
import pytest
import torch
from small_training import BASE, fit, moments, weights
from step_cases import COMBINATIONS, NOT_OF_THE_LOSS, EndsEarly, num_steps
from torch import Tensor

from r1omni.ops import GRPOLossConfig, StepTotals
from r1omni.ops.kl import KLEstimator
from r1omni.ops.loss_config import LossType
from r1omni.ops.step_totals import entropy_threshold
from r1omni.training import GRPOConfig, GRPOModule
from r1omni.training.batch import RolloutBatch, step_totals
from r1omni.types import Clip, PromptInputs, Rollout, Sample

LOSSES: tuple[str, ...] = get_args(LossType)
# For each field of GRPOLossConfig: what it is changed to, and beside which other options.
ANY_LOSS: list[dict[str, Any]] = [{"loss_type": name} for name in LOSSES]
LOSS_CASES: dict[str, tuple[list[Any], list[dict[str, Any]]]] = {
    "loss_type": ([name for name in LOSSES if name != "grpo"], [{}]),
    "beta": ([0.0, 0.5], ANY_LOSS),
    "epsilon": ([0.05], [{}, {"loss_type": "bnpo"}]),
    "epsilon_high": ([0.4], [{}, {"loss_type": "cispo"}]),
    "delta": ([1.3], [{"epsilon": 0.1}]),
    "dual_clip": ([1.3], [{"epsilon": 0.1}]),
    "importance_sampling_level": (["sequence"], ANY_LOSS),
    "use_bias_correction_kl": ([True], ANY_LOSS),
    "kl_estimator": ([name for name in get_args(KLEstimator) if name != "k3"], [{}]),
    "top_entropy_quantile": ([0.3, 0.8], ANY_LOSS),
    "entropy_coef": ([0.1], [{**loss, **more} for loss in ANY_LOSS
                             for more in ({}, {"top_entropy_quantile": 0.4})]),
    "off_policy_mask_threshold": ([0.02], ANY_LOSS),
    "max_completion_length": ([7], [{"loss_type": "dr_grpo"}]),
    "sapo_temperature_pos": ([0.5], [{"loss_type": "sapo"}]),
    "sapo_temperature_neg": ([2.0], [{"loss_type": "sapo"}]),
}  # fmt: skip
NO_FORMULA = {"temperature": "the log-probabilities were taken at it; COMBINATIONS have it"}


def is_default(field: Field[Any], config: Any) -> bool:
    return bool(getattr(config, field.name) == getattr(type(config)(), field.name))


def test_every_option_has_a_case() -> None:
    """A new field of the config classes needs a case, or a reason why it cannot need one."""
    assert {f.name for f in fields(GRPOLossConfig)} == LOSS_CASES.keys() | NO_FORMULA.keys()
    configs = COMBINATIONS.values()
    missing = [f.name for f in fields(GRPOConfig) if all(is_default(f, c) for c in configs)]
    missing += [f.name for f in fields(GRPOLossConfig)
                if all(is_default(f, c.loss) for c in configs)]  # fmt: skip
    assert set(missing) <= NOT_OF_THE_LOSS.keys() <= {f.name for f in fields(GRPOConfig)}
    assert {config.loss.loss_type for config in configs} == set(LOSSES)


# The loss alone: every field, in any division -------------------------------------------------

PROMPTS, G, C = 8, 2, 6
ROWS = PROMPTS * G


def rollout_batch() -> RolloutBatch:
    """Completions whose token ids are their places, with other lengths for each."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, C + 1, (ROWS, 1), generator=draw)
    mask = torch.arange(C)[None] < lengths
    noise = torch.randn(4, ROWS, C, generator=draw, dtype=torch.float64) * 0.3
    nothing = tuple(torch.zeros(0) for _ in range(PROMPTS))
    rollout = Rollout(
        prompts=PromptInputs(nothing, nothing, nothing),  # type: ignore[arg-type]
        completion_ids=torch.arange(ROWS * C).view(ROWS, C), mask=mask, logps=noise[0],
        texts=("",) * ROWS, group_size=G, end_ids=(), prompt_lengths=(0,) * PROMPTS,
    )  # fmt: skip
    rewards = torch.zeros(ROWS, 1)
    advantages = torch.randn(ROWS, generator=draw, dtype=torch.float64)
    return RolloutBatch(
        samples=tuple(Sample(str(i), Clip(Path("x")), "") for i in range(PROMPTS)),
        rollout=rollout, rewards=rewards, reward_names=("any",), advantages=advantages,
        group_rewards=rewards,
        loss_mask=mask & (torch.rand(ROWS, C, generator=draw) > 0.1),
        ref_logps=noise[1] - 1, old_logps=noise[2], importance_weights=noise[3].exp(),
    )  # fmt: skip


BATCH = rollout_batch()
LOGPS = torch.randn(ROWS * C, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.3
ENTROPIES = torch.rand(ROWS * C, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def steps_of(num_ranks: int, steps: int) -> Iterator[list[tuple[RolloutBatch, RolloutBatch]]]:
    """What each rank has of the rollout and of each optimizer step, dealt as the sampler does."""
    ranks = [BATCH.select(range(rank, PROMPTS, num_ranks)) for rank in range(num_ranks)]
    for parts in zip(*(own.steps(steps) for own in ranks), strict=True):
        yield list(zip(ranks, parts, strict=True))


def totals_of(
    ranks: list[tuple[RolloutBatch, RolloutBatch]], steps: int
) -> tuple[list[RolloutBatch], StepTotals]:
    """Each rank's share of a step, and what all of them count."""
    counts: list[Tensor] = []

    def own(counted: Tensor) -> Tensor:
        counts.append(counted)
        return counted

    for whole, step in ranks:
        step_totals(whole, step, steps, len(ranks), own)
    found = step_totals(*ranks[0], steps, len(ranks), lambda _: torch.stack(counts).sum(0))
    return [step for _, step in ranks], found


def gradients(config: GRPOLossConfig, num_ranks: int, size: int | None, steps: int) -> list[Tensor]:
    """Of each optimizer step, in log-probabilities and entropies: the mean over the ranks."""
    found = []
    for ranks in steps_of(num_ranks, steps):
        if config.top_entropy_quantile < 1:
            everyone = torch.cat(
                [ENTROPIES[step.rollout.completion_ids[step.loss_mask]] for _, step in ranks]
            )
            least = entropy_threshold(everyone, config.top_entropy_quantile)
            ranks = [
                (whole, replace(step, entropy_mask=step.loss_mask
                                & (ENTROPIES[step.rollout.completion_ids] >= least)))
                for whole, step in ranks
            ]  # fmt: skip
        shares, totals = totals_of(ranks, steps)
        leaves = [LOGPS.clone().requires_grad_(), ENTROPIES.clone().requires_grad_()]
        for step in shares:
            for part in step.micro_batches(size):
                places = part.rollout.completion_ids
                loss = part.loss(leaves[0][places], leaves[1][places], config, totals).loss
                (loss / num_ranks).backward()
        zero = torch.zeros_like(LOGPS)
        found.append(torch.cat([zero if leaf.grad is None else leaf.grad for leaf in leaves]))
    return found


def loss_of(options: dict[str, Any]) -> GRPOLossConfig:
    return GRPOLossConfig(**{"max_completion_length": C, **options})


@pytest.mark.parametrize("field", LOSS_CASES)
@pytest.mark.parametrize("steps", [1, 2])
def test_the_loss_of_a_step_is_that_of_any_division(field: str, steps: int) -> None:
    values, companions = LOSS_CASES[field]
    for value in values:
        for beside in companions:
            config = loss_of({**beside, field: value})
            whole = gradients(config, 1, None, steps)
            plain = gradients(loss_of(beside), 1, None, steps)
            # A case that changes nothing would show nothing.
            if config.loss_type != "cispo" or field != "importance_sampling_level":
                assert any(
                    (a - b).norm() > 1e-3 * a.norm() for a, b in zip(whole, plain, strict=True)
                )
            for num_ranks, size in ((1, 1), (1, 3), (2, None), (2, 1), (4, 1)):
                divided = gradients(config, num_ranks, size, steps)
                for one, other in zip(whole, divided, strict=True):
                    assert (one - other).norm() < 1e-9 * one.norm(), (config, num_ranks, size)


# Whole trainings ------------------------------------------------------------------------------

Train = Callable[..., GRPOModule]
# Set by every combination to values of their own, for the sake of short runs.
FOR_SPEED = [f.name for f in fields(GRPOConfig) if not is_default(f, BASE)]
NOT_SHOWN = {*NOT_OF_THE_LOSS, *FOR_SPEED, "groups_across_ranks", "loss"}
SHOWN = [f.name for f in fields(GRPOConfig) if f.name not in NOT_SHOWN]


@pytest.fixture(scope="module")
def train(mini_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Train]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1]))
        yield partial(fit, mini_world, tmp_path_factory.mktemp("runs"), seen=EndsEarly)


@pytest.fixture(scope="module")
def undivided(train: Train) -> Callable[[str], Tensor]:
    """The moments that a combination's gradients leave, each step in one pass."""
    return cache(lambda name: moments(train(COMBINATIONS[name], num_steps(COMBINATIONS[name]))))


@pytest.mark.parametrize("name", COMBINATIONS)
def test_any_division_into_passes_gives_the_same_gradient(
    train: Train, undivided: Callable[[str], Tensor], name: str
) -> None:
    grpo, whole = COMBINATIONS[name], undivided(name)
    assert whole.norm() > 0
    # As many parts as a step has prompts, or uneven ones of 3 and 1.
    size = 1 if grpo.steps_per_generation == 2 else 3
    divided = moments(train(replace(grpo, micro_batch_size=size), num_steps(grpo)))
    assert (whole - divided).norm() < 1e-4 * whole.norm()


class _SaveAt(L.Callback):
    """Writes a checkpoint after some optimizer steps, as a run does."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("name", COMBINATIONS)
def test_a_resumed_run_ends_like_an_uninterrupted_one(
    train: Train, tmp_path: Path, name: str
) -> None:
    grpo = replace(COMBINATIONS[name], micro_batch_size=1)
    steps, half = grpo.num_iterations * grpo.steps_per_generation, tmp_path / "half.ckpt"
    whole = weights(train(grpo, 2 * steps, batch_size=2, callbacks=[_SaveAt(steps, half)]))
    resumed = train(grpo, 2 * steps, batch_size=2, ckpt_path=half)
    assert resumed.global_step == 2 * steps
    now = weights(resumed)
    assert all(torch.equal(whole[name], now[name]) for name in whole)


@pytest.mark.parametrize("field", SHOWN)
def test_an_option_of_a_combination_changes_what_is_learned(
    train: Train, undivided: Callable[[str], Tensor], field: str
) -> None:
    """Or the comparisons would show nothing of it."""
    default = getattr(GRPOConfig(), field)
    [(name, grpo), *_] = [
        (name, grpo) for name, grpo in COMBINATIONS.items() if getattr(grpo, field) != default
    ]
    plain = replace(grpo, **{field: default}, loss=replace(grpo.loss, temperature=1.0))
    without, with_it = moments(train(plain, num_steps(grpo))), undivided(name)
    assert (without - with_it).norm() > 1e-3 * with_it.norm()
