"""An entropy bonus that comes and goes with the entropy (Skywork-OR1, arXiv 2505.22312).

With H_k the mean entropy of the tokens that optimizer step k learned from, over all its
micro-batches and ranks, and c_0 = `grpo.loss.entropy_coef`,

    c_(k+1) = min(c_k + delta, max) if H_k <= target else max(c_k - delta, min)
    coefficient of step k+1 = c_(k+1) if H_k <= target else 0

The paper has the entropy of the step itself in the last line. That is known only when its last
micro-batch has been computed, so it is that of the step before, as in TRL; the first step has no
bonus. TRL measures the entropy of the tokens that `top_entropy_quantile` keeps; here it is that of
all of them, the figure that is logged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from r1omni.ops import StepTotals
from r1omni.options import Conditions, OnlyWith, Ranges, above, at_least, check_options
from r1omni.types import UsageError

if TYPE_CHECKING:
    from r1omni.training.grpo_config import GRPOConfig
    from r1omni.training.grpo_log import StepLog

_WITH_A_TARGET = OnlyWith("target", "other than None", lambda c: c.target is not None)


@dataclass(frozen=True)
class AdaptiveEntropy:
    """The entropy to hold, and how fast the coefficient of the bonus follows.

    Attributes:
        target: nats a token, below which there is a bonus; None leaves `loss.entropy_coef` as it
            is.
        coef_delta: what an optimizer step adds to the coefficient, or takes from it.
        coef_min: smallest coefficient.
        coef_max: largest coefficient.

    Raises:
        UsageError: a number out of range, an option that has no effect, or bounds that cross.
    """

    target: float | None = None
    coef_delta: float = 0.005
    coef_min: float = 0.0
    coef_max: float = 1.0

    RANGES: ClassVar[Ranges] = {
        "target": above(0),
        "coef_delta": above(0),
        "coef_min": at_least(0),
        "coef_max": above(0),
    }
    ONLY_WITH: ClassVar[Conditions] = {
        "coef_delta": _WITH_A_TARGET,
        "coef_min": _WITH_A_TARGET,
        "coef_max": _WITH_A_TARGET,
    }

    def __post_init__(self) -> None:
        check_options(self, "grpo.adaptive_entropy.")
        if self.coef_min >= self.coef_max:
            raise UsageError(
                f"grpo.adaptive_entropy.coef_min {self.coef_min} is not below coef_max "
                f"{self.coef_max}; lower the one or raise the other"
            )


class EntropyCoefficient:
    """The coefficient of the entropy bonus in a run, which checkpoints keep where it adapts.

    Every rank has one of its own; all of them are told the same entropies, so they agree.

    Args:
        config: of the run.
    """

    def __init__(self, config: GRPOConfig) -> None:
        self._run = config
        self._adaptive = config.adaptive_entropy
        self._coef, self._entropy = config.loss.entropy_coef, math.inf

    @property
    def adapts(self) -> bool:
        """Whether it is to be told of entropies."""
        return self._adaptive.target is not None

    @property
    def in_force(self) -> float:
        """The coefficient of the next optimizer step."""
        target = self._adaptive.target
        return self._coef if target is None or self._entropy <= target else 0.0

    def config_in_force(self) -> GRPOConfig:
        """The choices of the run, its coefficient that of the next optimizer step.

        Entropies are computed in any case. Without a bonus they need no gradient, so that such a
        step may be fused.
        """
        if not self.adapts:
            return self._run
        loss = replace(self._run.loss, entropy_coef=self.in_force)
        return replace(self._run, loss=loss, adaptive_entropy=AdaptiveEntropy(), log_entropy=True)

    def end_update(
        self, log: StepLog, totals: StepTotals, sum_over_ranks: Callable[[Tensor], Tensor]
    ) -> None:
        """End an optimizer step in the log, and follow its entropy; all ranks call this together.

        Args:
            log: of the step; its entropy is this rank's share of the mean over all ranks.
            totals: of the step.
            sum_over_ranks: adds up what each rank has of a tensor.
        """
        figures = log.end_update()
        if not self.adapts:
            return
        log.add("entropy_coef", self.in_force)
        if totals.tokens:
            summed = sum_over_ranks(torch.tensor(figures["entropy"], device=log.device))
            self.observe(float(summed) / totals.world_size)

    def observe(self, entropy: float) -> None:
        """The mean entropy of an optimizer step, in nats a token over all ranks."""
        adaptive = self._adaptive
        assert adaptive.target is not None
        self._entropy = entropy
        if entropy <= adaptive.target:
            self._coef = min(self._coef + adaptive.coef_delta, adaptive.coef_max)
        else:
            self._coef = max(self._coef - adaptive.coef_delta, adaptive.coef_min)

    def state(self, trained: Sequence[str]) -> dict[str, float] | None:
        """What a checkpoint keeps; `trained` is not looked at."""
        return {"coef": self._coef, "entropy": self._entropy} if self.adapts else None

    def load(self, state: Mapping[str, float] | None) -> None:
        """Take up where a checkpoint left off, within the bounds of this run."""
        if state is not None and self.adapts:
            bounds = self._adaptive.coef_min, self._adaptive.coef_max
            self._coef = min(max(state["coef"], bounds[0]), bounds[1])
            self._entropy = state["entropy"]
