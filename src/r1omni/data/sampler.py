"""Batches of similar length in an order fixed by (seed, epoch), resumable in the middle."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from r1omni.streams import permutation
from r1omni.types import UsageError

_logger = logging.getLogger(__name__)

# Batches are formed inside pools of this many batches: long enough to find neighbours of similar
# length, short enough to keep an epoch well mixed.
_POOL_BATCHES = 8
# Lengths that differ by less than this count as equal and stay shuffled. Sorting by the last
# character would put clips of one label side by side: labels are words of different lengths.
_LENGTH_STEP = 64


class LengthGroupedSampler(Sampler[list[int]]):
    """A batch sampler that shuffles, then sorts by length inside pools of eight batches.

    A batch of all ranks together is the same for any number of ranks: 2 ranks with a `batch_size`
    of 4 train on what 1 rank trains on with 8.

    Args:
        lengths: a length for every sample, in characters.
        batch_size: samples in a batch of one rank.
        drop_last: leave an incomplete last batch out. Otherwise it is dealt evenly, and what does
            not go round is left out.
        seed: the order depends on (seed, epoch) alone.
        num_replicas, rank: this process takes every `num_replicas`-th sample of a batch.
        names: of the samples, by which a resumed run knows them again.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        *,
        drop_last: bool,
        seed: int,
        num_replicas: int = 1,
        rank: int = 0,
        names: Sequence[str] = (),
    ) -> None:
        self.lengths = list(lengths)
        self.names = list(names)
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.seed = seed
        self.num_replicas = num_replicas
        self.rank = rank

    def batches(self, epoch: int) -> list[list[int]]:
        """All batches of an epoch for this rank."""
        whole = self.global_batch_size
        order = permutation(len(self.lengths), "samples", self.seed, epoch)
        # What is left out is left out before sorting: afterwards it would be the longest texts.
        order = order[: self._num_usable()]
        grouped: list[int] = []
        for start in range(0, len(order), whole * _POOL_BATCHES):
            grouped += sorted(
                order[start : start + whole * _POOL_BATCHES],
                key=lambda i: self.lengths[i] // _LENGTH_STEP,
            )
        chunks = [grouped[start : start + whole] for start in range(0, len(grouped), whole)]
        mixed = permutation(len(chunks), "batches", self.seed, epoch)
        return [chunks[i][self.rank :: self.num_replicas] for i in mixed]

    @property
    def global_batch_size(self) -> int:
        """Samples in a batch of all ranks together."""
        return self.batch_size * self.num_replicas

    def fingerprint(self) -> str:
        """Of the samples, in their order: equal for those that the same order is dealt from."""
        rows = json.dumps([self.names, self.lengths])
        return hashlib.sha256(rows.encode()).hexdigest()[:16]

    def _num_usable(self) -> int:
        """Samples of an epoch that are served, over all ranks."""
        step = self.num_replicas * (self.batch_size if self.drop_last else 1)
        return len(self.lengths) // step * step

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches(epoch=0))

    def __len__(self) -> int:
        return -(-self._num_usable() // self.global_batch_size)


class _Remaining(DistributedSampler[Any]):
    """What is left of an epoch, a rank's part of each batch at a time.

    Its type tells Lightning that samples are split over the ranks already; any other sampler is
    replaced where `use_distributed_sampler` is on, which it is unless it is switched off.
    """

    def __init__(self, sampler: LengthGroupedSampler) -> None:
        super().__init__(_Sized(len(sampler.lengths)), sampler.num_replicas, sampler.rank)
        self.sampler = sampler
        self.epoch = 0
        self.offset = 0

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.sampler.batches(self.epoch)[self.offset :])

    @property
    def next_place(self) -> tuple[int, int]:
        """Epoch and offset of the batch that comes next."""
        if self.offset >= len(self):
            return self.epoch + 1, 0
        return self.epoch, self.offset

    def __len__(self) -> int:
        # The whole epoch: Lightning counts the batches already done by itself.
        return len(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the loader counts epochs itself, those of the run it goes on with too."""


class DealtSampler(DistributedSampler[int]):
    """Indices that a rank evaluates, by `dealt`; of this type for the reason of `_Remaining`."""

    def __init__(self, count: int, rank: int, num_ranks: int) -> None:
        super().__init__(_Sized(count), num_ranks, rank, shuffle=False)
        self._indices = dealt(count, rank, num_ranks)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)


class _Sized(Dataset[int]):
    """What torch's samplers ask of a dataset, its length."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count


class _Batches(Dataset[Any]):
    """A dataset that gives the items of a list of indices, too."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._kept: tuple[list[int], list[Any]] = ([], [])

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int | list[int]) -> Any:
        if isinstance(index, list):
            indices, items = self._kept
            return items if index == indices else [self.dataset[one] for one in index]
        return self.dataset[index]

    def keep(self, indices: list[int]) -> list[Any]:
        """Items that are read now, and not once more when the loader comes to them."""
        self._kept = indices, self[indices]
        return self._kept[1]


class ResumableLoader(DataLoader[Any]):
    """A loader that knows which batch of which epoch comes next.

    Lightning stores `state_dict` with every checkpoint and hands it back on resume.
    """

    def __init__(self, dataset: Any, sampler: LengthGroupedSampler, **options: Any) -> None:
        self._position = _Remaining(sampler)
        self._batches = _Batches(dataset)
        # Of an epoch that `following` looked into; sorting takes long where samples are many.
        self._orders: dict[int, list[list[int]]] = {}
        # Not as `batch_sampler`, beside which there is another sampler that Lightning would see.
        super().__init__(self._batches, sampler=self._position, batch_size=None, **options)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        position = self._position
        position.epoch, position.offset = position.next_place
        for batch in super().__iter__():
            # Counted before the step runs: a checkpoint taken after the step is past this batch.
            position.offset += 1
            yield batch

    def following(self) -> Any:
        """The batch that comes after the one handed out last, of the next epoch after the last."""
        epoch, offset = self._position.next_place
        if epoch not in self._orders:
            self._orders = {epoch: self._position.sampler.batches(epoch)}
        return self.collate_fn(self._batches.keep(self._orders[epoch][offset]))

    def state_dict(self) -> dict[str, int | str]:
        """The epoch, the number of its batches handed out, and what they are batches of."""
        position, sampler = self._position, self._position.sampler
        return {
            "epoch": position.epoch,
            "offset": position.offset,
            "seed": sampler.seed,
            "global_batch_size": sampler.global_batch_size,
            "num_samples": len(sampler.lengths),
            "samples": sampler.fingerprint(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue after the batches that `state` counts.

        The number of ranks may differ, the batch of all of them together may not: an epoch in the
        middle would show some samples twice and others never.

        Raises:
            UsageError: the state belongs to other batches or to another order of the samples.
        """
        sampler = self._position.sampler
        if state["seed"] != sampler.seed:
            raise UsageError(
                f"data.loader.seed is {sampler.seed}, but the checkpoint was trained with "
                f"{state['seed']}; resume with the same seed"
            )
        if "global_batch_size" not in state:  # of an earlier release
            _logger.warning(
                "the checkpoint does not say on which samples and with which batch size it was "
                "trained; its place in the data is right for those of its own run alone"
            )
        elif state["global_batch_size"] != sampler.global_batch_size:
            raise UsageError(
                f"data.loader.batch_size is {sampler.batch_size} on each of {sampler.num_replicas} "
                f"ranks, but the checkpoint was trained with {state['global_batch_size']} samples "
                f"in a batch of all ranks; resume with as many, or start a new run from the "
                "exported checkpoint"
            )
        elif state["samples"] != sampler.fingerprint():
            raise UsageError(
                f"data.train has other samples than the checkpoint's run: {len(sampler.lengths)}, "
                f"and {state['num_samples']} there; resume with the same data.train and the same "
                "readable clips, or start a new run from the exported checkpoint"
            )
        self._position.epoch = state["epoch"]
        self._position.offset = state["offset"]


def dealt(count: int, rank: int, num_ranks: int) -> list[int]:
    """Indices that a rank evaluates: every `num_ranks`-th of `count`.

    All ranks have as many, since they compute each batch together: where `count` does not go round,
    the last ranks do the last sample once more.
    """
    return [min(index + rank, count - 1) for index in range(0, count, num_ranks)]
