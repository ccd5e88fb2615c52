"""When a reward weighs: from the start, later, or once another one is earned; and its ramp.

Rewards of the reasoning that come late, behind a gate, disturb the answers less than those that are
there from the first step (EmotionThinker, arXiv 2601.15668). The rules here are our own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from r1omni.options import FINITE, Ranges, above, at_least, check_options

if TYPE_CHECKING:
    from r1omni.rewards.spec import RewardSpec


@dataclass(frozen=True)
class RewardGate:
    """What opens a reward: the running mean of a reward of the same run has passed a value.

    With x_t the mean of the watched reward over all completions of rollout t and r the rate,

        s_t = (1 - r) s_(t-1) + r x_t,  w_t = (1 - r) w_(t-1) + r,  mean_t = s_t / w_t

    from s_0 = w_0 = 0, so that the first rollouts are not drawn towards 0 (Adam's correction,
    arXiv 1412.6980). Silence counts in x_t as it does in advantages. A rollout that the watched
    reward does not apply to changes nothing. A gate that is open stays open.

    Attributes:
        reward: name of the reward that is watched, which may have weight 0.
        threshold: value that the running mean has to exceed.
        rate: share of the newest rollout in the running mean.

    Raises:
        UsageError: a number out of its range.
    """

    reward: str
    threshold: float
    rate: float = 0.1

    RANGES: ClassVar[Ranges] = {"threshold": FINITE, "rate": above(0, 1)}

    def __post_init__(self) -> None:
        check_options(self, "grpo.rewards[].schedule.gate.")


@dataclass(frozen=True)
class RewardSchedule:
    """From when on a reward weighs, and over how many optimizer steps its weight grows.

    A rollout has one set of weights, those of the optimizer step that it begins with. Until the
    reward begins its weight is 0: it is computed and logged, and nothing is learned from it.

    Attributes:
        start_step: optimizer step that it begins at, at the earliest.
        ramp_steps: optimizer steps from its beginning, with weight 0, to its full weight, which
            grows linearly; 0 begins with the full weight.
        gate: what has to be reached as well, from `start_step` on; None asks for nothing.

    Raises:
        UsageError: a number out of its range.
    """

    start_step: int = 0
    ramp_steps: int = 0
    gate: RewardGate | None = None

    RANGES: ClassVar[Ranges] = {"start_step": at_least(0), "ramp_steps": at_least(0)}

    def __post_init__(self) -> None:
        check_options(self, "grpo.rewards[].schedule.")

    def share(self, step: int, opened: int | None) -> float:
        """The share of the weight at an optimizer step, 0 to 1.

        Args:
            step: optimizer steps before this one.
            opened: step that the gate opened at, or None; without a gate it is not looked at.
        """
        begins = self.start_step if self.gate is None else opened
        if begins is None or step < begins:
            return 0.0
        return 1.0 if not self.ramp_steps else min(1.0, (step - begins) / self.ramp_steps)


@dataclass
class _Watch:
    """A gate in a run: its running mean as s_t and w_t, and the step that it opened at."""

    gate: RewardGate
    summed: float = 0.0
    counted: float = 0.0
    opened: int | None = None

    @property
    def mean(self) -> float | None:
        return self.summed / self.counted if self.counted else None

    def add(self, value: float) -> None:
        keep = 1 - self.gate.rate
        self.summed = keep * self.summed + self.gate.rate * value
        self.counted = keep * self.counted + self.gate.rate


class RewardWeights:
    """The weights in force in a run, and what they depend on, which checkpoints keep.

    Every rank has one of its own; all of them are told the same means, so they agree.

    Args:
        specs: the rewards of the run.
    """

    def __init__(self, specs: Sequence[RewardSpec]) -> None:
        self._specs = tuple(specs)
        self._step = 0
        self._seen: dict[str, float] = {}  # of the rollout that is going on
        self._watches = {
            spec.name: _Watch(spec.schedule.gate)
            for spec in specs
            if spec.schedule is not None and spec.schedule.gate is not None
        }

    @property
    def has_gates(self) -> bool:
        """Whether weights depend on what is earned, so that `observe` has to be told."""
        return bool(self._watches)

    def begin(self, step: int) -> list[RewardSpec]:
        """The rewards with their weights of the rollout that begins at an optimizer step."""
        self._step, self._seen = step, {}
        return self.in_force

    @property
    def in_force(self) -> list[RewardSpec]:
        """The rewards with the weights of the rollout that `begin` was told of last."""
        return [
            spec
            if spec.schedule is None
            else replace(spec, weight=spec.weight * self._share(spec), schedule=None)
            for spec in self._specs
        ]

    def _share(self, spec: RewardSpec) -> float:
        assert spec.schedule is not None
        watch = self._watches.get(spec.name)
        opened = None if watch is None else watch.opened
        # What opens during a rollout counts from the next on.
        return spec.schedule.share(self._step, opened)

    def observe(self, means: Mapping[str, float]) -> None:
        """What the rollout earns.

        Args:
            means: of each reward over the completions of all ranks; NaN where it says nothing.
        """
        self._seen = dict(means)

    def end_rollout(self) -> None:
        """Take the rollout into the running means; gates that it opens open at the next step.

        Not before: a run that is told to stop gives up a rollout, and has it again when it resumes.
        """
        for spec in self._specs:
            watch = self._watches.get(spec.name)
            if watch is None or math.isnan(self._seen[watch.gate.reward]):
                continue
            watch.add(self._seen[watch.gate.reward])
            mean, following = watch.mean, self._step + 1
            assert spec.schedule is not None and mean is not None
            passed = mean > watch.gate.threshold and following >= spec.schedule.start_step
            if passed and watch.opened is None:
                watch.opened = following

    def figures(self) -> dict[str, float]:
        """What is logged of rewards with a schedule: the weight of the rollout, the gate's mean."""
        found = {}
        for spec, now in zip(self._specs, self.in_force, strict=True):
            if spec.schedule is not None:
                found[f"rewards/{spec.name}/weight"] = now.weight
        for name, watch in self._watches.items():
            if watch.mean is not None:
                found[f"rewards/{name}/gate_mean"] = watch.mean
        return found

    def state(self, trained: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What a checkpoint keeps; `trained` is not looked at."""
        return {
            name: {
                "reward": watch.gate.reward,
                "summed": watch.summed,
                "counted": watch.counted,
                "opened": watch.opened,
            }
            for name, watch in self._watches.items()
        }

    def load(self, state: Mapping[str, Mapping[str, Any]] | None) -> None:
        """Take up where a checkpoint left off.

        A gate that it does not have, or that watched another reward there, begins anew: the run is
        resumed with other settings, which is said where settings are compared.
        """
        for name, kept in (state or {}).items():
            watch = self._watches.get(name)
            if watch is not None and watch.gate.reward == kept["reward"]:
                watch.summed, watch.counted = kept["summed"], kept["counted"]
                watch.opened = kept["opened"]
