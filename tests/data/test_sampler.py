"""The order of training batches: fixed by (seed, epoch), shared by ranks, resumable."""

from __future__ import annotations

import copy
import random
from itertools import pairwise

import pytest
import torch
from torch.utils.data import Dataset

from r1omni.data.sampler import LengthGroupedSampler, ResumableLoader, dealt
from r1omni.types import UsageError


def lengths_of(count: int) -> list[int]:
    generator = random.Random(count)
    return [generator.randrange(1000) for _ in range(count)]


def sampler_of(count: int, batch_size: int, **changes: object) -> LengthGroupedSampler:
    options: dict = {"drop_last": False, "seed": 5} | changes
    return LengthGroupedSampler(lengths_of(count), batch_size, **options)


class Numbers(Dataset[int]):
    """Sample i is the number i."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return index


def loader_of(count: int, batch_size: int, **changes: object) -> ResumableLoader:
    sampler = sampler_of(count, batch_size, **changes)
    return ResumableLoader(Numbers(count), sampler, collate_fn=list)


SIZES = [(1, 1), (1, 4), (7, 2), (16, 4), (17, 4), (100, 8), (131, 3)]


@pytest.mark.parametrize(("count", "batch_size"), SIZES)
def test_an_epoch_holds_every_sample_once(count: int, batch_size: int) -> None:
    sampler = sampler_of(count, batch_size)
    for epoch in range(3):
        batches = sampler.batches(epoch)
        assert sorted(index for batch in batches for index in batch) == list(range(count))
        assert all(0 < len(batch) <= batch_size for batch in batches)
        assert len(batches) == len(sampler) == -(-count // batch_size)
    assert list(sampler) == sampler.batches(0)


@pytest.mark.parametrize(("count", "batch_size"), SIZES)
def test_drop_last_leaves_whole_batches(count: int, batch_size: int) -> None:
    sampler = sampler_of(count, batch_size, drop_last=True)
    batches = sampler.batches(0)
    assert len(batches) == len(sampler) == count // batch_size
    assert all(len(batch) == batch_size for batch in batches)
    served = [index for batch in batches for index in batch]
    assert len(set(served)) == len(served) == count // batch_size * batch_size


def test_the_order_is_fixed_by_seed_and_epoch() -> None:
    wanted = sampler_of(100, 8).batches(2)
    torch.manual_seed(1234)
    assert sampler_of(100, 8).batches(2) == wanted
    assert sampler_of(100, 8).batches(3) != wanted
    assert sampler_of(100, 8, seed=6).batches(2) != wanted
    orders = [
        str(sampler_of(100, 8, seed=seed).batches(epoch)) for seed in range(5) for epoch in range(5)
    ]
    assert len(set(orders)) == len(orders)


@pytest.mark.parametrize(("count", "batch_size"), [(100, 4), (101, 4), (64, 2), (9, 2), (5, 4)])
@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("num_replicas", [2, 3, 4])
def test_ranks_do_together_what_one_process_does_with_larger_batches(
    count: int, batch_size: int, drop_last: bool, num_replicas: int
) -> None:
    whole = sampler_of(count, batch_size * num_replicas, drop_last=drop_last).batches(1)
    ranks = [
        sampler_of(count, batch_size, drop_last=drop_last, num_replicas=num_replicas, rank=rank)
        for rank in range(num_replicas)
    ]
    shares = [sampler.batches(1) for sampler in ranks]
    assert {len(share) for share in shares} == {len(sampler) for sampler in ranks}
    for parts in zip(*shares, strict=True):
        assert len({len(part) for part in parts}) == 1  # every rank has as much to do
    together = [sorted(i for part in parts for i in part) for parts in zip(*shares, strict=True)]
    wanted = [sorted(batch) for batch in whole]
    if count % num_replicas == 0 or drop_last:
        assert together == wanted
    else:  # only what does not go round is left out
        left_out = {i for b in wanted for i in b} - {i for b in together for i in b}
        assert len(left_out) == count % num_replicas


def test_batches_are_of_similar_length() -> None:
    count, batch_size = 640, 8
    sampler = sampler_of(count, batch_size)
    lengths = sampler.lengths

    def mean_spread(batches: list[list[int]]) -> float:
        spreads = [
            max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in batches
        ]
        return sum(spreads) / len(spreads)

    order = list(range(count))
    random.Random(0).shuffle(order)
    mixed = [order[start : start + batch_size] for start in range(0, count, batch_size)]
    assert mean_spread(sampler.batches(0)) < 0.25 * mean_spread(mixed)


@pytest.mark.parametrize(("drop_last", "num_replicas"), [(True, 1), (True, 2), (False, 3)])
def test_what_is_left_out_does_not_depend_on_its_length(drop_last: bool, num_replicas: int) -> None:
    count, num_epochs = 47, 2000
    sampler = sampler_of(count, 8 // num_replicas, drop_last=drop_last, num_replicas=num_replicas)
    sampler.lengths = [64 * index for index in range(count)]  # all are told apart when sorting
    ranks = [copy.copy(sampler) for _ in range(num_replicas)]
    for rank, share in enumerate(ranks):
        share.rank = rank
    left_out = [0] * count
    for epoch in range(num_epochs):
        served = {i for share in ranks for batch in share.batches(epoch) for i in batch}
        for index in set(range(count)) - served:
            left_out[index] += 1
    share = sum(left_out) / count / num_epochs
    assert 0 < share < 0.2
    # The chance of any sample beyond five standard deviations is below 1e-4.
    spread = 5 * (num_epochs * share * (1 - share)) ** 0.5
    assert all(abs(times - share * num_epochs) < spread for times in left_out)


def test_short_and_long_batches_come_in_a_mixed_order() -> None:
    sampler = sampler_of(640, 8)
    means = [sum(sampler.lengths[i] for i in batch) / len(batch) for batch in sampler.batches(0)]
    rising = sum(first < second for first, second in pairwise(means))
    # Sorted pools one after the other would rise 7 times out of 8.
    assert 0.35 < rising / (len(means) - 1) < 0.65


# Resuming ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_batches_done", [0, 1, 3, 6, 7, 8, 13, 14, 20])
@pytest.mark.parametrize("drop_last", [True, False])
def test_a_resumed_loader_goes_on_with_the_same_batches(
    num_batches_done: int, drop_last: bool
) -> None:
    num_epochs = 4
    count = 22 if drop_last else 20  # seven batches an epoch, either way
    loader = loader_of(count, 3, drop_last=drop_last)
    batches, states = [], [loader.state_dict()]
    for _ in range(num_epochs):
        for batch in loader:
            batches.append(batch)
            states.append(loader.state_dict())
    assert len(batches) == num_epochs * 7
    assert batches[:7] != batches[7:14]  # epochs differ

    resumed = loader_of(count, 3, drop_last=drop_last)
    resumed.load_state_dict(states[num_batches_done])
    rest: list[list[int]] = []
    while len(rest) < len(batches) - num_batches_done:
        rest += list(resumed)
        assert len(resumed) == 7  # the whole epoch, also in the middle of one
    assert rest == batches[num_batches_done:]


def test_the_first_epochs_are_those_of_the_sampler() -> None:
    loader = loader_of(20, 3)
    for epoch in range(3):
        assert list(loader) == sampler_of(20, 3).batches(epoch)


def test_the_state_counts_what_was_handed_out() -> None:
    loader = loader_of(20, 3)

    def place() -> dict:
        return {name: loader.state_dict()[name] for name in ("epoch", "offset", "seed")}

    assert place() == {"epoch": 0, "offset": 0, "seed": 5}
    iterator = iter(loader)
    next(iterator), next(iterator)
    assert place() == {"epoch": 0, "offset": 2, "seed": 5}
    list(iterator)
    assert place() == {"epoch": 0, "offset": 7, "seed": 5}
    next(iter(loader))
    assert place() == {"epoch": 1, "offset": 1, "seed": 5}


class Reads(Numbers):
    """Keeps what was read."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.read: list[int] = []

    def __getitem__(self, index: int) -> int:
        self.read.append(index)
        return index


def test_the_batch_after_the_next_is_told_and_read_once() -> None:
    """Across epochs and after a resume; the place in the data stays where it is."""
    numbers = Reads(10)
    loader, resumed = (
        ResumableLoader(numbers, sampler_of(10, 4), collate_fn=torch.tensor) for _ in range(2)
    )
    told, came = [], []
    for _ in range(2):
        for batch in loader:
            came.append(batch.tolist())
            place = loader.state_dict()
            told.append(loader.following().tolist())
            assert loader.state_dict() == place
    assert told[:-1] == came[1:] and len(came) == 6
    assert len(numbers.read) == 20 + len(told[-1])
    resumed.load_state_dict(place)
    assert resumed.following().tolist() == told[-1] == next(iter(resumed)).tolist()


def test_batches_read_ahead_by_workers_are_not_counted() -> None:
    sampler = sampler_of(20, 3)
    loader = ResumableLoader(
        Numbers(20), sampler, collate_fn=list, num_workers=1, prefetch_factor=4
    )
    iterator = iter(loader)
    wanted = sampler.batches(0)
    assert [next(iterator), next(iterator)] == wanted[:2]
    assert loader.state_dict()["offset"] == 2
    assert list(iterator) == wanted[2:]


def names_of(count: int) -> list[str]:
    return [f"own/{index}.mp4" for index in range(count)]


RESUMED = {"names": names_of(100), "drop_last": True}


@pytest.mark.parametrize("rank", [0, 1])
def test_another_number_of_ranks_with_the_same_batch_shows_every_sample_once(rank: int) -> None:
    first = loader_of(100, 4, **RESUMED)
    iterator = iter(first)
    seen = [index for _ in range(13) for index in next(iterator)]
    second = loader_of(100, 2, num_replicas=2, rank=rank, **RESUMED)
    second.load_state_dict(first.state_dict())
    rest = [batch[rank::2] for batch in first._position.sampler.batches(0)[13:]]
    assert list(second) == rest
    assert not set(seen) & {index for batch in rest for index in batch}


@pytest.mark.parametrize(
    ("count", "batch_size", "changes", "message"),
    [
        (100, 8, {}, r"data\.loader\.batch_size is 8 on each of 1 .* trained with 4 samples"),
        (100, 4, {"num_replicas": 2}, r"batch_size is 4 on each of 2 ranks.* with 4 samples"),
        (99, 4, {"names": names_of(99)}, r"data\.train has other samples.*: 99, and 100 there"),
        (100, 4, {"names": names_of(101)[1:]}, r"data\.train has other samples"),
        (100, 4, {"names": names_of(100)[::-1]}, r"data\.train has other samples"),
        (100, 4, {"seed": 6}, r"data\.loader\.seed is 6, .* trained with 5"),
    ],
)
def test_a_place_in_other_batches_is_refused(
    count: int, batch_size: int, changes: dict, message: str
) -> None:
    first = loader_of(100, 4, **RESUMED)
    next(iter(first))
    with pytest.raises(UsageError, match=message):
        loader_of(count, batch_size, **{**RESUMED, **changes}).load_state_dict(first.state_dict())


def test_texts_of_another_length_are_other_samples() -> None:
    sampler = sampler_of(100, 4, **RESUMED)
    other = sampler_of(100, 4, **RESUMED)
    assert sampler.fingerprint() == other.fingerprint()
    other.lengths[7] += 1  # the order of an epoch follows from the lengths
    assert sampler.fingerprint() != other.fingerprint()


def test_a_place_of_an_earlier_release_is_taken_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loader = loader_of(100, 4, **RESUMED)
    loader.load_state_dict({"epoch": 1, "offset": 3, "seed": 5})
    assert list(loader) == loader._position.sampler.batches(1)[3:]
    assert "does not say on which samples" in caplog.text


def test_every_rank_resumes_its_own_share() -> None:
    for rank in range(2):
        first = loader_of(40, 3, num_replicas=2, rank=rank)
        iterator = iter(first)
        head = [next(iterator) for _ in range(2)]
        second = loader_of(40, 3, num_replicas=2, rank=rank)
        second.load_state_dict(first.state_dict())
        whole = sampler_of(40, 3, num_replicas=2, rank=rank)
        assert head + list(second) == whole.batches(0)
        assert list(second) == whole.batches(1)


@pytest.mark.parametrize(("count", "num_ranks"), [(0, 2), (1, 3), (6, 2), (7, 3), (5, 1)])
def test_ranks_evaluate_as_many_samples_and_all_of_them(count: int, num_ranks: int) -> None:
    dealt_out = [dealt(count, rank, num_ranks) for rank in range(num_ranks)]
    assert {len(indices) for indices in dealt_out} == {-(-count // num_ranks)}
    in_turn = [index for indices in zip(*dealt_out, strict=True) for index in indices]
    assert in_turn[:count] == list(range(count))
    assert all(index == count - 1 for index in in_turn[count:])
