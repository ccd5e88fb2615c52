"""What a GRPO step logs: TRL's metrics, where the time went, and samples of completions."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import mean
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from r1omni.data.ranks import gathered_objects
from r1omni.ops import GRPOLoss, StepTotals, reward_metrics
from r1omni.training.advantages import compared, reward_weights
from r1omni.training.batch import RolloutBatch
from r1omni.training.grpo_config import GRPOConfig
from r1omni.training.logger import TrackingLogger
from r1omni.types import Rollout

if TYPE_CHECKING:
    from r1omni.training.grpo import GRPOModule

# Groups whose completions are kept at a logging event.
_NUM_SHOWN = 2


class StepLog:
    """Collects the figures of one rollout and its updates, then logs them in one call.

    Attributes:
        num_tokens_seen: prompt and completion tokens of all ranks since the run began.
        device: that of the run.
    """

    def __init__(self) -> None:
        self.num_tokens_seen = 0
        self.device, self._step = torch.device("cpu"), 0
        self._reset()

    def _reset(self) -> None:
        self._seconds: dict[str, float] = {}
        self._added: dict[str, float] = {}
        self._current: dict[str, list[tuple[float, float]]] = {}
        self._updates: list[dict[str, float]] = []
        self._prompt_tokens = 0
        self._drift = 0.0
        self._lag = torch.zeros(2)

    def state(self, trained: Sequence[str]) -> int:
        """What a checkpoint keeps; `trained` is not looked at."""
        return self.num_tokens_seen

    def load(self, state: int | None) -> None:
        """Take up where a checkpoint left off."""
        self.num_tokens_seen = state or 0

    def begin(self, device: torch.device, step: int) -> StepLog:
        """Forget the last rollout; `step` counts the optimizer steps before this one."""
        self.device, self._step = device, step
        self._reset()
        return self

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds of a block to `time/<name>`; what is timed inside it is its own."""
        start, inner = time.perf_counter(), sum(self._seconds.values())
        yield
        if self.device.type == "cuda":  # another stream may sample beside an update
            torch.cuda.current_stream(self.device).synchronize()
        spent = time.perf_counter() - start - (sum(self._seconds.values()) - inner)
        self._seconds[name] = self._seconds.get(name, 0.0) + spent

    def add(self, name: str, value: float) -> None:
        """A figure of this step; the last one counts."""
        self._added[name] = value

    def add_mean(self, name: str, summed: Tensor) -> None:
        """A figure of this step, as a sum and what it is divided by, [2]."""
        self.add(name, float(summed[0] / summed[1]))

    def count_prompt_tokens(self, rollout: Rollout) -> None:
        """Prompts that were read, media tokens included."""
        self._prompt_tokens += sum(rollout.prompt_lengths)

    def compare_with_sampler(self, logps: Tensor, part: RolloutBatch) -> None:
        """How far log-probabilities lie from those recorded while sampling, before any update.

        The largest difference; and k3 over the tokens, the divergence of the policy that sampled
        from the one that learns.
        """
        if not self._updates:
            # Where nothing is learned, a fused loss reads nothing.
            difference = torch.where(part.loss_mask, logps.detach() - part.rollout.logps, 0.0)
            k3 = (difference.exp() - 1 - difference).sum()
            # Told by the device at once.
            told = torch.stack([difference.abs().max(), k3, part.loss_mask.sum()]).cpu()
            self._drift = max(self._drift, float(told[0]))
            self._lag += told[1:]

    def add_loss(self, result: GRPOLoss, mask: Tensor, totals: StepTotals) -> None:
        """What a pass adds to the loss of its step, and its metrics by their share of the step.

        Args:
            result: of the pass.
            mask: bool [N, C], the tokens that it learned from.
            totals: of the step.
        """
        self._current.setdefault("loss", []).append((float(result.loss.detach()), 1.0))
        by_row, by_token = totals.share_of_completions(mask), totals.share_of_tokens(mask)
        for name, value in result.metrics.items():
            share = by_row if name in result.row_metrics else by_token
            if name in result.step_metrics:
                share = 1.0
            self._current.setdefault(name, []).append((float(value), share))

    def end_update(self) -> dict[str, float]:
        """The passes since the last call were one optimizer step; its figures on this rank."""
        update = {}
        for name, entries in self._current.items():
            values = [value for value, _ in entries]
            if name.endswith("_min"):
                update[name] = min(values)
            elif name.endswith("_max"):
                update[name] = max(values)
            else:
                update[name] = sum(value * weight for value, weight in entries)
        self._updates.append(update)
        self._current = {}
        return update

    def write(self, module: GRPOModule, batch: RolloutBatch) -> None:
        """Log the step's figures, and now and then completions."""
        completion_tokens = int(batch.rollout.mask.sum())
        names = {name for update in self._updates for name in update}
        means = {
            # Not every optimizer step of a rollout has every term.
            name: mean(update[name] for update in self._updates if name in update)
            for name in names
        }
        own = {
            **means,
            **self._added,
            **{f"time/{name}": seconds for name, seconds in self._seconds.items()},
            "tokens_per_second": completion_tokens / sum(self._seconds.values()),
            "num_tokens": float(self._prompt_tokens + completion_tokens),
            "sampling_logp_difference": self._drift,
        }
        if module.grpo.overlap_sampling:
            summed, count = module.sum_over_ranks(self._lag.to(self.device)).tolist()
            own["overlap/kl"] = summed / max(count, 1)
        everyone = gathered_objects((own, RolloutFigures.of(batch)))
        figures = [figures for _, figures in everyone]
        whole = RolloutFigures.joined(figures, module.grpo.groups_across_ranks)
        grpo = replace(module.grpo, rewards=module.reward_weights.in_force)
        metrics = {
            **joined_metrics([own for own, _ in everyone]),
            **rollout_metrics(whole, batch.reward_names, grpo),
            **module.reward_weights.figures(),
        }
        self.num_tokens_seen += int(metrics["num_tokens"])
        metrics["num_tokens"] = float(self.num_tokens_seen)
        module.log_dict(metrics, batch_size=len(batch))
        module.log("mean_reward", metrics["reward"], prog_bar=True, logger=False)
        every = module.grpo.completions_interval(module.trainer.max_steps)
        if every and module.trainer.fit_loop.total_batch_idx % every == 0:
            _log_completions(module, batch, self._step)


@dataclass(frozen=True)
class RolloutFigures:
    """What the metrics of a rollout are computed from.

    Attributes:
        lengths: float32 [N], tokens of each completion.
        ended: bool [N], whether an end token closed it.
        rewards: float32 [B * G, K], of whole groups.
    """

    lengths: Tensor
    ended: Tensor
    rewards: Tensor

    @classmethod
    def of(cls, batch: RolloutBatch) -> RolloutFigures:
        """Those of one rank."""
        lengths = batch.rollout.mask.sum(dim=1).float().cpu()
        return cls(lengths, batch.rollout.ended.cpu(), batch.group_rewards.cpu())

    @classmethod
    def joined(cls, figures: Sequence[RolloutFigures], groups_across_ranks: bool) -> RolloutFigures:
        """Those of all ranks; ranks that share their groups have the same rewards."""
        rewards = [own.rewards for own in figures]
        return cls(
            torch.cat([own.lengths for own in figures]),
            torch.cat([own.ended for own in figures]),
            rewards[0] if groups_across_ranks else torch.cat(rewards),
        )


def rollout_metrics(
    figures: RolloutFigures, names: Sequence[str], config: GRPOConfig
) -> dict[str, float]:
    """What a rollout looks like, under TRL's metric names.

    Args:
        figures: of all completions.
        names: K names of rewards.
        config: group size, weights and scaling.
    """
    lengths, ended = figures.lengths, figures.ended
    # Terminated is a completion whose last token is an end token, that is, one that something else
    # than the length limit stopped.
    finished = lengths[ended] if ended.any() else torch.zeros(1)
    metrics = {
        "completions/mean_length": lengths.mean(),
        "completions/min_length": lengths.min(),
        "completions/max_length": lengths.max(),
        "completions/clipped_ratio": 1 - ended.float().mean(),
        "completions/mean_terminated_length": finished.mean(),
        "completions/min_terminated_length": finished.min(),
        "completions/max_terminated_length": finished.max(),
        **reward_metrics(
            compared(figures.rewards, config), config.group_size, reward_weights(config, names),
            config.scale_rewards, config.aggregation,
        ),
    }  # fmt: skip
    for name, column in zip(names, figures.rewards.T, strict=True):
        given = column[~column.isnan()]
        if len(given):
            metrics[f"rewards/{name}/mean"] = given.mean()
            metrics[f"rewards/{name}/std"] = given.std() if len(given) > 1 else given.new_zeros(())
    return {name: float(value) for name, value in metrics.items()}


def joined_metrics(everyone: Sequence[dict[str, float]]) -> dict[str, float]:
    """The figures of a step over every rank: means, but smallest, largest and sums as named."""
    joined = {}
    for name in {name for own in everyone for name in own}:
        values = [own[name] for own in everyone if name in own]
        joined[name] = _joining(name.rpartition("/")[2])(values)
    return joined


def _joining(name: str) -> Callable[[list[float]], float]:
    if name in ("num_tokens", "tokens_per_second"):
        return sum
    if name.startswith("min_") or name.endswith("_min"):
        return min
    if name.startswith("max_") or name.endswith("_max") or name == "sampling_logp_difference":
        return max
    return mean


def _log_completions(module: GRPOModule, batch: RolloutBatch, step: int) -> None:
    """One artifact a logging event: the first groups with their rewards."""
    loggers = [logger for logger in module.loggers if isinstance(logger, TrackingLogger)]
    if not loggers:
        return
    size = batch.rollout.group_size
    lines = []
    for index in range(min(_NUM_SHOWN, len(batch)) * size):
        sample = batch.samples[index // size]
        values = [None if math.isnan(v) else v for v in batch.rewards[index].tolist()]
        line = {
            "step": step,
            "sample_id": sample.sample_id,
            "label": sample.label,
            "completion": batch.rollout.texts[index],
            "advantage": round(float(batch.advantages[index]), 4),
            **dict(zip(batch.reward_names, values, strict=True)),
        }
        lines.append(json.dumps(line))
    for logger in loggers:
        logger.log_text("\n".join(lines) + "\n", f"completions/step_{step:06d}.jsonl")
