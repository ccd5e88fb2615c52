"""The loss of an optimizer step is the same however it is divided, for every value of an option.

In float64, on log-probabilities drawn at random; `test_option_matrix.py` has whole trainings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from option_values import options_of, values_of
from torch import Tensor

from r1omni.ops import GRPOLossConfig, MaskedModality, StepTotals
from r1omni.ops.loss_config import LossType
from r1omni.ops.step_totals import entropy_threshold
from r1omni.training.batch import RolloutBatch, step_totals
from r1omni.types import Clip, PromptInputs, Rollout, Sample, UsageError

LOSSES: tuple[str, ...] = get_args(LossType)
# What says nothing in the formula.
NO_FORMULA = {"temperature": "the log-probabilities were taken at it"}
# Each field beside every loss; and what only shows beside another option.
BESIDE: dict[str, list[dict[str, Any]]] = {"entropy_coef": [{}, {"top_entropy_quantile": 0.4}]}


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
    loss_mask = mask & (torch.rand(ROWS, C, generator=draw) > 0.1)
    describing = torch.rand(ROWS, C, 2, generator=draw) > 0.6
    return RolloutBatch(
        samples=tuple(Sample(str(i), Clip(Path("x")), "") for i in range(PROMPTS)),
        rollout=rollout, rewards=rewards, reward_names=("any",), advantages=advantages,
        group_rewards=rewards,
        loss_mask=loss_mask,
        evidence=describing & loss_mask[..., None] & (advantages > 0)[:, None, None],
        ref_logps=noise[1] - 1, old_logps=noise[2], importance_weights=noise[3].exp(),
    )  # fmt: skip


BATCH = rollout_batch()
LOGPS = torch.randn(ROWS * C, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.3
ENTROPIES = torch.rand(ROWS * C, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
MASKED = torch.randn(ROWS * C, 2, generator=torch.Generator().manual_seed(3)).double() * 0.3


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
    """Of each optimizer step, in log-probabilities, entropies and log-probabilities without media:
    the mean over the ranks.
    """
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
        leaves = [values.clone().requires_grad_() for values in (LOGPS, ENTROPIES, MASKED)]
        for step in shares:
            for part in step.micro_batches(size):
                places = part.rollout.completion_ids
                # The masked-modality term is beside whatever loss is tried.
                given = leaves[0][places], leaves[1][places], config, totals
                loss = part.loss(*given, MaskedModality(0.3), leaves[2][places]).loss
                (loss / num_ranks).backward()
        grads = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
        found.append(torch.cat([grad.flatten() for grad in grads]))
    return found


def loss_of(**options: Any) -> GRPOLossConfig:
    return GRPOLossConfig(**{"max_completion_length": C, **options})


def beside(field: str) -> list[dict[str, Any]]:
    """Every loss with the default of the field, and with what shows the field alone."""
    losses = ("grpo",) if field == "loss_type" else LOSSES
    return [{"loss_type": loss, **more} for loss in losses for more in BESIDE.get(field, [{}])]


@cache
def undivided(config: GRPOLossConfig, steps: int) -> list[Tensor]:
    return gradients(config, 1, None, steps)


def difference(config: GRPOLossConfig, without: GRPOLossConfig, steps: int) -> float:
    pairs = zip(undivided(config, steps), undivided(without, steps), strict=True)
    return max(float((one - other).norm() / other.norm()) for one, other in pairs)


@pytest.mark.parametrize("field", [f.name for f in fields(GRPOLossConfig)])
def test_the_loss_of_a_step_is_that_of_any_division(field: str) -> None:
    """The first value is tried beside every loss; the others beside that which shows it best."""
    shown, losses = 0.0, beside(field)
    for value in values_of(GRPOLossConfig, field, options_of(GRPOLossConfig)[field][1]):
        found = {}
        for index, more in enumerate(losses):
            try:
                config = loss_of(**{**more, field: value})
            except UsageError as error:
                assert field in str(error)  # noqa: PT017 - it names what it refuses
                continue
            for steps in (1, 2):
                check_divisions(config, steps)
            found[index] = difference(config, loss_of(**more), 2)
        assert found, f"{field} {value} is refused beside every loss"
        best = max(found, key=lambda index: found[index])
        shown, losses = max(shown, found[best]), [losses[best]]
    # A case that changes nothing would show nothing.
    assert (shown == 0) if field in NO_FORMULA else (shown > 1e-3)


def check_divisions(config: GRPOLossConfig, steps: int) -> None:
    # Micro-batches of 1, of 2 and whole, over 1, 2 and 4 ranks.
    for num_ranks, size in ((1, 1), (2, 2), (4, None)):
        divided = gradients(config, num_ranks, size, steps)
        for one, other in zip(undivided(config, steps), divided, strict=True):
            assert (one - other).norm() < 1e-9 * one.norm(), (config, num_ranks, size, steps)
