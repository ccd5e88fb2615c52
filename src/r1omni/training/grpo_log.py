"""What a GRPO step logs: TRL's metrics, where the time went, and samples of completions."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import mean
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from r1omni.data.ranks import gathered_objects
from r1omni.ops import GRPOLoss, StepTotals
from r1omni.training.experience import Experience
from r1omni.training.logger import TrackingLogger
from r1omni.training.rollout import RolloutFigures, rollout_metrics
from r1omni.types import Rollout

if TYPE_CHECKING:
    from r1omni.training.grpo import GRPOModule

# Groups whose completions are kept at a logging event.
_NUM_SHOWN = 2


class StepLog:
    """Collects the figures of one rollout and its updates, then logs them in one call.

    Attributes:
        num_tokens_seen: prompt and completion tokens of all ranks since the run began.
    """

    def __init__(self) -> None:
        self.num_tokens_seen = 0
        self._device, self._step = torch.device("cpu"), 0
        self._reset()

    def _reset(self) -> None:
        self._seconds: dict[str, float] = {}
        self._added: dict[str, float] = {}
        self._current: dict[str, list[tuple[float, float]]] = {}
        self._updates: list[dict[str, float]] = []
        self._prompt_tokens = 0
        self._drift = 0.0

    def begin(self, device: torch.device, step: int) -> StepLog:
        """Forget the last rollout; `step` counts the optimizer steps before this one."""
        self._device, self._step = device, step
        self._reset()
        return self

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds of a block to `time/<name>`; what is timed inside it is its own."""
        start, inner = time.perf_counter(), sum(self._seconds.values())
        yield
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        spent = time.perf_counter() - start - (sum(self._seconds.values()) - inner)
        self._seconds[name] = self._seconds.get(name, 0.0) + spent

    def add(self, name: str, value: float) -> None:
        """A figure of this step; the last one counts."""
        self._added[name] = value

    def count_prompt_tokens(self, embedded: Sequence[Tensor]) -> None:
        """Prompts that were read, media tokens included."""
        self._prompt_tokens += sum(map(len, embedded))

    def compare_with_sampler(self, logps: Tensor, rollout: Rollout) -> None:
        """How far log-probabilities lie from those recorded while sampling, before any update."""
        if not self._updates:
            difference = (logps.detach() - rollout.logps).abs()[rollout.mask]
            self._drift = max(self._drift, float(difference.max()))

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
            self._current.setdefault(name, []).append((float(value), share))

    def end_update(self) -> None:
        """The passes since the last call were one optimizer step."""
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

    def write(self, module: GRPOModule, experience: Experience) -> None:
        """Log the step's figures, and now and then completions."""
        completion_tokens = int(experience.rollout.mask.sum())
        names = {name for update in self._updates for name in update}
        means = {
            name: sum(update[name] for update in self._updates) / len(self._updates)
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
        everyone = gathered_objects((own, RolloutFigures.of(experience.group)))
        figures = [figures for _, figures in everyone]
        whole = RolloutFigures.joined(figures, module.grpo.groups_across_ranks)
        metrics = {
            **joined_metrics([own for own, _ in everyone]),
            **rollout_metrics(whole, experience.group.reward_names, module.grpo),
        }
        self.num_tokens_seen += int(metrics["num_tokens"])
        metrics["num_tokens"] = float(self.num_tokens_seen)
        module.log_dict(metrics, batch_size=len(experience))
        module.log("mean_reward", metrics["reward"], prog_bar=True, logger=False)
        every = module.grpo.completions_interval(module.trainer.max_steps)
        if every and module.trainer.fit_loop.total_batch_idx % every == 0:
            _log_completions(module, experience, self._step)


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


def _log_completions(module: GRPOModule, experience: Experience, step: int) -> None:
    """One artifact a logging event: the first groups with their rewards."""
    loggers = [logger for logger in module.loggers if isinstance(logger, TrackingLogger)]
    if not loggers:
        return
    group, size = experience.group, experience.rollout.group_size
    lines = []
    for index in range(min(_NUM_SHOWN, len(experience)) * size):
        sample = experience.samples[index // size]
        values = [None if math.isnan(v) else v for v in group.rewards[index].tolist()]
        line = {
            "step": step,
            "sample_id": sample.sample_id,
            "label": sample.label,
            "completion": group.rollout.texts[index],
            "advantage": round(float(group.advantages[index]), 4),
            **dict(zip(group.reward_names, values, strict=True)),
        }
        lines.append(json.dumps(line))
    for logger in loggers:
        logger.log_text("\n".join(lines) + "\n", f"completions/step_{step:06d}.jsonl")
