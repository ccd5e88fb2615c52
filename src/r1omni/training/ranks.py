"""How the completions of a rollout are split over ranks: whole groups, or members of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F

from r1omni.training.grpo_config import GRPOConfig
from r1omni.types import Sample, UsageError


@dataclass(frozen=True)
class RankLayout:
    """One rank's part in the groups of all ranks.

    Attributes:
        rank: of this process.
        num_ranks: of the run.
        group_size: G, completions of a whole group.
        across_ranks: each rank has G / num_ranks members of every group; otherwise it has groups
            of its own.
        gather: a tensor of one rank to those of all ranks, [num_ranks, ...].

    Raises:
        UsageError: groups cannot be split evenly.
    """

    rank: int
    num_ranks: int
    group_size: int
    across_ranks: bool
    gather: Callable[[Tensor], Tensor]

    def __post_init__(self) -> None:
        if self.across_ranks and self.group_size % self.num_ranks:
            raise UsageError(
                f"grpo.groups_across_ranks splits groups of {self.group_size} over "
                f"{self.num_ranks} ranks; make grpo.group_size a multiple of the number of ranks"
            )

    @classmethod
    def of(cls, module: L.LightningModule, config: GRPOConfig) -> RankLayout:
        """That of a module's process in its run."""

        def gather(values: Tensor) -> Tensor:
            everyone = module.all_gather(values.to(module.device))
            assert isinstance(everyone, Tensor)
            return everyone.cpu().view(module.trainer.world_size, *values.shape)

        ranks = module.trainer.global_rank, module.trainer.world_size
        return cls(*ranks, config.group_size, config.groups_across_ranks, gather)

    @property
    def members(self) -> range:
        """Which members of each of its groups this rank samples."""
        if not self.across_ranks:
            return range(self.group_size)
        count = self.group_size // self.num_ranks
        return range(self.rank * count, (self.rank + 1) * count)

    def rows(self, samples: Sequence[Sample]) -> list[tuple[str, int]]:
        """Sample and member of each completion that this rank samples, group members together."""
        return [(sample.sample_id, member) for sample in samples for member in self.members]

    def whole_groups(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [N, K] of this rank to those of the groups it has a part in, and their places.

        Returns:
            float [B * G, K], members side by side, and long [N], which of them are this rank's.
        """
        if not self.across_ranks:
            return values, torch.arange(len(values))
        everyone = self.gather(values)  # [ranks, B * members, K]
        of_prompts = everyone.unflatten(1, (-1, len(self.members))).transpose(0, 1)
        rows = of_prompts.reshape(-1, values.shape[1])
        places = torch.arange(len(rows)).view(-1, self.num_ranks, len(self.members))
        return rows, places[:, self.rank].flatten()

    def whole_batch(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The same for the groups of all ranks."""
        if self.across_ranks:
            return self.whole_groups(values)
        rows = self.gather(values).reshape(-1, values.shape[1])
        start = self.rank * len(values)
        return rows, torch.arange(start, start + len(values))

    def fewest(self, count: int) -> int:
        """The smallest of the ranks' counts."""
        return int(self.gather(torch.tensor(count)).min())

    def gathered(self, values: Tensor) -> Tensor:
        """What is not NaN in the values [N, C] of all ranks, in one row; C may differ."""
        longest = -self.fewest(-values.shape[1])
        padded = F.pad(values, (0, longest - values.shape[1]), value=float("nan"))
        everyone = self.gather(padded)
        return everyone[~everyone.isnan()]
